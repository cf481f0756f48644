package kubernetes

import "testing"

func TestParseRef(t *testing.T) {
	for in, want := range map[string]string{
		"shop/checkout-7d9f":             "shop/checkout-7d9f",
		"shop/checkout-7d9f/app":         "shop/checkout-7d9f/app",
		"shop/deploy/checkout":           "shop/deployment/checkout",
		"shop/Deployment/checkout/app":   "shop/deployment/checkout/app",
		"shop/pod/deployment":            "shop/pod/deployment",
		"shop/pod/checkout":              "shop/checkout",
		"shop/job":                       "shop/pod/job",
		"shop/cj/nightly":                "shop/cronjob/nightly",
		"kube-system/kube-proxy.x/proxy": "kube-system/kube-proxy.x/proxy",
		"shop/po/pod/app":                "shop/pod/pod/app",
	} {
		r, err := ParseRef(in)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if r.String() != want {
			t.Errorf("%s is %s, not %s", in, r, want)
		}
		if again, err := ParseRef(r.String()); err != nil || again.String() != want {
			t.Errorf("%s read again: %s, %v", want, again, err)
		}
	}
	for _, in := range []string{"", "shop", "shop/", "/x", "shop//x", "Shop/x", "shop/X_y", "shop/a/b/c", "shop/deploy/a/b/c", "shop/a/B", "../x", "shop/a\x1b[31m"} {
		if r, err := ParseRef(in); err == nil {
			t.Errorf("%q is taken for %s", in, r)
		}
	}
}

func FuzzParseRef(f *testing.F) {
	for _, s := range []string{"shop/checkout/app", "shop/deploy/checkout/app", "a/b", "//", "shop/pod/pod/pod"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRef(s)
		if err != nil {
			return
		}
		if again, err := ParseRef(r.String()); err != nil || again.String() != r.String() {
			t.Errorf("%q: %s read again is %s, %v", s, r, again, err)
		}
	})
}
