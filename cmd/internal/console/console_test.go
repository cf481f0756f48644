package console

import (
	"strings"
	"testing"
	"time"
)

func TestTable(t *testing.T) {
	var b strings.Builder
	Table(&b, 30, []string{"NAME", "IMAGE"}, [][]string{
		{"a", "gcr.io/very/long/image/name@sha256:0123"},
		{"evil\x1b[2J", "x"},
	})
	want := "NAME         IMAGE\n" +
		"a            gcr.io/very/long…\n" +
		"evil\\x1b[2J  x\n"
	if got := b.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		5 * time.Millisecond: "5 ms", 2900 * time.Millisecond: "2.9 s", 4 * time.Minute: "4 min",
		76 * time.Hour: "3d 4h", 5 * time.Hour: "5h",
	} {
		if got := Duration(d); got != want {
			t.Errorf("Duration(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestPlural(t *testing.T) {
	for _, c := range []struct {
		n    int
		s    string
		want string
	}{{1, "file", "1 file"}, {2, "file", "2 files"}, {3, "process", "3 processes"}, {2, "library", "2 libraries"}, {1234, "key", "1,234 keys"}} {
		if got := Plural(c.n, c.s); got != c.want {
			t.Errorf("Plural(%d, %q) = %q, want %q", c.n, c.s, got, c.want)
		}
	}
}
