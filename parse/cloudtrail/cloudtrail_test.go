package cloudtrail

import (
	"testing"

	"github.com/sherd-forensics/sherd/parse/internal/sampletest"
	"github.com/sherd-forensics/sherd/parse/parsetest"
)

func TestSamples(t *testing.T) {
	sampletest.Run(t, Format, "falco", "tetragon", "tracee", "sysdig", "osquery", "guardduty", "vpcflow", "route53", "gcpaudit", "gcpflow", "azureactivity", "nsgflow")
}

func FuzzRead(f *testing.F) {
	parsetest.Fuzz(f, Format, "testdata/eventbridge.json", "testdata/lines.json", "testdata/lookup-events.json", "testdata/records.json")
}

func BenchmarkRead(b *testing.B) {
	sampletest.Bench(b, Format, "testdata/lines.json")
}
