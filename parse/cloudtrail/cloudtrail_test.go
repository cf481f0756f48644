package cloudtrail

import (
	"testing"

	"github.com/sherd-forensics/sherd/parse/internal/sampletest"
	"github.com/sherd-forensics/sherd/parse/parsetest"
)

func TestSamples(t *testing.T) {
	sampletest.Run(t, Format, "falco", "tetragon", "tracee", "sysdig", "osquery", "guardduty", "vpcflow", "route53", "gcpaudit", "gcpflow", "azureactivity", "nsgflow")
}

// TestClusterAudit: the audit log of a cluster in a cloud's envelope is read as what it holds, by another format.
func TestClusterAudit(t *testing.T) {
	if c := Format.Sniff([]byte(`{"events":[{"timestamp":1795489331000,"message":"{\"kind\":\"Event\",\"apiVersion\":\"audit.k8s.io/v1\",\"level\":\"Metadata\",\"auditID\":\"1\",\"stage\":\"ResponseComplete\",\"verb\":\"get\"}","logStreamName":"kube-apiserver-audit-1"}]}`)); c > 0 {
		t.Errorf("%d sure of a cluster's audit log", c)
	}
}

func FuzzRead(f *testing.F) {
	parsetest.Fuzz(f, Format, "testdata/eventbridge.json", "testdata/lines.json", "testdata/lookup-events.json", "testdata/records.json")
}

func BenchmarkRead(b *testing.B) {
	sampletest.Bench(b, Format, "testdata/lines.json")
}
