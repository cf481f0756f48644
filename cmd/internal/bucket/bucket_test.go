package bucket

import (
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	for in, want := range map[string]struct {
		p      Place
		folder bool
	}{
		"s3://case7/cart.sherd":  {Place{"case7", "cart.sherd"}, false},
		"s3://case7/shop/a/":     {Place{"case7", "shop/a/"}, true},
		"s3://case7":             {Place{"case7", ""}, true},
		"s3://case7/a?b#c d/e é": {Place{"case7", "a?b#c d/e é"}, false},
	} {
		if p, err := Parse(in); err != nil || p != want.p || p.Folder() != want.folder {
			t.Errorf("%s: %+v, %v", in, p, err)
		}
	}
	for _, in := range []string{"", "case7/x", "s3://", "s3:///x", "s3://user:pass@host/x", "https://case7/x", "s3://case7?x/y"} {
		if p, err := Parse(in); err == nil {
			t.Errorf("%q is taken for %+v", in, p)
		}
	}
}

// TestSign: what is signed holds no secret, ends in time, and overwrites nothing.
func TestSign(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "kira")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
	t.Setenv("AWS_REGION", "eu-central-1")
	s, err := Open("https://store.test:9000", nil)
	if err != nil {
		t.Fatal(err)
	}
	url, headers, err := s.Sign(t.Context(), Place{"case7", "a b/c.sherd"}, 35*time.Minute)
	if err != nil || headers["If-None-Match"] != "*" {
		t.Fatalf("%v, %v", headers, err)
	}
	for _, want := range []string{"https://store.test:9000/case7/a%20b/c.sherd?", "X-Amz-Expires=2100", "eu-central-1", "if-none-match"} {
		if !strings.Contains(url, want) {
			t.Errorf("%s lacks %s", url, want)
		}
	}
	if strings.Contains(url, "very-secret") {
		t.Error("the secret goes along")
	}
	for _, bad := range []string{"store.test", "ftp://store.test", "https://store.test/path"} {
		if _, err := Open(bad, nil); err == nil {
			t.Errorf("%s is an object store", bad)
		}
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", t.TempDir()+"/none")
	if _, err := Open("https://store.test", nil); err == nil || !strings.Contains(err.Error(), "AWS_ACCESS_KEY_ID") {
		t.Errorf("nobody's credentials: %v", err)
	}
}
