package azureactivity

import (
	"testing"

	"github.com/sherd-forensics/sherd/parse/internal/sampletest"
	"github.com/sherd-forensics/sherd/parse/parsetest"
)

func TestSamples(t *testing.T) {
	sampletest.Run(t, Format, "falco", "tetragon", "tracee", "sysdig", "osquery", "cloudtrail", "guardduty", "vpcflow", "route53", "gcpaudit", "gcpflow", "nsgflow")
}

func FuzzRead(f *testing.F) {
	parsetest.Fuzz(f, Format, "testdata/PT1H.json", "testdata/list.json", "testdata/records.json")
}

func BenchmarkRead(b *testing.B) {
	sampletest.Bench(b, Format, "testdata/records.json")
}
