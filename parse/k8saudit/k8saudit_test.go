package k8saudit

import (
	"testing"

	"github.com/sherd-forensics/sherd/parse/internal/sampletest"
	"github.com/sherd-forensics/sherd/parse/parsetest"
)

func TestSamples(t *testing.T) {
	sampletest.Run(t, Format, "falco", "tetragon", "tracee", "cloudtrail", "gcpaudit", "azureactivity")
}

func FuzzRead(f *testing.F) {
	parsetest.Fuzz(f, Format, "testdata/audit.log", "testdata/gke.json", "testdata/aks.json", "testdata/eks.json")
}

func BenchmarkRead(b *testing.B) { sampletest.Bench(b, Format, "testdata/audit.log") }
