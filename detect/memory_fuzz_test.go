package detect

import (
	"testing"

	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/verdict"
)

// spaceOver is a process's memory that a fuzzer made: one segment.
func spaceOver(b []byte) (*Facts, *Process) {
	f := &Facts{Files: Files{Classes: map[string][]string{}}}
	f.Read = func(_ string, off int64, n int) []byte {
		if off < 0 || off >= int64(len(b)) {
			return nil
		}
		return b[off:min(int64(len(b)), off+int64(n))]
	}
	f.Cite = func(a string, off, n int64) (verdict.Citation, bool) {
		return verdict.Citation{Artifact: a, Offset: off, Length: n, SHA256: "0"}, true
	}
	p := &Process{Process: record.Process{PID: 1, Dir: "process/1"}, HasMaps: true}
	p.Exe.Origin, p.Exe.Path = record.ExeImage, "/usr/bin/java"
	p.Maps = []Mapping{{Mapping: record.Mapping{Segments: []record.Segment{{Addr: 0x10000, Length: int64(len(b))}}}}}
	return f, p
}

// FuzzMemory reads arbitrary bytes as the memory of Node, Java and CPython.
func FuzzMemory(f *testing.F) {
	f.Add([]byte("\xca\xfe\xba\xbe\x00\x00\x00\x3d\x00\x05\x07\x00\x02\x01\x00\x01x\x07\x00\x04\x01\x00\x10java/lang/Object\x00\x21\x00\x01\x00\x03\x00\x00"))
	f.Add([]byte("\x10\x00\x00\x00PK\x01\x02\x14\x00PK\x05\x06\x00\x00\x00\x00"))
	script := make([]byte, 8*v8Words)
	for i, b := range []byte{1, 1, 1} {
		script[8*i], script[8*i+2] = b, 1
	}
	script[68] = 1
	f.Add(script)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<16 {
			return
		}
		facts, p := spaceOver(b)
		a := Answer{Rule: &Rule{ID: "x", Severity: verdict.High}}
		s := facts.spaceOf(p)
		if s == nil {
			return
		}
		facts.fileless(&a, p, s)
		s.v8Scripts()
		s.evaluatedPythons()
		text := v8Text{s: s, left: 4096}
		for addr := uint64(0x10001); addr < 0x10000+uint64(len(b)); addr += 16 {
			if got := text.read(addr, 0); len(got) > maxSource*4 {
				t.Fatalf("%d bytes of text from %d of memory", len(got), len(b))
			}
		}
		for _, h := range a.Hits {
			if len(h.Citations) == 0 {
				t.Fatalf("no citation: %+v", h)
			}
		}
	})
}

// FuzzClass reads arbitrary bytes as a class file.
func FuzzClass(f *testing.F) {
	f.Add([]byte("\xca\xfe\xba\xbe\x00\x00\x00\x3d\x00\x05\x07\x00\x02\x01\x00\x01x\x07\x00\x04\x01\x00\x10java/lang/Object\x00\x21\x00\x01\x00\x03\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseClass(b)
		if err == nil && (c.name == "" || c.size > len(b)) {
			t.Fatalf("%+v of %d bytes", c, len(b))
		}
		if err == nil {
			c.starts()
			c.serves()
		}
	})
}

// FuzzAgent reads arbitrary bytes as an archive.
func FuzzAgent(f *testing.F) {
	f.Add([]byte("PK\x03\x04"))
	f.Fuzz(func(_ *testing.T, b []byte) { agentClass(b); madeForJava(b) })
}
