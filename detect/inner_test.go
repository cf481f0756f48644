package detect_test

import (
	"encoding/binary"
	"testing"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/detect/detecttest"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/verdict"
)

// header is one that a loader would take: 64 bits, x86-64, one segment.
func header() []byte {
	b := make([]byte, 4096)
	copy(b, "\x7fELF\x02\x01\x01")
	le := binary.LittleEndian
	le.PutUint16(b[16:], 3)
	le.PutUint16(b[18:], 62)
	le.PutUint64(b[32:], 64)
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], 1)
	le.PutUint32(b[64:], 1)
	le.PutUint32(b[68:], 5)
	le.PutUint64(b[64+32:], 4096)
	le.PutUint64(b[64+40:], 4096)
	return b
}

// TestProgramInsideExecutableMemory: a loader's own pages come first, then the program.
func TestProgramInsideExecutableMemory(t *testing.T) {
	scene := func(perms string, exe string, content []byte) detect.Answer {
		s := detecttest.Busy()
		if exe != "" {
			s.ImageFile(exe, elf+"other", 0o755)
			s.Process(4010, 10, 4001, exe, record.ExeImage, detecttest.Start)
		}
		pid := s.Processes[len(s.Processes)-1].PID
		s.Cores[pid] = content
		s.Maps[pid] = append(s.Maps[pid], record.Mapping{Start: 0x7f0000000000, End: 0x7f0000000000 + uint64(len(content)), Perms: perms,
			Segments: []record.Segment{{Addr: 0x7f0000000000, Length: int64(len(content))}}})
		return run(t, s)["memory-program-in-anonymous"]
	}
	behind := append(make([]byte, 3*4096), header()...)
	a := scene("rwxp", "", behind)
	if len(a.Hits) != 1 || a.Hits[0].Severity != verdict.High || a.Hits[0].Citations[1].Offset != 3*4096 {
		t.Errorf("%+v", a.Hits)
	}
	forged := append(make([]byte, 4096), "\x7fELF\x02\x01\x01\x00 and nothing that could be loaded"...)
	forged = append(forged, make([]byte, 8192)...)
	for name, a := range map[string]detect.Answer{
		"a heap": scene("rw-p", "", behind), "a translator": scene("rwxp", "/usr/bin/node", behind), "chance": scene("rwxp", "", forged), "an odd place": scene("rwxp", "", append(make([]byte, 100), header()...)),
	} {
		if len(a.Hits) > 0 {
			t.Errorf("%s: %+v", name, a.Hits)
		}
	}
	translated := header()
	translated[7] = 200
	if a := scene("r-xp", "", translated); len(a.Hits) != 1 || a.Hits[0].Severity != verdict.Low {
		t.Errorf("Wasmtime: %+v", a.Hits)
	}
}
