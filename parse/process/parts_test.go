package process

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/sherd-forensics/sherd/evidence/record"
)

func TestThreadsAndCode(t *testing.T) {
	sum := strings.Repeat("ab", 32)
	p := seal(t, map[string][]byte{
		"process/7/threads.jsonl": []byte(`{"tid":7,"comm":"a\\x1b","state":"S","start_ticks":1,"start_time":5,"stat":"7 (a) S\\x0a"}` + "\n" + `{"tid":0}` + "\n" + `[]` + "\n"),
		"process/7/mapped.jsonl": []byte(`{"start":4096,"end":8192,"path":"/lib/x.so","origin":"deleted","deleted":true,"sha256":"` + sum + `"}` + "\n" +
			`{"start":8192,"end":4096,"path":"/x","origin":"drift"}` + "\n" + `{"start":1,"end":2,"origin":"?"}` + "\n" + `{"start":1,"end":2,"origin":"drift","sha256":"x"}` + "\n"),
	})
	var good, bad int
	for th, err := range Threads(p, 7) {
		var le *LineError
		switch {
		case err == nil:
			good++
			if th.Comm != "a\x1b" || th.Stat != "7 (a) S\n" || th.Cite.Artifact != "process/7/threads.jsonl" || th.Cite.Length == 0 {
				t.Errorf("thread %+v", th)
			}
		case errors.As(err, &le):
			bad++
		default:
			t.Error(err)
		}
	}
	for m, err := range Code(p, 7) {
		if err != nil {
			bad++
			continue
		}
		good++
		if m.Path != "/lib/x.so" || !m.Deleted || m.SHA256 != sum {
			t.Errorf("mapped %+v", m)
		}
	}
	if good != 2 || bad != 5 {
		t.Errorf("%d rows, %d bad lines", good, bad)
	}
	for th, err := range Threads(p, 8) {
		t.Errorf("a process without threads has %+v, %v", th, err)
	}
}

func tree(nodes []*Node) string {
	var b strings.Builder
	for _, n := range nodes {
		fmt.Fprintf(&b, "%d", n.PID)
		if len(n.Children) > 0 {
			b.WriteString("(" + tree(n.Children) + ")")
		}
		b.WriteByte(' ')
	}
	return strings.TrimSpace(b.String())
}

func rowsOf(parents ...[2]int) []Row {
	var out []Row
	for _, p := range parents {
		out = append(out, Row{Process: record.Process{PID: p[0], PPID: p[1]}})
	}
	return out
}

func TestTree(t *testing.T) {
	for want, rows := range map[string][]Row{
		"":                 nil,
		"10(11(13) 12) 20": rowsOf([2]int{12, 10}, [2]int{20, 3}, [2]int{13, 11}, [2]int{10, 1}, [2]int{11, 10}),
		"5":                rowsOf([2]int{5, 5}),
		"4(6(5))":          rowsOf([2]int{4, 5}, [2]int{5, 6}, [2]int{6, 4}),
		"2 4(6(5(9)))":     rowsOf([2]int{9, 5}, [2]int{4, 5}, [2]int{5, 6}, [2]int{6, 4}, [2]int{2, 0}),
		"7 7(8)":           rowsOf([2]int{7, 1}, [2]int{7, 1}, [2]int{8, 7}),
	} {
		if got := tree(Tree(rows)); got != want {
			t.Errorf("tree %q, want %q", got, want)
		}
	}
}

// Whatever the rows say, each is in the tree once.
func TestTreeOfAnything(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var rows []Row
		for range r.IntN(30) {
			rows = append(rows, rowsOf([2]int{1 + r.IntN(12), r.IntN(13)})...)
		}
		seen := map[*Node]bool{}
		var walk func([]*Node)
		walk = func(ns []*Node) {
			for _, n := range ns {
				if seen[n] {
					t.Fatalf("process %d is in the tree twice", n.PID)
				}
				seen[n] = true
				walk(n.Children)
			}
		}
		walk(Tree(rows))
		if len(seen) != len(rows) {
			t.Fatalf("%d of %d rows are in the tree: %+v", len(seen), len(rows), rows)
		}
	}
}

func FuzzParts(f *testing.F) {
	f.Add([]byte(`{"tid":7,"comm":"a","state":"S","start_ticks":1,"start_time":5}`))
	f.Add([]byte(`{"start":4096,"end":8192,"path":"/lib/x.so","origin":"deleted"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if th, err := parseThread(b); err == nil && th.TID <= 0 {
			t.Fatal("a thread without a number")
		}
		if m, err := parseMapped(b); err == nil && (m.Start >= m.End || !origins[m.Origin]) {
			t.Fatalf("%+v", m)
		}
	})
}
