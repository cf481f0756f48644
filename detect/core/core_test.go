package core_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/sherd-forensics/sherd/detect/core"
	"github.com/sherd-forensics/sherd/detect/detecttest"
	"github.com/sherd-forensics/sherd/evidence/record"
)

func open(t *testing.T, content []byte, maps []record.Mapping) *core.Image {
	t.Helper()
	s := detecttest.Busy()
	s.Cores[4001] = content
	m, err := core.Open(s.Write(t), "process/4001", maps)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestRead(t *testing.T) {
	content := []byte("0123456789abcdefghij")
	m := open(t, content, []record.Mapping{
		{Start: 0x2000, Segments: []record.Segment{{Addr: 0x2000, Length: 5, CoreOffset: 10}, {Addr: 0x2005, Length: 5, CoreOffset: 15}}},
		{Start: 0x1ffc, Segments: []record.Segment{{Addr: 0x1ffc, Length: 4, CoreOffset: 0}}},
	})
	for _, c := range []struct {
		addr uint64
		n    int
		want string
	}{{0x1ffc, 8, "0123abcd"}, {0x2003, 4, "defg"}, {0x2009, 9, "j"}, {0x3000, 1, ""}, {0x1000, 1, ""}} {
		if b, err := m.Read(c.addr, c.n); err != nil || string(b) != c.want {
			t.Errorf("%#x: %q, %v; want %q", c.addr, b, err, c.want)
		}
	}
	if len(m.Runs) != 2 || m.Bytes != 14 {
		t.Errorf("%+v, %d bytes", m.Runs, m.Bytes)
	}
}

// TestForged has segments that lie beyond the core, overlap, and are negative.
func TestForged(t *testing.T) {
	maps := []record.Mapping{{Segments: []record.Segment{{Addr: 1, Length: 1 << 60, CoreOffset: 4}, {Addr: 5, Length: -1}, {Addr: 7, Length: 9, CoreOffset: -1}, {Addr: 9, Length: 9, CoreOffset: 1 << 60}}}}
	for range 1000 {
		maps[0].Segments = append(maps[0].Segments, record.Segment{Addr: 100, Length: 20, CoreOffset: 0})
	}
	m := open(t, make([]byte, 20), maps)
	if m.Bytes > 40 || len(m.Runs) > 3 {
		t.Errorf("%d bytes in %d runs", m.Bytes, len(m.Runs))
	}
	if _, err := core.Open(detecttest.Busy().Write(t), "process/4001", nil); !errors.Is(err, core.ErrNone) {
		t.Errorf("a core that is not there: %v", err)
	}
}

func TestScan(t *testing.T) {
	content := make([]byte, 5*core.WindowSize/2)
	for i := 0; i < len(content); i += 1000 {
		copy(content[i:], fmt.Sprintf("<%07d>", i))
	}
	m := core.File("x", bytes.NewReader(content), int64(len(content)))
	next, last := 0, int64(0)
	err := core.Scan(context.Background(), m, func(w core.Window) []int {
		var out []int
		for i := w.From; i < w.To; i++ {
			if w.Bytes[i] == '<' {
				var n int
				if _, err := fmt.Sscanf(string(w.Bytes[i:i+9]), "<%07d>", &n); err != nil || int64(n) != w.Offset+int64(i) || uint64(n) != w.Addr+uint64(i) {
					t.Errorf("at %d of the window at %d: %v", i, w.Offset, err)
				}
				out = append(out, n)
			}
		}
		return out
	}, func(found []int) bool {
		for _, n := range found {
			if n != next {
				t.Fatalf("%d comes where %d is due", n, next)
			}
			next += 1000
		}
		return true
	}, func(n int64) { last = n })
	if err != nil || next < len(content) || last != int64(len(content)) {
		t.Errorf("%v, up to %d, %d bytes", err, next, last)
	}
	seen := 0
	if err := core.Scan(context.Background(), m, func(core.Window) int { return 1 }, func(int) bool { seen++; return false }, nil); err != nil || seen != 1 {
		t.Errorf("stopping: %v after %d", err, seen)
	}
}

type broken struct{}

func (broken) ReadAt([]byte, int64) (int, error) { return 0, errors.New("the disk is gone") }

func TestScanFails(t *testing.T) {
	err := core.Scan(context.Background(), core.File("x", broken{}, 10<<20), func(core.Window) int { return 1 }, func(int) bool { t.Error("taken"); return true }, nil)
	if err == nil {
		t.Error("no error")
	}
}
