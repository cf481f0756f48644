package detect_test

import (
	"encoding/binary"
	"testing"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/detect/detecttest"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/verdict"
)

// cpython is a heap of CPython's. Texts of versions before 3.12 have a header of 48 bytes, later ones of 40.
type cpython struct {
	heap
	str  uint64
	head int
}

func newCPython(head int) *cpython {
	h := &cpython{head: head}
	h.str = h.words(1, 0, 0, 0)
	h.module("/app/app.py", "do_GET", "subprocess", "headers") // the application's own
	return h
}

func (h *cpython) text(s string) uint64 {
	b := make([]byte, h.head)
	binary.LittleEndian.PutUint64(b, 3)
	binary.LittleEndian.PutUint64(b[8:], h.str)
	binary.LittleEndian.PutUint64(b[16:], uint64(len(s)))
	return h.put(append(append(b, s...), 0))
}

func (h *cpython) tuple(names ...string) uint64 {
	w := []uint64{1, h.str + 8, uint64(len(names))}
	for _, n := range names {
		w = append(w, h.text(n))
	}
	return h.words(w...)
}

func (h *cpython) code(file uint64, name string, names ...string) {
	w := make([]uint64, 18)
	w[0], w[1], w[2] = 1, h.str+16, 20
	w[3], w[4], w[14], w[15], w[16] = h.tuple("a constant"), h.tuple(names...), file, h.text(name), h.text(name)
	h.words(w...)
}

func (h *cpython) module(file string, names ...string) { h.code(h.text(file), "f", names...) }

func TestEvaluatedPython(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(h *cpython)
		want verdict.Severity // "" is clean
	}{
		{"a handler that evaluates a header", func(h *cpython) { h.module("<string>", "headers", "get", "exec") }, verdict.High},
		{"in two functions of one text", func(h *cpython) {
			file := h.text("<string>")
			h.code(file, "run", "subprocess", "check_output")
			h.code(file, "do_GET", "headers")
		}, verdict.High},
		{"one that starts a program", func(h *cpython) { h.module("<string>", "os", "system") }, verdict.Medium},
		{"a named tuple", func(h *cpython) { h.module("<string>", "_tuple_new", "_cls") }, ""},
		{"two texts that are harmless by themselves", func(h *cpython) {
			h.module("<string>", "eval")
			h.module("<string>", "headers")
		}, ""},
		{"a text that a client sent", func(h *cpython) { h.text("exec(request.headers['x'])"); h.text("<string>") }, ""},
	} {
		for _, head := range []int{48, 40} {
			t.Run(c.name, func(t *testing.T) {
				s, h := detecttest.Busy(), newCPython(head)
				c.make(h)
				h.put(make([]byte, 8192))
				h.into(s, "/usr/bin/python3.11")
				a := run(t, s)["memory-code-evaluated"]
				if c.want == "" && a.State() != detect.Clean || c.want != "" && (len(a.Hits) != 1 || a.Gravest() != c.want) {
					t.Errorf("is %s %s, want %q: %+v", a.State(), a.Gravest(), c.want, a)
				}
			})
		}
	}
	s, h := detecttest.Busy(), newCPython(48)
	h.module("<string>", "subprocess", "headers")
	h.put(make([]byte, 8192))
	h.into(s, "/usr/bin/python3.11")
	if a := run(t, s, "cores")["memory-code-evaluated"]; a.State() != detect.Blind {
		t.Errorf("without the core it is %s", a.State())
	}
	s.Processes[len(s.Processes)-1].Cmdline = []record.Name{"python3.11", "-u", "-c", "import subprocess"}
	if a := run(t, s)["memory-code-evaluated"]; a.State() != detect.Clean {
		t.Errorf("of an interpreter that was given its code it is %s", a.State())
	}
	s.Processes[len(s.Processes)-1].Cmdline = []record.Name{"python3.11", "/app/app.py", "-c", "shop.ini"}
	if a := run(t, s)["memory-code-evaluated"]; a.State() != detect.Hit {
		t.Errorf("of a program with an option -c of its own it is %s", a.State())
	}
}
