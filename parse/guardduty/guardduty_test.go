package guardduty

import (
	"testing"

	"github.com/sherd-forensics/sherd/parse/internal/sampletest"
	"github.com/sherd-forensics/sherd/parse/parsetest"
)

func TestSamples(t *testing.T) {
	sampletest.Run(t, Format, "falco", "tetragon", "tracee", "sysdig", "osquery", "cloudtrail", "vpcflow", "route53", "gcpaudit", "gcpflow", "azureactivity", "nsgflow")
}

func FuzzRead(f *testing.F) {
	parsetest.Fuzz(f, Format, "testdata/eventbridge.json", "testdata/findings.jsonl", "testdata/get-findings.json")
}

func BenchmarkRead(b *testing.B) {
	sampletest.Bench(b, Format, "testdata/get-findings.json")
}
