package target

import (
	"slices"
	"strings"
	"testing"
)

func TestParseRef(t *testing.T) {
	for _, c := range []struct{ in, scheme, rest, err string }{
		{"docker://checkout", "docker", "checkout", ""},
		{"containerd://k8s.io/abc", "containerd", "k8s.io/abc", ""},
		{"root:///mnt/disk#ID", "root", "/mnt/disk#ID", ""},
		{"checkout", "", "", "is not a target"},
		{"dokcer://x", "", "", "unknown kind of target"},
		{"docker://", "", "", "names no container"},
	} {
		r, err := ParseRef(c.in)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("ParseRef(%q) error %v, want %q", c.in, err, c.err)
			}
			continue
		}
		if err != nil || r.Scheme != c.scheme || r.Rest != c.rest || r.String() != c.in {
			t.Errorf("ParseRef(%q) = %+v, %v", c.in, r, err)
		}
	}
}

func TestNear(t *testing.T) {
	if got := Near("chekout", []string{"payments", "checkout", "db"}); !slices.Equal(got, []string{"checkout"}) {
		t.Errorf("Near = %v", got)
	}
	if got := Near("x", []string{"payments", "db"}); len(got) != 0 {
		t.Errorf("Near = %v", got)
	}
}
