package detect_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/detect/detecttest"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/verdict"
)

func run(t *testing.T, s *detecttest.Scene, without ...string) map[string]detect.Answer {
	t.Helper()
	f, err := detect.Load(context.Background(), s.Write(t, without...))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]detect.Answer{}
	for _, a := range detect.Run(f) {
		out[a.Rule.ID] = a
	}
	return out
}

const (
	elf     = detecttest.ELF
	implant = elf + "implant"
)

var after = detecttest.Attack

// cases has for each rule what makes it hit, the severity of that, and which part's absence blinds it.
var cases = map[string]struct {
	hit      func(s *detecttest.Scene)
	severity verdict.Severity
	blind    string
}{
	"process-foreign-program": {func(s *detecttest.Scene) {
		s.Foreign(4017, 17, 4001, "/memfd:x", record.ExeMemfd, implant, after)
	}, verdict.Critical, "processes"},
	"process-name-lies": {func(s *detecttest.Scene) {
		s.Foreign(4017, 17, 4001, "/usr/lib/conv", record.ExeDrift, implant, after).Comm = "kworker/0:1"
	}, verdict.High, "processes"},
	"process-outside-cgroup": {func(s *detecttest.Scene) {
		s.Process(4017, 17, 1, "/app/server", record.ExeImage, after).Relation = record.InNamespaces
	}, verdict.Medium, "processes"},
	"process-traced": {func(s *detecttest.Scene) {
		s.Process(4017, 17, 4001, "/app/server", record.ExeImage, after)
		s.Processes[0].TracerPID = 4017
	}, verdict.High, "processes"},
	"identity-token-elsewhere": {tokenStolen, verdict.High, "audit"},
	"pod-container-restarts":   {func(s *detecttest.Scene) { s.AsPod(3) }, verdict.Low, "cluster"},
	"sharing-reaches-in":       {writtenInto, verdict.High, "processes"},
	"network-metadata-service": {func(s *detecttest.Scene) { s.Connect(&s.Processes[0], 9, "169.254.169.254", 80, 300, 900) }, verdict.Info, "sockets"},
	"memory-machine-keys":      {machineKey, verdict.Info, "memory"},
	"memory-runtime-order":     {startedContainer, verdict.High, "memory"},
	"process-held-program": {func(s *detecttest.Scene) {
		s.Processes[0].FDs = append(s.Processes[0].FDs, record.FD{N: 9, Target: "/memfd:stage2 (deleted)", Kind: "memfd", Deleted: true, Ino: 77, Magic: []byte(elf), SHA256: detecttest.Hash("stage2")})
	}, verdict.High, "processes"},
	"process-deleted-program-open": {func(s *detecttest.Scene) {
		s.Processes[0].FDs = append(s.Processes[0].FDs, record.FD{N: 9, Target: "/tmp/x (deleted)", Kind: "file", Deleted: true, Ino: 77, Magic: []byte(elf), SHA256: detecttest.Hash("x")})
	}, verdict.High, "processes"},
	"memory-text-changed": {func(s *detecttest.Scene) {
		patch(s, "\xcc\xccpatched\xcc")
	}, verdict.Critical, "memory"},
	"memory-program-in-anonymous": {func(s *detecttest.Scene) {
		s.Cores[4001] = []byte(elf + string(make([]byte, 4088)))
		s.Maps[4001] = append(s.Maps[4001],
			record.Mapping{Start: 0x7f0000000000, End: 0x7f0000001000, Perms: "r--p", Anonymous: 4096, Segments: []record.Segment{{Addr: 0x7f0000000000, Length: 4096}}},
			record.Mapping{Start: 0x7f0000001000, End: 0x7f0000003000, Perms: "r-xp", Anonymous: 8192})
	}, verdict.High, "memory"},
	"memory-executable-anonymous": {func(s *detecttest.Scene) {
		s.Maps[4001] = append(s.Maps[4001], record.Mapping{Start: 0x7f0000000000, End: 0x7f0000001000, Perms: "rwxp", Anonymous: 4096})
	}, verdict.Low, "memory"},
	"memory-library-foreign": {func(s *detecttest.Scene) {
		s.AddFile("/data/cache/x.so", elf+"lib", 0o644, after)
		s.Maps[4001] = append(s.Maps[4001], record.Mapping{Start: 0x7f0000000000, End: 0x7f0000001000, Perms: "r-xp", Inode: 900, Path: "/data/cache/x.so", FileSHA256: detecttest.Hash(elf + "lib")})
	}, verdict.Critical, "memory"},
	"memory-script-evaluated": {func(s *detecttest.Scene) {
		h := newV8()
		h.compiled(h.text(shellText), h.undefined, 0xb)
		h.put(make([]byte, 8192))
		h.into(s, "/usr/bin/node")
	}, verdict.High, "memory"},
	"memory-code-evaluated": {func(s *detecttest.Scene) {
		h := newCPython(48)
		h.module("<string>", "headers", "exec")
		h.put(make([]byte, 8192))
		h.into(s, "/usr/bin/python3.11")
	}, verdict.High, "memory"},
	"memory-class-without-file": {func(s *detecttest.Scene) {
		h := &heap{}
		h.array(memoryShell())
		h.symbol("x/Probe")
		h.put(make([]byte, 8192))
		h.into(s, "/usr/lib/jvm/bin/java")
	}, verdict.High, "memory"},
	"process-agent-foreign": {func(s *detecttest.Scene) {
		(&heap{make([]byte, 8192)}).into(s, "/usr/lib/jvm/bin/java")
		s.AddFile("/tmp/m.jar", agentArchive(agentManifest), 0o644, after)
		openFile(s, record.FD{N: 9, Target: "/tmp/m.jar", Kind: "file"})
	}, verdict.Medium, "inventory"},
	"network-standard-stream": {func(s *detecttest.Scene) {
		p := s.Process(4017, 17, 4001, "/usr/bin/openssl", record.ExeImage, after)
		s.Connect(p, 0, "203.0.113.9", 4444, 10, 20)
	}, verdict.Critical, "sockets"},
	"network-outbound": {func(s *detecttest.Scene) {
		s.Connect(&s.Processes[0], 9, "203.0.113.9", 4444, 10, 20)
	}, verdict.Medium, "target"},
	"file-holds-environment": {func(s *detecttest.Scene) {
		s.MountFile("/dev/shm", "/dev/shm/.env", strings.Join(s.Env[4001], "\x00")+"\x00", 0o600, after)
	}, verdict.High, "environ"},
	"network-own-resolver": {func(s *detecttest.Scene) {
		s.Extra["volumes/etc/resolv.conf"] = "search shop.svc\nnameserver 10.96.0.10\noptions ndots:5\n"
		for _, ip := range []string{"10.96.0.10", "203.0.113.53"} {
			s.Connect(&s.Processes[0], 9, ip, 53, 10, 20)
		}
		for i := range s.Sockets {
			if s.Sockets[i].RemotePort == 53 {
				s.Sockets[i].Protocol = "udp"
			}
		}
	}, verdict.Medium, "sockets"},
	"network-runtime-socket": {func(s *detecttest.Scene) {
		s.Sockets = append(s.Sockets,
			record.Socket{Family: "unix", Protocol: "stream", State: "established", Inode: 9901, PeerInode: 9902, Owners: []record.Owner{{PID: 4001, FD: 12}}},
			record.Socket{Family: "unix", Protocol: "stream", State: "established", Inode: 9902, PeerInode: 9901, Path: "/run/docker.sock"})
	}, verdict.Medium, "sockets"},
	"file-foreign-program":       {func(s *detecttest.Scene) { s.AddFile("/tmp/x", implant, 0o755, after) }, verdict.High, "inventory"},
	"file-program-replaced":      {func(s *detecttest.Scene) { s.Replace("/app/lib/libimg.so", elf+"other", after) }, verdict.High, "inventory"},
	"file-gained-privilege":      {func(s *detecttest.Scene) { s.AddFile("/tmp/x", implant, 0o4755, after) }, verdict.High, "inventory"},
	"file-configuration-changed": {func(s *detecttest.Scene) { s.AddFile("/etc/ld.so.preload", "/tmp/x.so\n", 0o644, after) }, verdict.High, "inventory"},
	"file-program-in-memory-mount": {func(s *detecttest.Scene) {
		s.MountFile("/dev/shm", "/dev/shm/.x", implant, 0o700, after)
	}, verdict.High, "mounts"},
	"file-takes-commands": {func(s *detecttest.Scene) {
		s.AddFile("/app/static/status.jsp", "<%@ page import=\"java.io.*\" %>\n<% Runtime.getRuntime().exec(request.getParameter(\"c\")); %>\n", 0o644, after)
	}, verdict.High, "inventory"},
	"file-locked-many": {func(s *detecttest.Scene) {
		for i := range 12 {
			s.MountFile("/srv", fmt.Sprintf("/srv/invoice-%d.csv.locked", i), fmt.Sprint("x", i), 0o644, after)
		}
		s.MountFile("/srv", "/srv/README-RESTORE.txt", "pay", 0o644, after)
	}, verdict.High, "inventory"},
	"file-steers-node": {func(s *detecttest.Scene) {
		s.Mounts = append(s.Mounts, record.Mounted{Point: "/host", Kind: "host", FSType: "ext4", Root: "/", Writable: true})
		s.MountFile("/host", "/host/etc/cron.d/sync", "* * * * * root /x\n", 0o644, after)
	}, verdict.High, "mounts"},
	"node-kernel-helper": {func(s *detecttest.Scene) {
		s.Container.Rootfs.Upper = "/var/lib/docker/overlay2/0f/diff"
		s.Extra["host/core_pattern"] = "|/var/lib/docker/overlay2/0f/diff/tmp/x %P\n"
	}, verdict.Critical, "host"},
	"file-rights-changed": {func(s *detecttest.Scene) {
		s.Replace("/etc/passwd", "nonroot:x:65532:65532::/home/nonroot:/sbin/nologin\n", after)
		s.Files[len(s.Files)-1].Mode = 0o666
	}, verdict.Low, "inventory"},
	"file-data-changed": {func(*detecttest.Scene) {}, verdict.Info, "inventory"},
	"network-mining-protocol": {func(s *detecttest.Scene) {
		s.Connect(&s.Processes[0], 9, "203.0.113.9", 3333, 10, 20)
		s.Cores[4001] = []byte(`....{"id":1,"method":"mining.subscribe","params":["cpuminer/2.5"]}....{"id":2, "method": "mining.authorize", "params":[]}`)
	}, verdict.High, "memory"},
	"process-tool-turned": {func(s *detecttest.Scene) {
		s.AddFile("/data/cache/e.so", elf+"engine", 0o644, after)
		s.Process(4017, 17, 4001, "/usr/bin/openssl", record.ExeImage, after).Cmdline = []record.Name{"openssl", "rsa", "-engine", "/data/cache/e.so"}
	}, verdict.High, "target"},
	"file-configuration-names-peer": {func(s *detecttest.Scene) {
		s.ImageFile("/app/shop.json", `{"ledger":""}`, 0o644)
		s.Replace("/app/shop.json", `{"ledger":"203.0.113.9:4444"}`, after)
		s.Connect(&s.Processes[0], 9, "203.0.113.9", 4444, 10, 20)
	}, verdict.Medium, "sockets"},
	"file-log-cut": {func(s *detecttest.Scene) {
		s.Extra["process/4001/fd/9"] = logLines(0, 60)
		s.AddFile("/data/access.log", logLines(0, 20)+logLines(30, 50), 0o644, after)
		s.Processes[0].FDs = append(s.Processes[0].FDs, record.FD{N: 9, Target: "/data/access.log (deleted)", Kind: "file", Deleted: true, Ino: 77, Flags: 1, Artifact: "process/4001/fd/9"})
	}, verdict.High, "inventory"},
	"environment-injects-code": {func(s *detecttest.Scene) {
		s.AddFile("/data/cache/x.so", elf+"lib", 0o644, after)
		s.Env[4001] = append(s.Env[4001], "LD_PRELOAD=/data/cache/x.so")
	}, verdict.High, "environ"},
}

// patch overwrites text of the first process.
func patch(s *detecttest.Scene, mem string) {
	file := make([]byte, len(mem))
	for i := range file {
		file[i] = 0x90
	}
	s.Cores[4001] = []byte("headers-" + mem)
	s.Extra["process/4001/file-pages/400000"] = string(file)
	m := &s.Maps[4001][0]
	m.Changed = []record.ChangedText{{Addr: 0x400000, Length: int64(len(mem)), DiffBytes: int64(len(mem)), MemSHA256: detecttest.Hash(mem), FileSHA256: detecttest.Hash(string(file)),
		FileArtifact: "process/4001/file-pages/400000", CoreOffset: 8}}
}

func TestEachRuleHasThreeAnswers(t *testing.T) {
	for _, r := range detect.Rules() {
		c, ok := cases[r.ID]
		if !ok {
			t.Errorf("rule %s has no case", r.ID)
			continue
		}
		t.Run(r.ID, func(t *testing.T) {
			if r.Title == "" || r.Rationale == "" || r.FalseAlarms == "" || len(r.Needs) == 0 || r.Severity.Rank() < 0 {
				t.Error("its description is incomplete")
			}
			s := detecttest.Busy()
			c.hit(s)
			a := run(t, s)[r.ID]
			if a.State() != detect.Hit || a.Gravest() != c.severity {
				t.Errorf("is %s %s, want a hit %s: %+v", a.State(), a.Gravest(), c.severity, a)
			}
			for _, h := range a.Hits {
				if len(h.Citations) == 0 || h.Statement == "" || h.Severity.Rank() > r.Severity.Rank() {
					t.Errorf("hit %+v", h)
				}
			}
			s = detecttest.Busy()
			if r.ID == "file-data-changed" {
				s.Files = slices.DeleteFunc(s.Files, func(f record.File) bool { return f.Tree == record.TreeRoot && f.Mount == "" })
			}
			if r.ID == "network-outbound" {
				s.Sockets = s.Sockets[:2]
			}
			if a := run(t, s)[r.ID]; a.State() != detect.Clean {
				t.Errorf("on the honest scene it is %s: %+v", a.State(), a)
			}
			s = detecttest.Busy()
			c.hit(s)
			if a := run(t, s, c.blind)[r.ID]; a.State() != detect.Blind {
				t.Errorf("without %s it is %s: %+v", c.blind, a.State(), a.Hits)
			}
		})
	}
	if len(cases) != len(detect.Rules()) {
		t.Errorf("%d cases for %d rules", len(cases), len(detect.Rules()))
	}
}

// Runtimes put a copy of themselves into memory. An intruder may use the name; only what can't be had from inside counts.
func TestRuntimesOwnMemfd(t *testing.T) {
	young := detecttest.Capture.Add(-100 * time.Millisecond)
	for _, c := range []struct {
		name string
		make func(s *detecttest.Scene) *record.Process
		want detect.State
	}{
		{"crun's, born outside and young", func(s *detecttest.Scene) *record.Process {
			p := s.Foreign(4500, 30, 3990, "/memfd:crun_cloned:/proc/self/exe", record.ExeMemfd, elf+"crun", young)
			p.Comm = "crun"
			return p
		}, detect.Clean},
		{"born inside", func(s *detecttest.Scene) *record.Process {
			p := s.Foreign(4500, 30, 4001, "/memfd:crun_cloned:/proc/self/exe", record.ExeMemfd, elf+"crun", young)
			p.Comm = "crun"
			return p
		}, detect.Hit},
		{"old", func(s *detecttest.Scene) *record.Process {
			p := s.Foreign(4500, 30, 3990, "/memfd:crun_cloned:/proc/self/exe", record.ExeMemfd, elf+"crun", after)
			p.Comm = "crun"
			return p
		}, detect.Hit},
		{"with a connection", func(s *detecttest.Scene) *record.Process {
			p := s.Foreign(4500, 30, 3990, "/memfd:crun_cloned:/proc/self/exe", record.ExeMemfd, elf+"crun", young)
			p.Comm = "crun"
			s.Connect(p, 3, "203.0.113.9", 4444, 1, 1)
			return p
		}, detect.Hit},
		{"runc's by name, but not built from runc", func(s *detecttest.Scene) *record.Process {
			p := s.Foreign(4500, 30, 3990, "/memfd:runc_cloned:/proc/self/exe", record.ExeMemfd, implant, young)
			p.Comm = "runc:[2:INIT]"
			return p
		}, detect.Hit},
		{"runc's by name, program not kept", func(s *detecttest.Scene) *record.Process {
			p := s.Foreign(4500, 30, 3990, "/memfd:runc_cloned:/proc/self/exe", record.ExeMemfd, implant, young)
			p.Comm = "runc:[2:INIT]"
			p.Exe.Artifact = ""
			return p
		}, detect.Blind},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := detecttest.Busy()
			c.make(s)
			if a := run(t, s)["process-foreign-program"]; a.State() != c.want {
				t.Errorf("is %s, want %s: %+v", a.State(), c.want, a)
			}
		})
	}
}

func TestProbesAreNoPatch(t *testing.T) {
	s := detecttest.Busy()
	patch(s, "\x90\x90\xcc\x90\x90\x90\xcc\x90")
	a := run(t, s)["memory-text-changed"]
	if a.Gravest() != verdict.Low || len(a.Hits) != 1 {
		t.Errorf("single trap bytes are graded %s: %+v", a.Gravest(), a.Hits)
	}
}

func TestAnswersAreInTheSameOrder(t *testing.T) {
	s := detecttest.Busy()
	for i := range 30 {
		s.AddFile(fmt.Sprintf("/tmp/%d", i), fmt.Sprint(implant, i), 0o755, after)
	}
	p := s.Write(t)
	var first string
	for range 5 {
		f, err := detect.Load(context.Background(), p)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, a := range detect.Run(f) {
			for _, h := range a.Hits {
				got += h.Statement + "\n"
			}
		}
		if first == "" {
			first = got
		}
		if got != first {
			t.Fatal("order differs between runs")
		}
	}
}
