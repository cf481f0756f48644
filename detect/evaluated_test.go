package detect_test

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/detect/detecttest"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/verdict"
)

// heap is memory that a test fills by address.
type heap struct{ b []byte }

const heapBase = 0x7f1000000000

// put appends bytes at the next multiple of 16 and gives their address.
func (h *heap) put(b []byte) uint64 {
	for len(h.b)%16 != 0 {
		h.b = append(h.b, 0)
	}
	h.b = append(h.b, b...)
	return heapBase + uint64(len(h.b)-len(b))
}

func (h *heap) words(w ...uint64) uint64 {
	var b []byte
	for _, x := range w {
		b = binary.LittleEndian.AppendUint64(b, x)
	}
	return h.put(b)
}

// into makes the heap the memory of a process of the image's program at a path.
func (h *heap) into(s *detecttest.Scene, exe string) {
	s.ImageFile(exe, elf+exe, 0o755)
	p := s.Process(4100, 40, 4001, exe, record.ExeImage, detecttest.Start)
	// Two segments, so that reading goes over a gap in the core.
	half := int64(len(h.b)) / 2 &^ 4095
	s.Cores[p.PID] = append(slices.Concat(h.b[:half], make([]byte, 4096)), h.b[half:]...)
	s.Maps[p.PID] = append(s.Maps[p.PID], record.Mapping{Start: heapBase, End: heapBase + uint64(len(h.b)), Perms: "rw-p", Segments: []record.Segment{
		{Addr: heapBase, Length: half}, {Addr: heapBase + uint64(half), Length: int64(len(h.b)) - half, CoreOffset: half + 4096},
	}})
}

// v8 is a heap of V8's.
type v8 struct {
	heap
	script, oneByte, cons, undefined uint64
	ids                              uint64
}

func newV8() *v8 {
	h := &v8{}
	class := func(kind uint16) uint64 {
		b := make([]byte, 40)
		binary.LittleEndian.PutUint16(b[12:], kind)
		return h.put(b) + 1
	}
	h.script, h.oneByte, h.cons, h.undefined = class(0xa0), class(0x28), class(0x29), class(0x83)
	for _, name := range []string{"node:fs", "node:http", "node:net", "node:events", "node:url", "node:path", "node:util", "node:os", "node:vm", "node:dns", "node:zlib"} {
		h.compiled(h.text("// "+name), h.text(name), 0xa)
	}
	h.compiled(h.text("const cp = require('child_process'); app.use((req) => cp.execSync(req.query.c))"), h.text("/app/admin.js"), 0xa)
	return h
}

func (h *v8) text(s string) uint64 {
	b := binary.LittleEndian.AppendUint64(nil, h.oneByte)
	b = binary.LittleEndian.AppendUint32(b, 3)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(s)))
	return h.put(append(b, s...)) + 1
}

func (h *v8) compiled(source, name, flags uint64) {
	h.ids++
	h.words(h.script, source, name, 0, 0, 1<<32, 2<<32, h.undefined, h.ids<<32, h.undefined, 0, h.undefined, flags<<32, h.undefined, h.undefined, h.undefined)
}

const shellText = "(function anonymous(require\n) {\nreturn (s.on('request', (req, res) => res.end(eval(req.headers['x-c']))))\n})"

func TestEvaluatedScripts(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(h *v8)
		want verdict.Severity // "" is clean
	}{
		{"a hook that evaluates", func(h *v8) { h.compiled(h.text(shellText), h.undefined, 0xb) }, verdict.High},
		{"in two parts", func(h *v8) {
			a, b := h.text(shellText[:40]), h.text(shellText[40:])
			h.compiled(h.words(h.cons, uint64(len(shellText))<<32|3, a, b)+1, h.undefined, 0xb)
		}, verdict.High},
		{"one that starts a program", func(h *v8) {
			h.compiled(h.text("process.mainModule.require('child_process').execSync('id')"), h.undefined, 0xb)
		}, verdict.Medium},
		{"a text given a name of its own", func(h *v8) {
			h.compiled(h.text("require('child_process').exec(x)"), h.text("evalmachine.<anonymous>"), 0xa)
		}, verdict.Medium},
		{"a template", func(h *v8) {
			h.compiled(h.text("(function anonymous(obj\n) {\nreturn '<p>' + obj.request.url + '</p>'\n})"), h.undefined, 0xb)
		}, ""},
		{"a text that a client sent and nobody compiled", func(h *v8) { h.text(shellText) }, ""},
		{"what an operator typed", func(h *v8) { h.compiled(h.text("require('child_process').execSync('id')"), h.text("REPL4"), 0xa) }, ""},
		{"a module of a bundle", func(h *v8) {
			url := h.text("webpack-internal:///./src/run.js")
			h.ids++
			h.words(h.script, h.text("const cp = require('child_process')"), h.undefined, 0, 0, 1<<32, 2<<32, h.undefined, h.ids<<32, h.undefined, 0, h.undefined, 0xb<<32, url, h.undefined, h.undefined)
		}, verdict.Low},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, h := detecttest.Busy(), newV8()
			c.make(h)
			h.put(make([]byte, 8192))
			h.into(s, "/usr/bin/node")
			a := run(t, s)["memory-script-evaluated"]
			switch {
			case c.want == "" && a.State() != detect.Clean, c.want != "" && (len(a.Hits) != 1 || a.Gravest() != c.want):
				t.Errorf("is %s %s, want %q: %+v", a.State(), a.Gravest(), c.want, a)
			}
			for _, f := range a.Hits {
				if f.PID != 4100 || len(f.Citations) < 2 || !strings.HasSuffix(f.Citations[0].Artifact, "/core") {
					t.Errorf("%+v", f)
				}
			}
		})
	}
	s, h := detecttest.Busy(), newV8()
	h.compiled(h.text(shellText), h.undefined, 0xb)
	h.put(make([]byte, 8192))
	h.into(s, "/usr/bin/node")
	if a := run(t, s, "cores")["memory-script-evaluated"]; a.State() != detect.Blind {
		t.Errorf("without the core it is %s", a.State())
	}
	s = detecttest.Busy()
	(&heap{make([]byte, 16384)}).into(s, "/usr/bin/node")
	if a := run(t, s)["memory-script-evaluated"]; a.State() != detect.Blind {
		t.Errorf("of an engine whose scripts can't be read it is %s", a.State())
	}
}

// classFile makes a class file of a name, a superclass, interfaces and further texts.
func classFile(name, super string, interfaces []string, texts ...string) []byte {
	b := []byte("\xca\xfe\xba\xbe\x00\x00\x00\x3d\x00\x00")
	n := uint16(1)
	text := func(s string) uint16 {
		b = append(binary.BigEndian.AppendUint16(append(b, 1), uint16(len(s))), s...)
		n++
		return n - 1
	}
	class := func(s string) uint16 {
		i := text(s)
		b = binary.BigEndian.AppendUint16(append(b, 7), i)
		n++
		return n - 1
	}
	this, up := class(name), class(super)
	var is []uint16
	for _, i := range interfaces {
		is = append(is, class(i))
	}
	b = append(b, 5, 0, 0, 0, 0, 0, 0, 0, 9) // a long number takes two places
	n += 2
	for _, s := range texts {
		text(s)
	}
	binary.BigEndian.PutUint16(b[8:], n)
	for _, v := range append([]uint16{0x21, this, up, uint16(len(is))}, is...) {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	return append(b, 0, 0, 0, 0, 0, 0)
}

// symbol is a name as HotSpot keeps it.
func (h *heap) symbol(name string) {
	b := binary.LittleEndian.AppendUint32(nil, 0x12340001)
	h.put(append(binary.LittleEndian.AppendUint16(b, uint16(len(name))), name...))
}

func zipped(t *testing.T, names ...string) []byte {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, n := range names {
		f, err := w.Create(n)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// array is an array of bytes of Java's.
func (h *heap) array(b []byte) {
	h.put(slices.Concat(make([]byte, 12), binary.LittleEndian.AppendUint32(nil, uint32(len(b))), b))
}

// opened is the directory of an archive as Java keeps it.
func (h *heap) opened(archive []byte) { h.array(archive[bytes.Index(archive, []byte("PK\x01\x02")):]) }

func memoryShell() []byte {
	return classFile("x/Probe", "java/lang/Object", []string{"javax/servlet/Filter"}, "java/lang/Runtime", "exec")
}

func javaScene(t *testing.T, fill func(h *heap)) *detecttest.Scene {
	s, h := detecttest.Busy(), &heap{}
	h.opened(zipped(t, "META-INF/MANIFEST.MF", "shop/Main.class"))
	fill(h)
	h.put(make([]byte, 8192))
	h.into(s, "/usr/lib/jvm/bin/java")
	return s
}

func TestClassesWithoutFile(t *testing.T) {
	for _, c := range []struct {
		name string
		fill func(h *heap)
		want verdict.Severity
	}{
		{"a filter that runs commands", func(h *heap) { h.array(memoryShell()); h.symbol("x/Probe") }, verdict.High},
		{"one that only starts programs", func(h *heap) {
			h.array(classFile("x/Probe", "java/lang/Object", nil, "java/lang/ProcessBuilder"))
			h.symbol("x/Probe")
		}, verdict.Medium},
		{"sent in an archive, whose directory is no open one's", func(h *heap) {
			h.array(zipped(t, "x/Probe.class"))
			h.array(memoryShell())
			h.symbol("x/Probe")
		}, verdict.High},
		{"by a signature alone", func(h *heap) {
			h.array(classFile("x/Probe", "java/lang/Object", nil, "(Lcom/sun/net/httpserver/HttpExchange;Lorg/springframework/web/Handler;)V", "java/lang/ProcessBuilder"))
			h.symbol("x/Probe")
		}, verdict.High},
		{"in an open archive", func(h *heap) {
			h.opened(zipped(t, "BOOT-INF/classes/x/Probe.class"))
			h.array(memoryShell())
			h.symbol("x/Probe")
		}, ""},
		{"sent, never loaded", func(h *heap) { h.array(memoryShell()) }, ""},
		{"a proxy", func(h *heap) {
			h.array(classFile("x/Probe", "java/lang/reflect/Proxy", []string{"javax/servlet/Filter"}, "invoke"))
			h.symbol("x/Probe")
		}, ""},
		{"Java's own, seen by an agent", func(h *heap) {
			h.array(classFile("java/lang/ProcessImpl", "java/lang/Process", nil, "java/lang/ProcessBuilder"))
			h.symbol("java/lang/ProcessImpl")
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := run(t, javaScene(t, c.fill))["memory-class-without-file"]
			switch {
			case c.want == "" && a.State() != detect.Clean, c.want != "" && (len(a.Hits) != 1 || a.Gravest() != c.want):
				t.Errorf("is %s %s, want %q: %+v", a.State(), a.Gravest(), c.want, a)
			}
		})
	}
	s := javaScene(t, func(h *heap) { h.array(memoryShell()); h.symbol("x/Probe") })
	s.ImageFile("/app/classes/x/Probe.class", string(memoryShell()), 0o644)
	if a := run(t, s)["memory-class-without-file"]; a.State() != detect.Clean {
		t.Errorf("of a class that the image has as a file it is %s", a.State())
	}
	if a := run(t, s, "cores")["memory-class-without-file"]; a.State() != detect.Blind {
		t.Errorf("without the core it is %s", a.State())
	}
}

const agentManifest = "Manifest-Version: 1.0\r\nAgent-Class: x.Agent\r\n"

// agentArchive is an archive with a manifest and nothing else.
func agentArchive(manifest string) string { return stored("META-INF/MANIFEST.MF", manifest) }

func stored(name, content string) string {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	f, err := w.Create(name)
	if err == nil {
		_, err = f.Write([]byte(content))
	}
	if err = errors.Join(err, w.Close()); err != nil {
		panic(err) // a buffer takes everything
	}
	return b.String()
}

func openFile(s *detecttest.Scene, d record.FD) {
	p := &s.Processes[len(s.Processes)-1]
	p.FDs = append(p.FDs, d)
}

func TestForeignAgents(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(s *detecttest.Scene)
		want detect.State
	}{
		{"in the writable layer", func(s *detecttest.Scene) {
			s.AddFile("/tmp/m.jar", agentArchive(agentManifest), 0o644, after)
			openFile(s, record.FD{N: 9, Target: "/tmp/m.jar", Kind: "file"})
		}, detect.Hit},
		{"deleted", func(s *detecttest.Scene) {
			s.Extra["process/4100/fd/9"] = agentArchive(agentManifest)
			openFile(s, record.FD{N: 9, Target: "/tmp/m.jar (deleted)", Kind: "file", Deleted: true, Magic: []byte("PK\x03\x04"), Artifact: "process/4100/fd/9"})
		}, detect.Hit},
		{"the image's", func(s *detecttest.Scene) {
			s.ImageFile("/app/agent.jar", agentArchive(agentManifest), 0o644)
			openFile(s, record.FD{N: 9, Target: "/app/agent.jar", Kind: "file"})
		}, detect.Clean},
		{"an archive that is no agent", func(s *detecttest.Scene) {
			s.AddFile("/tmp/lib.jar", agentArchive("Manifest-Version: 1.0\r\n"), 0o644, after)
			openFile(s, record.FD{N: 9, Target: "/tmp/lib.jar", Kind: "file"})
		}, detect.Clean},
		{"content not kept", func(s *detecttest.Scene) {
			s.AddFile("/tmp/m.jar", agentArchive(agentManifest), 0o644, after).Artifact = ""
			openFile(s, record.FD{N: 9, Target: "/tmp/m.jar", Kind: "file"})
		}, detect.Blind},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := javaScene(t, func(*heap) {})
			c.make(s)
			if a := run(t, s)["process-agent-foreign"]; a.State() != c.want {
				t.Errorf("is %s, want %s: %+v", a.State(), c.want, a)
			}
		})
	}
	// One that was unpacked from an archive which is open.
	agent := agentArchive(agentManifest)
	s := javaScene(t, func(h *heap) { h.opened([]byte(stored("agent.jar", agent))) })
	s.AddFile("/tmp/agent1.jar", agent, 0o644, after)
	openFile(s, record.FD{N: 9, Target: "/tmp/agent1.jar", Kind: "file"})
	if a := run(t, s)["process-agent-foreign"]; a.State() != detect.Clean {
		t.Errorf("of an unpacked agent it is %s: %+v", a.State(), a.Hits)
	}
}
