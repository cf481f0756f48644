package k8saudit

import (
	"slices"
	"strings"
	"testing"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/internal/sampletest"
	"github.com/sherd-forensics/sherd/parse/parsetest"
)

func TestSamples(t *testing.T) {
	sampletest.Run(t, Format, "falco", "tetragon", "tracee", "cloudtrail", "gcpaudit", "azureactivity")
}

// TestPod: a line of a package is about its pod unless it names another one, whose container is not the package's.
func TestPod(t *testing.T) {
	audit := func(rest string) string {
		return `{"kind":"Event","apiVersion":"audit.k8s.io/v1","verb":"get","requestReceivedTimestamp":"2026-11-24T03:00:00Z",` + rest + "}\n"
	}
	const by = `"user":{"username":"system:serviceaccount:shop:cart","extra":{"authentication.kubernetes.io/pod-name":["POD"]}},`
	const secrets = `"objectRef":{"resource":"secrets","namespace":"shop","name":"db"}`
	content := audit(`"user":{"username":"kira"},`+secrets) + audit(strings.Replace(by, "POD", "cart", 1)+secrets) + audit(strings.Replace(by, "POD", "other", 1)+secrets) +
		audit(strings.Replace(by, "POD", "cart", 1)+`"objectRef":{"resource":"pods","namespace":"shop","name":"third"}`)
	in, err := parse.NewInput(strings.NewReader(content), event.Event{Artifact: "a", Parser: "k8saudit", Pod: "cart", Container: "app", ContainerID: "c1"})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	var got []string
	if err := Format.Read(t.Context(), in, func(e *event.Event) error {
		got = append(got, e.Pod+" "+e.ContainerID)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"cart c1", "cart c1", "other ", "third "}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func FuzzRead(f *testing.F) {
	parsetest.Fuzz(f, Format, "testdata/audit.log", "testdata/gke.json", "testdata/aks.json", "testdata/eks.json")
}

func BenchmarkRead(b *testing.B) { sampletest.Bench(b, Format, "testdata/audit.log") }
