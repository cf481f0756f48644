package falco

import (
	"testing"

	"github.com/sherd-forensics/sherd/parse/internal/sampletest"
	"github.com/sherd-forensics/sherd/parse/parsetest"
)

func TestSamples(t *testing.T) {
	sampletest.Run(t, Format, "tetragon", "tracee", "sysdig", "osquery", "cloudtrail", "guardduty", "vpcflow", "route53", "gcpaudit", "gcpflow", "azureactivity", "nsgflow")
}

func FuzzRead(f *testing.F) {
	parsetest.Fuzz(f, Format, "testdata/falco.json")
}

func BenchmarkRead(b *testing.B) {
	sampletest.Bench(b, Format, "testdata/falco.json")
}
