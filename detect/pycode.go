package detect

import (
	"bytes"
	"encoding/binary"
	"maps"
	"slices"
	"strings"

	"github.com/sherd-forensics/sherd/verdict"
)

// evaluatedPython is what one text that CPython compiled with exec, eval or compile names: the names and texts of all code that came of it.
// CPython keeps no source; it keeps of each piece of code its names, its constants, and the name of its file, "<string>" where it had none:
// https://github.com/python/cpython/blob/main/Include/cpython/code.h
type evaluatedPython struct {
	addr  uint64 // of one of its fields
	texts map[string]bool
}

const (
	maxPythonFiles = 10_000 // objects that are the text "<string>"
	maxPythonCode  = 50_000
	// codeBack is how far before its file's name the fields of a piece of code begin, in every version since 3.6.
	codeBack = 160
)

var noFile = []byte("<string>\x00")

// evaluatedPythons finds them; whole is false when not all of the memory was looked at.
func (s *space) evaluatedPythons() (out []evaluatedPython, whole bool) {
	// The text as an object: count of references, type, length, hash, state, and in versions before 3.12 one more word.
	files := map[uint64]uint64{} // address of the object: its type
	lowest, highest := ^uint64(0), uint64(0)
	whole = s.scan(64, func(addr uint64, b []byte) {
		for off := 0; len(files) < maxPythonFiles; {
			i := bytes.Index(b[off:], noFile)
			if i < 0 {
				return
			}
			i += off
			off = i + 1
			for _, head := range []int{40, 48} {
				if i < head || (addr+uint64(i))%8 != 0 {
					continue
				}
				o := b[i-head:]
				if binary.LittleEndian.Uint64(o[16:]) == uint64(len(noFile)-1) && binary.LittleEndian.Uint64(o[8:])%8 == 0 && binary.LittleEndian.Uint64(o[8:]) > 1<<16 {
					a := addr + uint64(i-head)
					files[a] = binary.LittleEndian.Uint64(o[8:])
					lowest, highest = min(lowest, a), max(highest, a)
				}
			}
		}
	})
	if len(files) == 0 {
		return nil, whole
	}
	type use struct{ at, file uint64 }
	var uses []use
	whole = s.scan(16, func(addr uint64, b []byte) {
		for i := int(-addr & 7); i+8 <= len(b); i += 8 {
			w := binary.LittleEndian.Uint64(b[i:])
			if w < lowest || w > highest || len(uses) >= maxPythonCode {
				continue
			}
			if _, ok := files[w]; ok {
				uses = append(uses, use{addr + uint64(i), w})
			}
		}
	}) && whole
	units := map[uint64]*evaluatedPython{}
	for _, u := range uses {
		t := pyText{s, files[u.file]}
		// The name of the code follows that of its file.
		after, _ := s.word(u.at + 8)
		if _, ok := t.text(after); !ok {
			continue
		}
		e := units[u.file]
		if e == nil {
			e = &evaluatedPython{addr: u.at, texts: map[string]bool{}}
			units[u.file] = e
		}
		fields := s.read(u.at-codeBack, codeBack)
		for i := 0; i+8 <= len(fields); i += 8 {
			t.tuple(binary.LittleEndian.Uint64(fields[i:]), e.texts)
		}
	}
	for _, a := range slices.Sorted(maps.Keys(units)) {
		out = append(out, *units[a])
	}
	return out, whole
}

// pyText reads texts of CPython's.
type pyText struct {
	s    *space
	kind uint64 // the type of texts
}

// text reads one that is plain ASCII.
func (t pyText) text(addr uint64) (string, bool) {
	const longest = 4096
	h := t.s.read(addr, 48)
	if addr%8 != 0 || len(h) < 40 || binary.LittleEndian.Uint64(h[8:]) != t.kind {
		return "", false
	}
	n := binary.LittleEndian.Uint64(h[16:])
	if n > longest {
		return "", true
	}
	// Where the content begins depends on the version: it ends with a zero byte.
	for _, head := range []uint64{40, 48} {
		b := t.s.read(addr+head, int(n)+1)
		if len(b) == int(n)+1 && b[n] == 0 && bytes.IndexByte(b[:n], 0) < 0 {
			return string(b[:n]), true
		}
	}
	return "", true
}

// tuple adds the texts of a tuple.
func (t pyText) tuple(addr uint64, into map[string]bool) {
	const most, all = 1000, 20_000
	h := t.s.read(addr, 24)
	if addr%8 != 0 || len(h) < 24 {
		return
	}
	n := binary.LittleEndian.Uint64(h[16:])
	if n == 0 || n > most {
		return
	}
	items := t.s.read(addr+24, int(8*n))
	for i := 0; i+8 <= len(items) && len(into) < all; i += 8 {
		if s, ok := t.text(binary.LittleEndian.Uint64(items[i:])); ok && s != "" {
			into[s] = true
		}
	}
}

// Names by which code in Python starts programs or loads machine code, evaluates further code, and serves requests.
var (
	pyStarts = []string{"system", "popen", "Popen", "subprocess", "check_output", "posix_spawn", "execve", "execv", "memfd_create", "CDLL", "pty"}
	pyRuns   = []string{"exec", "eval", "compile", "__import__", "loads"}
	pyTakes  = []string{"headers", "do_GET", "do_POST", "before_request", "before_request_funcs", "after_request_funcs", "add_url_rule", "wsgi_app", "wfile", "dispatch_request",
		"cookies", "get_json", "url_map", "process_request", "add_middleware", "add_route", "HTTP_COOKIE"}
)

// names gives the first of a list that a text names.
func (e *evaluatedPython) names(list []string) string {
	for _, n := range list {
		if e.texts[n] {
			return n
		}
	}
	return ""
}

// givenCode reports whether an interpreter's own arguments hold the code that it runs.
func givenCode(p *Process) bool {
	for i, a := range p.Cmdline {
		switch {
		case i == 0:
		case a == "-c":
			return true
		case !strings.HasPrefix(string(a), "-"):
			return false // the program's name: what follows is its own
		}
	}
	return false
}

func isPython(p *Process) bool {
	return strings.HasPrefix(exeBase(p), "python") || slices.ContainsFunc(p.Maps, func(m Mapping) bool { return strings.Contains(string(m.Path), "/libpython") })
}

func evaluatedCode(f *Facts, a *Answer) {
	for i := range f.Processes {
		p := &f.Processes[i]
		if !isPython(p) || f.otherRoot(p) || givenCode(p) {
			continue
		}
		s := f.memoryOf(a, p, "which texts")
		if s == nil {
			continue
		}
		all, whole := s.evaluatedPythons()
		if !whole {
			a.blind("which texts "+Describe(p)+" compiled", "its memory is larger than what is looked at")
		}
		for k := range all {
			e := &all[k]
			starts, runs, takes := e.names(pyStarts), e.names(pyRuns), e.names(pyTakes)
			fd := Finding{PID: p.PID, Path: string(p.Exe.Path)}
			fd.Severity = verdict.Medium
			what := ""
			switch {
			case starts != "" && takes != "":
				fd.Severity, what = verdict.High, "takes what a request holds ("+takes+") and starts programs or loads machine code ("+starts+")"
			case runs != "" && takes != "":
				fd.Severity, what = verdict.High, "takes what a request holds ("+takes+") and evaluates further text ("+runs+")"
			case starts != "":
				what = "starts programs or loads machine code (" + starts + ")"
			default:
				continue
			}
			fd.Statement = Describe(p) + " compiled code from a text that came from no file, which " + what
			if fd.Citations = s.cite(e.addr-codeBack, codeBack+16); len(fd.Citations) > 0 {
				a.hit(fd)
			}
		}
	}
}
