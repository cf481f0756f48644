package investigate_test

import (
	"context"
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/detect/detecttest"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/investigate"
	"github.com/sherd-forensics/sherd/target"
	"github.com/sherd-forensics/sherd/verdict"
)

type scene = detecttest.Scene

const (
	elf     = detecttest.ELF
	implant = elf + "implant"
)

var at = detecttest.Attack

// keepMemory gives a process a core, in which an engine of JavaScript would find its own scripts.
func keepMemory(s *scene, pid int) {
	const base, scripts, words = 0x10000000, 16, 16
	b := make([]byte, 8*words*scripts)
	for i := range scripts {
		at := b[8*words*i:]
		for k, w := range []uint64{base + 1, base + 1, base + 1, 0, 0, base + 1, 0, base + 1, uint64(i+1) << 32} {
			binary.LittleEndian.PutUint64(at[8*k:], w)
		}
	}
	s.Cores[pid] = b
	s.Maps[pid] = append(s.Maps[pid], record.Mapping{Start: base, End: base + 4096, Perms: "rw-p", Segments: []record.Segment{{Addr: base, Length: int64(len(b))}}})
}

func judge(t *testing.T, s *scene, without ...string) *investigate.Result {
	t.Helper()
	r, err := investigate.Investigate(context.Background(), s.Write(t, without...), investigate.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// What honest containers do must not be called an attack.
var honest = map[string]func(*scene){
	"busy application": func(*scene) {},
	"rotated logs and temporary files still open": func(s *scene) {
		for i := range 5 {
			s.Processes[0].FDs = append(s.Processes[0].FDs, record.FD{N: 20 + i, Target: "/data/app.log.1 (deleted)", Kind: "file", Deleted: true, Ino: uint64(820 + i), Magic: []byte("2026-11-"), Size: 1 << 20})
		}
	},
	"memory shared through a memfd": func(s *scene) {
		s.Processes[0].FDs = append(s.Processes[0].FDs, record.FD{N: 20, Target: "/memfd:pulse (deleted)", Kind: "memfd", Deleted: true, Ino: 820, Magic: make([]byte, 8)})
		s.Maps[4001] = append(s.Maps[4001], record.Mapping{Start: 0x7f0000000000, End: 0x7f0000100000, Perms: "rw-s", Inode: 820, Path: "/memfd:pulse (deleted)", Deleted: true})
	},
	"Node translating code": func(s *scene) {
		s.ImageFile("/nodejs/bin/node", elf+"node", 0o755)
		s.Process(4010, 10, 4001, "/nodejs/bin/node", record.ExeImage, detecttest.Start.Add(time.Second))
		keepMemory(s, 4010)
		for i := range uint64(8) {
			s.Maps[4010] = append(s.Maps[4010], record.Mapping{Start: 0x7f0000000000 + i<<20, End: 0x7f0000040000 + i<<20, Perms: "rwxp", Anonymous: 0x40000})
		}
	},
	"Java unpacking a library": func(s *scene) {
		s.ImageFile("/usr/lib/jvm/bin/java", elf+"java", 0o755)
		s.Process(4010, 10, 4001, "/usr/lib/jvm/bin/java", record.ExeImage, detecttest.Start.Add(time.Second))
		keepMemory(s, 4010)
		s.Maps[4010] = append(s.Maps[4010],
			record.Mapping{Start: 0x7f0000000000, End: 0x7f0000040000, Perms: "rwxp", Anonymous: 0x40000},
			record.Mapping{Start: 0x7f0001000000, End: 0x7f0001040000, Perms: "r-xp", Inode: 830, Path: "/tmp/libnetty_transport4189.so (deleted)", Deleted: true, FileSHA256: detecttest.Hash("netty")})
	},
	"Python with closures of libffi": func(s *scene) {
		s.ImageFile("/usr/bin/python3.11", elf+"python", 0o755)
		s.ImageFile("/usr/lib/x86_64-linux-gnu/libffi.so.8.1.2", elf+"ffi", 0o644)
		p := s.Process(4010, 10, 4001, "/usr/bin/python3.11", record.ExeImage, detecttest.Start.Add(time.Second))
		keepMemory(s, 4010)
		p.Comm, p.Cmdline = "gunicorn", []record.Name{"/usr/bin/python3", "/app/bin/gunicorn", "app:app"}
		s.Maps[4010] = append(s.Maps[4010],
			record.Mapping{Start: 0x7f0000000000, End: 0x7f0000001000, Perms: "r-xp", Inode: 840, Path: "/usr/lib/x86_64-linux-gnu/libffi.so.8.1.2"},
			record.Mapping{Start: 0x7f0000002000, End: 0x7f0000003000, Perms: "rwxp", Anonymous: 4096})
		s.AddFile("/app/__pycache__/app.cpython-311.pyc", "\xa7\x0d\x0d\x0a", 0o644, detecttest.Start.Add(2*time.Second))
	},
	"the runtime starting a process": func(s *scene) {
		p := s.Foreign(4500, 30, 3990, "/memfd:crun_cloned:/proc/self/exe", record.ExeMemfd, elf+"crun", detecttest.Capture.Add(-50*time.Millisecond))
		p.Comm, p.Cmdline = "crun", []record.Name{"crun", "init"}
	},
	"an init that the runtime mounts": func(s *scene) {
		s.Mounts = append(s.Mounts, record.Mounted{Point: "/sbin/docker-init", FSType: "ext4", Kind: "runtime"})
		s.Process(4002, 2, 3990, "/sbin/docker-init", record.ExeVolume, detecttest.Start)
	},
	"a debug container beside it": func(s *scene) {
		p := s.Process(5000, 40, 4990, "/usr/bin/bash", record.ExeOutside, at)
		p.Relation = record.InNamespaces
		p.Namespaces["mnt"] = 4026599999
		s.Maps[5000] = nil
	},
	"configuration reloaded in place": func(s *scene) {
		s.ImageFile("/app/config.yaml", "a: 1\n", 0o644)
		s.Replace("/app/config.yaml", "a: 2\n", at)
	},
	"users and certificates adjusted at start": func(s *scene) {
		s.Replace("/etc/passwd", "app:x:1000:1000::/:/sbin/nologin\n", detecttest.Start.Add(time.Second))
		s.Replace("/etc/ssl/certs/ca-certificates.crt", "-----BEGIN CERTIFICATE-----\nmore", detecttest.Start.Add(2*time.Second))
	},
	"probes of an observer": func(s *scene) {
		s.Cores[4001] = []byte("\x90\xcc\x90\x90")
		s.Extra["process/4001/file-pages/400000"] = "\x90\x55\x90\x90"
		s.Maps[4001][0].Changed = []record.ChangedText{{Addr: 0x400000, Length: 4, DiffBytes: 1, FileArtifact: "process/4001/file-pages/400000"}}
	},
	"tools copied to a volume before the start": func(s *scene) {
		s.MountFile("/var/lib/shop", "/var/lib/shop/bin/agent", elf+"agent", 0o755, detecttest.Start.Add(-time.Minute))
	},
	"a service that the configuration names": func(s *scene) {
		s.Config = strings.Replace(s.Config, `"PATH=`, `"LEDGER=tcp://ledger:7443","PATH=`, 1)
		s.Connect(&s.Processes[0], 9, "10.0.8.9", 7443, 2048, 20)
	},
	"a log that is copied away and emptied": func(s *scene) {
		s.AddFile("/data/access.log", strings.Repeat("\x00", 900)+"a line\n", 0o644, at)
		s.AddFile("/data/access.log.1.gz", "\x1f\x8b\x08", 0o644, at)
	},
	"cores of a worker that crashed": func(s *scene) {
		s.AddFile("/data/core.31", elf+strings.Repeat("\x00", 8)+"\x04\x00"+strings.Repeat("x", 90), 0o600, at)
	},
	"certificates renewed with the image's openssl": func(s *scene) {
		p := s.Process(4018, 18, 4001, "/usr/bin/openssl", record.ExeImage, detecttest.Capture.Add(-time.Second))
		p.Cmdline = []record.Name{"/usr/bin/openssl", "req", "-x509", "-newkey", "ec", "-keyout", "/tls/tls.key", "-out", "/tls/tls.crt"}
		delete(s.Maps, 4018) // it ended before its memory was read
	},
	"a dead child": func(s *scene) {
		p := s.Process(4090, 90, 4001, "", record.ExeUnknown, at)
		p.State, p.Exe = "Z", record.Exe{Origin: record.ExeUnknown, Error: "no such process"}
		s.Maps[4090], s.Env[4090] = nil, nil
	},
}

func TestHonestContainersAreClean(t *testing.T) {
	for name, change := range honest {
		t.Run(name, func(t *testing.T) {
			s := detecttest.Busy()
			change(s)
			r := judge(t, s)
			if r.Verdict.Verdict != verdict.Clean {
				t.Errorf("judged %s: %+v\n%+v", r.Verdict.Verdict, r.Verdict.Findings, r.Verdict.Gaps)
			}
			if r.Verdict.RootCause != nil || len(r.Verdict.Impact) > 0 || len(r.Verdict.Scope) > 0 {
				t.Errorf("a clean verdict claims %+v", r.Verdict)
			}
		})
	}
}

type attack struct {
	make    func(*scene)
	verdict verdict.Judgement
	rules   []string
	scope   []string // ids
	cause   string   // a word of the root cause, "" for none
}

var attacks = map[string]attack{
	"static program dropped, run, deleted": {func(s *scene) {
		s.Request(at.Add(4*time.Millisecond), "10.0.7.31:40022", "POST", "/avatar?name=..%2F..%2Fusr%2Flib%2Fconv", 201)
		s.Request(at.Add(430*time.Millisecond), "10.0.7.31:40024", "GET", "/convert", 202)
		p := s.Foreign(4017, 17, 4001, "/usr/lib/conv", record.ExeDeleted, implant, at.Add(410*time.Millisecond))
		p.Exe.Btime, p.Exe.Ctime = at.UnixNano(), at.Add(500*time.Millisecond).UnixNano()
		s.Connect(p, 3, "203.0.113.9", 4444, 11469, 3174)
	}, verdict.Compromised, []string{"process-foreign-program", "network-foreign-peer"},
		[]string{"process:/usr/lib/conv#17", "file:/usr/lib/conv", "address:203.0.113.9:4444", "address:10.0.7.31", "credential:DB_PASSWORD", "credential:/var/run/secrets/token/token", "process:/app/server#1"}, "POST /avatar"},
	"run from a memfd": {func(s *scene) {
		s.Request(at.Add(20*time.Millisecond), "10.0.7.31:40024", "GET", "/convert", 202)
		p := s.Foreign(4017, 17, 4001, "/memfd:kworker (deleted)", record.ExeMemfd, implant, at)
		p.Cmdline = []record.Name{"[kworker/0:1]"}
	}, verdict.Compromised, []string{"process-foreign-program", "process-name-lies"}, []string{"process:memfd:kworker#17"}, "GET /convert"},
	"memfd held": {func(s *scene) {
		s.Processes[0].FDs = append(s.Processes[0].FDs, record.FD{N: 9, Target: "/memfd:stage2 (deleted)", Kind: "memfd", Deleted: true, Ino: 77, Magic: []byte(elf), SHA256: detecttest.Hash("stage2")})
	}, verdict.Suspicious, []string{"process-held-program"}, nil, ""},
	"application overwritten": {func(s *scene) {
		s.Request(at.Add(5*time.Millisecond), "10.0.7.31:40022", "POST", "/upload", 200)
		s.Replace("/app/server", elf+"backdoored", at)
	}, verdict.Suspicious, []string{"file-program-replaced"}, []string{"file:/app/server"}, "POST /upload"},
	"own text overwritten": {func(s *scene) {
		s.Cores[4001] = []byte("\xcc\xcchook")
		s.Extra["process/4001/file-pages/400000"] = "\x00\x00\x00\x00\x00\x00"
		s.Maps[4001][0].Changed = []record.ChangedText{{Addr: 0x4ffff0, Length: 6, DiffBytes: 6, FileArtifact: "process/4001/file-pages/400000"}}
	}, verdict.Compromised, []string{"memory-text-changed"}, []string{"process:/app/server#1"}, ""},
	"preload": {func(s *scene) {
		s.AddFile("/etc/ld.so.preload", "/data/cache/x.so\n", 0o644, at)
		s.AddFile("/data/cache/x.so", elf+"hook", 0o755, at)
	}, verdict.Compromised, []string{"file-configuration-changed", "file-foreign-program"}, []string{"file:/etc/ld.so.preload", "file:/data/cache/x.so"}, ""},
	"reverse shell in the image's own tool": {func(s *scene) {
		p := s.Process(4017, 17, 4001, "/usr/bin/openssl", record.ExeImage, at)
		s.Connect(p, 0, "203.0.113.9", 4444, 900, 20)
	}, verdict.Compromised, []string{"network-standard-stream"}, []string{"process:/usr/bin/openssl#17", "address:203.0.113.9:4444"}, ""},
	"library loaded from memory": {func(s *scene) {
		s.Processes[0].FDs = append(s.Processes[0].FDs, record.FD{N: 9, Target: "/memfd:l (deleted)", Kind: "memfd", Deleted: true, Ino: 77, Magic: []byte(elf)})
		s.Maps[4001] = append(s.Maps[4001], record.Mapping{Start: 0x7f0000000000, End: 0x7f0000001000, Perms: "r-xp", Offset: 4096, Inode: 77, Path: "/memfd:l (deleted)", Deleted: true})
	}, verdict.Compromised, []string{"memory-library-foreign"}, nil, ""},
	"staged in shared memory": {func(s *scene) {
		s.MountFile("/dev/shm", "/dev/shm/.stage", implant, 0o755, at)
	}, verdict.Suspicious, []string{"file-program-in-memory-mount"}, []string{"file:/dev/shm/.stage"}, ""},
	"code in the application's own process": {func(s *scene) {
		s.Connect(&s.Processes[0], 9, "203.0.113.9", 4444, 2048, 20)
	}, verdict.Suspicious, []string{"network-outbound"}, []string{"process:/app/server#1", "address:203.0.113.9:4444", "credential:DB_PASSWORD"}, ""},
	"environment staged": {func(s *scene) {
		s.MountFile("/dev/shm", "/dev/shm/.env", strings.Join(s.Env[4001], "\x00")+"\x00", 0o600, at)
	}, verdict.Suspicious, []string{"file-holds-environment"}, []string{"file:/dev/shm/.env"}, ""},
	"setuid": {func(s *scene) {
		s.AddFile("/tmp/su", implant, 0o4755, at)
	}, verdict.Compromised, []string{"file-gained-privilege", "file-foreign-program"}, []string{"file:/tmp/su"}, ""},
	"borrowed runtime's name": {func(s *scene) {
		p := s.Foreign(4017, 17, 4001, "/memfd:runc_cloned:/proc/self/exe (deleted)", record.ExeMemfd, implant, detecttest.Capture.Add(-time.Second))
		p.Comm, p.Cmdline = "runc:[2:INIT]", []record.Name{"runc", "init"}
	}, verdict.Compromised, []string{"process-foreign-program"}, nil, ""},
}

func rank(j verdict.Judgement) int {
	return slices.Index([]verdict.Judgement{verdict.Inconclusive, verdict.Clean, verdict.Suspicious, verdict.Compromised}, j)
}

func TestAttacks(t *testing.T) {
	for name, a := range attacks {
		t.Run(name, func(t *testing.T) {
			s := detecttest.Busy()
			a.make(s)
			r := judge(t, s)
			v := &r.Verdict
			if v.Verdict != a.verdict {
				t.Errorf("judged %s, want %s: %+v", v.Verdict, a.verdict, v.Findings)
			}
			for _, id := range a.rules {
				if !slices.ContainsFunc(v.Findings, func(f verdict.Finding) bool { return f.Rule == id }) {
					t.Errorf("rule %s did not hit", id)
				}
			}
			for _, id := range a.scope {
				if !slices.ContainsFunc(v.Scope, func(e verdict.Entity) bool { return e.ID() == id }) {
					t.Errorf("scope lacks %s: %+v", id, v.Scope)
				}
			}
			switch {
			case a.cause == "" && v.RootCause != nil:
				t.Errorf("claims a root cause: %+v", v.RootCause)
			case a.cause == "" && !slices.ContainsFunc(v.Gaps, func(g verdict.Gap) bool { return g.What == "how they got in" }):
				t.Error("no root cause, and no gap says so")
			case a.cause != "" && (v.RootCause == nil || !strings.Contains(v.RootCause.Statement, a.cause)):
				t.Errorf("root cause %+v, want %q", v.RootCause, a.cause)
			}
			if len(v.Next) == 0 {
				t.Error("no advice")
			}
		})
	}
}

func TestDeadContainerIsInconclusive(t *testing.T) {
	s := detecttest.Busy()
	s.Container.State, s.Container.PID = target.Exited, 0
	s.Processes, s.Sockets, s.Maps, s.Env = nil, nil, nil, nil
	s.Collected["memory"], s.Collected["network"] = "none", "none"
	s.Missed = []record.Miss{{What: "memory", Kind: "memory", Reason: "no process of the container was running", Count: 1}}
	v := judge(t, s).Verdict
	if v.Verdict != verdict.Inconclusive {
		t.Errorf("judged %s", v.Verdict)
	}
	if !slices.ContainsFunc(v.Gaps, func(g verdict.Gap) bool { return strings.Contains(g.Why, "no process") }) {
		t.Errorf("no gap tells why: %+v", v.Gaps)
	}
}

// Several requests at the same moment name no culprit.
func TestSeveralCandidatesAreNoRootCause(t *testing.T) {
	s := detecttest.Busy()
	s.Foreign(4017, 17, 4001, "/memfd:x", record.ExeMemfd, implant, at)
	s.Request(at.Add(10*time.Millisecond), "10.0.7.31:1", "POST", "/a", 200)
	s.Request(at.Add(12*time.Millisecond), "10.0.7.32:1", "POST", "/b", 200)
	v := judge(t, s).Verdict
	if v.RootCause != nil {
		t.Errorf("claims %+v", v.RootCause)
	}
	i := slices.IndexFunc(v.Gaps, func(g verdict.Gap) bool { return g.What == "how they got in" })
	if i < 0 || !strings.Contains(v.Gaps[i].Why, "POST /a") || !strings.Contains(v.Gaps[i].Why, "POST /b") {
		t.Errorf("gaps %+v", v.Gaps)
	}
}

// Requests on a route that is served all day don't stand out; a few that do, of one client, name the client.
func TestOneClientStandsOut(t *testing.T) {
	s := detecttest.Busy()
	s.Foreign(4017, 17, 4001, "/memfd:x", record.ExeMemfd, implant, at)
	s.Request(at.Add(-20*time.Millisecond), "10.0.7.31:1", "POST", "/avatar?name=x", 201)
	s.Request(at.Add(5*time.Millisecond), "10.0.7.31:2", "GET", "/convert", 202)
	for i := range 20 {
		s.Request(at.Add(time.Duration(i)*time.Millisecond), "10.0.7.40:9", "GET", "/?item=3", 200)
	}
	v := judge(t, s).Verdict
	if v.RootCause == nil || !strings.Contains(v.RootCause.Statement, "10.0.7.31") || !strings.Contains(v.RootCause.Statement, "not proven") || v.RootCause.Confidence > 0.6 {
		t.Errorf("root cause %+v, gaps %+v", v.RootCause, v.Gaps)
	}
}

// Without the runtime's times the application's own are used, and the verdict says so.
func TestApplicationsOwnTimes(t *testing.T) {
	s := detecttest.Busy()
	attacks["static program dropped, run, deleted"].make(s)
	s.RawLogs = true
	for i := range s.Logs {
		s.Logs[i].Text = `{"time":"` + s.Logs[i].Time.Format(time.RFC3339Nano) + `",` + s.Logs[i].Text[1:]
	}
	rc := judge(t, s).Verdict.RootCause
	if rc == nil || !strings.Contains(rc.Statement, "POST /avatar") || !strings.Contains(rc.Statement, "application's own") || rc.Confidence > 0.7 {
		t.Errorf("root cause %+v", rc)
	}
}

// A process tree that no kernel would show must not hang the investigation.
func TestForgedTree(t *testing.T) {
	s := detecttest.Busy()
	a, b := 5001, 5002
	s.Process(a, 50, b, "/app/server", record.ExeImage, at)
	s.Process(b, 51, a, "/app/server", record.ExeImage, at)
	r := judge(t, s)
	if len(r.Processes) != 3 {
		t.Errorf("%d processes in the tree", len(r.Processes))
	}
}
