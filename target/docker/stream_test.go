package docker

import (
	"bufio"
	"encoding/binary"
	"strings"
	"testing"
)

// frame is one frame of the API's log stream.
func frame(kind byte, text string) string {
	head := make([]byte, 8)
	head[0] = kind
	binary.BigEndian.PutUint32(head[4:], uint32(len(text)))
	return string(head) + text
}

func TestRelay(t *testing.T) {
	for _, c := range []struct {
		name, in string
		tty      bool
		want     string
		fails    bool
	}{
		{"both streams", frame(1, "2026-01-02T03:04:05Z hello\n") + frame(2, "2026-01-02T03:04:06Z oops\n"), false,
			"2026-01-02T03:04:05Z stdout F hello\n2026-01-02T03:04:06Z stderr F oops\n", false},
		{"a part of a line", frame(1, "2026-01-02T03:04:05Z hel"), false, "2026-01-02T03:04:05Z stdout P hel\n", false},
		{"terminal", "2026-01-02T03:04:05Z hello\r\n", true, "2026-01-02T03:04:05Z stdout F hello\n", false},
		{"cut in a frame", frame(1, "2026-01-02T03:04:05Z hello\n")[:20], false, "", true},
		{"a frame that lies", "\x01\x00\x00\x00\xff\xff\xff\xff", false, "", true},
		{"nothing", "", false, "", false},
	} {
		var b strings.Builder
		err := relay(&b, bufio.NewReader(strings.NewReader(c.in)), c.tty)
		if (err != nil) != c.fails || b.String() != c.want {
			t.Errorf("%s: %q, %v; want %q", c.name, b.String(), err, c.want)
		}
	}
}

func FuzzRelay(f *testing.F) {
	f.Add(frame(1, "2026-01-02T03:04:05Z hello\n"), false)
	f.Add("x y\n", true)
	f.Fuzz(func(t *testing.T, in string, tty bool) {
		var b strings.Builder
		if err := relay(&b, bufio.NewReader(strings.NewReader(in)), tty); err == nil && b.Len() > 32*len(in)+64 {
			t.Fatalf("%d bytes became %d", len(in), b.Len())
		}
	})
}
