package azureactivity

import (
	"testing"

	"github.com/sherd-forensics/sherd/parse/internal/sampletest"
	"github.com/sherd-forensics/sherd/parse/parsetest"
)

func TestSamples(t *testing.T) {
	sampletest.Run(t, Format, "falco", "tetragon", "tracee", "sysdig", "osquery", "cloudtrail", "guardduty", "vpcflow", "route53", "gcpaudit", "gcpflow", "nsgflow")
}

// TestClusterAudit: the audit log of a cluster in a cloud's envelope is read as what it holds, by another format.
func TestClusterAudit(t *testing.T) {
	if c := Format.Sniff([]byte(`{"operationName":"Microsoft.ContainerService/managedClusters/diagnosticLogs/Read","category":"kube-audit","ccpNamespace":"1","resourceId":"/SUBSCRIPTIONS/1/RESOURCEGROUPS/SHOP/PROVIDERS/MICROSOFT.CONTAINERSERVICE/MANAGEDCLUSTERS/PROD","properties":{"log":"{\"kind\":\"Event\",\"apiVersion\":\"audit.k8s.io/v1\"}","stream":"stdout","pod":"kube-apiserver-1"},"time":"2026-11-24T03:02:11Z","correlationId":"1"}`)); c > 0 {
		t.Errorf("%d sure of a cluster's audit log", c)
	}
}

func FuzzRead(f *testing.F) {
	parsetest.Fuzz(f, Format, "testdata/PT1H.json", "testdata/list.json", "testdata/records.json")
}

func BenchmarkRead(b *testing.B) {
	sampletest.Bench(b, Format, "testdata/records.json")
}
