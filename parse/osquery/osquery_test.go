package osquery

import (
	"testing"

	"github.com/sherd-forensics/sherd/parse/internal/sampletest"
	"github.com/sherd-forensics/sherd/parse/parsetest"
)

func TestSamples(t *testing.T) {
	sampletest.Run(t, Format, "falco", "tetragon", "tracee", "sysdig", "cloudtrail", "guardduty", "vpcflow", "route53", "gcpaudit", "gcpflow", "azureactivity", "nsgflow")
}

func FuzzRead(f *testing.F) {
	parsetest.Fuzz(f, Format, "testdata/results.log")
}

func BenchmarkRead(b *testing.B) {
	sampletest.Bench(b, Format, "testdata/results.log")
}
