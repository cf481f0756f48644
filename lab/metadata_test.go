package lab

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// The machine's own network namespace is never entered to change it.
func TestOwnNetworkNamespaceIsRefused(t *testing.T) {
	err := inNetns("/proc/self/ns/net", func() error {
		t.Error("it was entered")
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "own") {
		t.Error(err)
	}
	if err := inNetns("/proc/self/ns/none", func() error { return nil }); err == nil {
		t.Error("a namespace that is not there was entered")
	}
}

func TestMetadataAnswers(t *testing.T) {
	for ask, want := range map[string]string{
		"PUT /latest/api/token":                                         "==",
		"GET /latest/meta-data/iam/security-credentials/":               "shop-node-role",
		"GET /latest/meta-data/iam/security-credentials/shop-node-role": `"AccessKeyId":"ASIA`,
		"GET /latest/meta-data/instance-id":                             "i-",
		"GET /latest/other":                                             "not found",
		"POST /latest/api/token":                                        "not found",
	} {
		method, path, _ := strings.Cut(ask, " ")
		w := httptest.NewRecorder()
		answerMetadata(w, httptest.NewRequest(method, path, http.NoBody))
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %q", ask, w.Body.String())
		}
	}
}
