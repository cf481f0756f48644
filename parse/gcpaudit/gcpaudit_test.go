package gcpaudit

import (
	"testing"

	"github.com/sherd-forensics/sherd/parse/internal/sampletest"
	"github.com/sherd-forensics/sherd/parse/parsetest"
)

func TestSamples(t *testing.T) {
	sampletest.Run(t, Format, "falco", "tetragon", "tracee", "sysdig", "osquery", "cloudtrail", "guardduty", "vpcflow", "route53", "gcpflow", "azureactivity", "nsgflow")
}

// TestClusterAudit: the audit log of a cluster in a cloud's envelope is read as what it holds, by another format.
func TestClusterAudit(t *testing.T) {
	if c := Format.Sniff([]byte(`{"protoPayload":{"@type":"type.googleapis.com/google.cloud.audit.AuditLog","authenticationInfo":{"principalEmail":"system:anonymous"},"serviceName":"k8s.io","methodName":"io.k8s.core.v1.pods.exec.create","resourceName":"core/v1/namespaces/shop/pods/cart/exec"},"insertId":"1","resource":{"type":"k8s_cluster","labels":{"cluster_name":"prod"}},"timestamp":"2026-11-24T03:02:11Z","logName":"projects/shop-prod/logs/cloudaudit.googleapis.com%2Factivity"}`)); c > 0 {
		t.Errorf("%d sure of a cluster's audit log", c)
	}
}

func FuzzRead(f *testing.F) {
	parsetest.Fuzz(f, Format, "testdata/lines.json", "testdata/read.json")
}

func BenchmarkRead(b *testing.B) {
	sampletest.Bench(b, Format, "testdata/read.json")
}
