package behaviour_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/detect/behaviour"
	"github.com/sherd-forensics/sherd/detect/detecttest"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/target"
	"github.com/sherd-forensics/sherd/verdict"
)

const (
	elf     = detecttest.ELF
	implant = elf + "implant"
)

var after = detecttest.Attack

// answers asks the rules of a set of a scene.
func answers(t testing.TB, set *behaviour.Set, s *detecttest.Scene, without ...string) map[string]detect.Answer {
	t.Helper()
	p := s.Write(t, without...)
	f, err := detect.Load(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	list, err := set.Answers(context.Background(), detect.Input{Facts: f, Package: p})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]detect.Answer{}
	for _, a := range list {
		out[a.Rule.ID] = a
	}
	return out
}

type scene = func(s *detecttest.Scene)

func foreign(s *detecttest.Scene) *record.Process {
	return s.Foreign(4017, 17, 4001, "/usr/lib/conv", record.ExeDrift, implant, after)
}

// interpreter adds a process of an interpreter of the image.
func interpreter(s *detecttest.Scene, parent int, exe string, args ...string) *record.Process {
	s.ImageFile(exe, elf+exe, 0o755)
	p := s.Process(4100, 20, parent, exe, record.ExeImage, after)
	p.Cmdline = append([]record.Name{record.Name(exe)}, names(args)...)
	return p
}

func names(args []string) []record.Name {
	out := make([]record.Name, len(args))
	for i, a := range args {
		out[i] = record.Name(a)
	}
	return out
}

func listener(owner, port int, ip string) record.Socket {
	return record.Socket{Family: "inet", Protocol: "tcp", State: "LISTEN", LocalIP: ip, LocalPort: port, Inode: 9900, Owners: []record.Owner{{PID: owner, FD: 9}}}
}

func added(s *detecttest.Scene, path, kind string) *record.File {
	s.Files = append(s.Files, record.File{Tree: record.TreeRoot, Path: record.Name(path), Type: kind, Mode: 0o755, Layer: record.WritableLayer, Btime: after.UnixNano(), Ctime: after.UnixNano(), Mtime: after.UnixNano()})
	return &s.Files[len(s.Files)-1]
}

func syn(s *detecttest.Scene, n int) {
	for i := range n {
		s.Sockets = append(s.Sockets, record.Socket{Family: "inet", Protocol: "tcp", State: "syn_sent", LocalIP: "10.0.7.5", LocalPort: 40000 + i, RemoteIP: fmt.Sprintf("10.0.9.%d", i), RemotePort: 22,
			Inode: uint64(9900 + i), Owners: []record.Owner{{PID: 4001, FD: 20 + i}}})
	}
}

func opens(target string, flags uint64) scene {
	return func(s *detecttest.Scene) {
		s.Processes[0].FDs = append(s.Processes[0].FDs, record.FD{N: 11, Target: record.Name(target), Kind: "file", Flags: flags})
	}
}

// cases has for each rule what makes it hit and how grave that is, honest things that look alike and must not hit, or be graded low, and the part
// without which it is blind.
var cases = map[string]struct {
	hit      scene
	severity verdict.Severity
	clean    []scene
	low      []scene // hits that must not weigh
	blind    string
}{
	"network-foreign-peer": {
		hit:      func(s *detecttest.Scene) { s.Connect(foreign(s), 3, "203.0.113.9", 4444, 10, 20) },
		severity: verdict.High,
		clean: []scene{
			func(s *detecttest.Scene) { s.Connect(&s.Processes[0], 9, "203.0.113.9", 4444, 10, 20) },
			func(s *detecttest.Scene) { s.Connect(foreign(s), 3, "127.0.0.1", 4444, 10, 20) },
		},
		blind: "sockets",
	},
	"network-foreign-listener": {
		hit: func(s *detecttest.Scene) {
			s.Sockets = append(s.Sockets, listener(foreign(s).PID, 31337, "::"))
			s.Sockets[len(s.Sockets)-1].Family = "inet6"
		},
		severity: verdict.High,
		blind:    "sockets",
	},
	"network-unexposed-listener": {
		hit: func(s *detecttest.Scene) {
			s.Sockets = append(s.Sockets, listener(4001, 9229, "0.0.0.0"), listener(4001, 9229, "192.0.2.1"))
		},
		severity: verdict.Info,
		clean: []scene{
			func(s *detecttest.Scene) { s.Sockets = append(s.Sockets, listener(4001, 9229, "127.0.0.1")) },
			func(s *detecttest.Scene) {
				s.Config = `{"config":{"Env":["A=b"]}}`
				s.Sockets = append(s.Sockets, listener(4001, 9229, "0.0.0.0"))
			},
		},
		blind: "sockets",
	},
	"network-raw-socket": {
		hit: func(s *detecttest.Scene) {
			s.Sockets = append(s.Sockets, record.Socket{Family: "packet", Protocol: "raw", Inode: 9900, Owners: []record.Owner{{PID: foreign(s).PID, FD: 3}}})
		},
		severity: verdict.Medium,
		low: []scene{func(s *detecttest.Scene) {
			s.Sockets = append(s.Sockets, record.Socket{Family: "inet", Protocol: "raw", Inode: 9900, Owners: []record.Owner{{PID: 4001, FD: 3}}})
		}},
		blind: "sockets",
	},
	"network-many-attempts": {
		hit: func(s *detecttest.Scene) { syn(s, 30) }, severity: verdict.Low,
		clean: []scene{func(s *detecttest.Scene) { syn(s, 10) }},
		blind: "sockets",
	},
	"process-code-on-command-line": {
		hit: func(s *detecttest.Scene) {
			interpreter(s, 4001, "/usr/bin/python3.11", "-c", "import os;print(os.environ)")
		},
		severity: verdict.Medium,
		clean: []scene{
			func(s *detecttest.Scene) {
				interpreter(s, 4001, "/usr/bin/python3.11", "-c", "from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=5, pipe_handle=7)", "--multiprocessing-fork")
			},
			func(s *detecttest.Scene) {
				interpreter(s, 4001, "/usr/bin/python3.11", "-S", "-c", "from multiprocessing.resource_tracker import main;main(5)")
			},
			func(s *detecttest.Scene) {
				interpreter(s, 4001, "/usr/bin/python3.11", "/usr/bin/gunicorn", "-c", "conf.py", "app:app")
			},
			func(s *detecttest.Scene) { interpreter(s, 4001, "/nodejs/bin/node", "server.js", "-e", "production") },
			func(s *detecttest.Scene) { interpreter(s, 4001, "/usr/bin/python3.11") },
		},
		low: []scene{func(s *detecttest.Scene) { // an operator's, by the runtime
			interpreter(s, 3990, "/usr/bin/python3.11", "-c", "print(1)")
		}},
		blind: "processes",
	},
	"process-script-from-writable-place": {
		hit:      func(s *detecttest.Scene) { interpreter(s, 4001, "/usr/bin/python3.11", "/tmp/x.py", "10.0.0.1") },
		severity: verdict.Medium,
		clean: []scene{
			func(s *detecttest.Scene) { interpreter(s, 4001, "/usr/bin/python3.11", "/app/worker.py", "/tmp/x.py") },
			func(s *detecttest.Scene) { interpreter(s, 4001, "/usr/bin/python3.11", "worker.py").Cwd = "/app" },
			func(s *detecttest.Scene) { interpreter(s, 4001, "/usr/bin/python3.11", "-m", "http.server") },
		},
		low:   []scene{func(s *detecttest.Scene) { interpreter(s, 3990, "/usr/bin/python3.11", "/tmp/x.py") }},
		blind: "processes",
	},
	"process-gained-capability": {
		hit:      func(s *detecttest.Scene) { interpreter(s, 4001, "/usr/bin/python3.11").CapEff = 1 << 21 },
		severity: verdict.Medium,
		clean: []scene{
			func(s *detecttest.Scene) { // all capabilities within a user namespace of its own
				p := interpreter(s, 4001, "/usr/bin/python3.11")
				p.CapEff = 1<<41 - 1
				p.Namespaces["user"], s.Processes[0].Namespaces["user"] = 5, 4
			},
			func(s *detecttest.Scene) { interpreter(s, 3990, "/usr/bin/python3.11").CapEff = 1 << 21 },
			func(s *detecttest.Scene) {
				s.Processes[0].CapEff = 1 << 21
				interpreter(s, 4001, "/usr/bin/python3.11").CapEff = 1 << 21
			},
		},
		low: []scene{func(s *detecttest.Scene) { // the first has it, and a helper between gave it up after it had started this one
			s.Processes[0].CapEff = 1 << 21
			interpreter(s, 4001, "/usr/bin/python3.11")
			s.Process(4200, 22, 4100, "/app/server", record.ExeImage, after).CapEff = 1 << 21
		}},
		blind: "processes",
	},
	"process-own-user-namespace": {
		hit: func(s *detecttest.Scene) {
			interpreter(s, 4001, "/usr/bin/python3.11").Namespaces["user"] = 5
			s.Processes[0].Namespaces["user"] = 4
		},
		severity: verdict.Low,
		blind:    "processes",
	},
	"process-less-confined": {
		hit: func(s *detecttest.Scene) {
			s.Processes[0].Seccomp = 2
			interpreter(s, 3990, "/usr/bin/python3.11")
		},
		severity: verdict.Low,
		clean: []scene{func(s *detecttest.Scene) {
			s.Processes[0].Seccomp, s.Processes[0].NoNewPrivs = 2, true
			p := interpreter(s, 4001, "/usr/bin/python3.11")
			p.Seccomp, p.NoNewPrivs = 2, true
		}},
		blind: "processes",
	},
	"process-writes-memory": {
		hit: opens("/proc/17/mem", 2), severity: verdict.Medium,
		clean: []scene{opens("/proc/17/mem", 0), opens("/proc/17/maps", 2)},
		blind: "processes",
	},
	"process-opens-machine": {
		hit: opens("/dev/sda1", 0), severity: verdict.Medium,
		clean: []scene{opens("/dev/null", 2), opens("/dev/pts/0", 2)},
		low: []scene{func(s *detecttest.Scene) {
			s.Config = `{"config":{"Env":["DISK=/dev/sda1"]}}`
			opens("/dev/sda1", 0)(s)
		}},
		blind: "target",
	},
	"process-busy": {
		hit: func(s *detecttest.Scene) {
			interpreter(s, 4001, "/usr/bin/python3.11").CPUTime = int64(12 * time.Minute)
		},
		severity: verdict.Low,
		clean: []scene{
			func(s *detecttest.Scene) {
				interpreter(s, 4001, "/usr/bin/python3.11").CPUTime = int64(6 * time.Minute)
			},
			func(s *detecttest.Scene) {
				p := interpreter(s, 4001, "/usr/bin/python3.11")
				p.StartTime, p.CPUTime = detecttest.Capture.Add(-time.Minute).UnixNano(), int64(time.Minute)
			},
		},
		blind: "processes",
	},
	"process-without-command-line": {
		hit: func(s *detecttest.Scene) {
			interpreter(s, 4001, "/usr/bin/python3.11").Cmdline = names([]string{"", ""})
		},
		severity: verdict.Low,
		clean: []scene{func(s *detecttest.Scene) {
			p := interpreter(s, 4001, "/usr/bin/python3.11")
			p.Cmdline, p.State, p.Exe = nil, "Z", record.Exe{}
		}},
		blind: "processes",
	},
	"environment-hides-history": {
		hit: func(s *detecttest.Scene) {
			interpreter(s, 4001, "/usr/bin/python3.11")
			s.Env[4100] = append(s.Env[4100], "HISTFILE=/dev/null")
		},
		severity: verdict.Medium,
		clean: []scene{func(s *detecttest.Scene) {
			s.Config = `{"config":{"Env":["HISTFILE=/dev/null"]}}`
			s.Env[4001] = append(s.Env[4001], "HISTFILE=/dev/null")
		}},
		low: []scene{func(s *detecttest.Scene) {
			interpreter(s, 3990, "/usr/bin/python3.11")
			s.Env[4100] = append(s.Env[4100], "HISTSIZE=0")
		}},
		blind: "environ",
	},
	"file-device": {
		hit: func(s *detecttest.Scene) { added(s, "/tmp/disk", record.TypeBlock) }, severity: verdict.High,
		clean: []scene{func(s *detecttest.Scene) { added(s, "/tmp/pipe", record.TypeFIFO) }},
		low:   []scene{func(s *detecttest.Scene) { added(s, "/data/root/dev/null", record.TypeChar) }},
		blind: "inventory",
	},
	"file-name-hides": {
		hit: func(s *detecttest.Scene) { added(s, "/tmp/...", record.TypeDir) }, severity: verdict.Medium,
		clean: []scene{
			func(s *detecttest.Scene) { added(s, "/home/app/.cache", record.TypeDir) },
			func(s *detecttest.Scene) { added(s, "/data/..2026_11_20_08_00_00.1", record.TypeDir) },
			func(s *detecttest.Scene) { added(s, "/data/Rechnung März (2).pdf", record.TypeFile) },
		},
		low:   []scene{func(s *detecttest.Scene) { added(s, "/data/uploads/cod\u202egpj.exe", record.TypeFile) }},
		blind: "inventory",
	},
	"mount-of-control-groups": {
		hit: func(s *detecttest.Scene) {
			s.Mounts = append(s.Mounts, record.Mounted{Point: "/tmp/cgrp", FSType: "cgroup", Kind: "kernel", Root: "/", Writable: true})
		},
		severity: verdict.Medium,
		clean: []scene{
			func(s *detecttest.Scene) {
				s.Mounts = append(s.Mounts, record.Mounted{Point: "/sys/fs/cgroup/memory", FSType: "cgroup", Kind: "kernel", Root: "/", Writable: true})
			},
			func(s *detecttest.Scene) {
				s.Container.Mounts = append(s.Container.Mounts, target.Mount{Type: "bind", Source: "/sys/fs/cgroup", Destination: "/host/cgroup"})
				s.Mounts = append(s.Mounts, record.Mounted{Point: "/host/cgroup/memory", FSType: "cgroup", Kind: "kernel", Root: "/", Writable: true})
			},
		},
		blind: "mounts",
	},
	"memory-code-writable": {
		hit: func(s *detecttest.Scene) {
			s.Maps[4001] = append(s.Maps[4001], record.Mapping{Start: 0x7f0000000000, End: 0x7f0000001000, Perms: "rwxp", Inode: 900, Path: "/app/lib/libimg.so"})
		},
		severity: verdict.Low,
		clean: []scene{func(s *detecttest.Scene) {
			s.Maps[4001] = append(s.Maps[4001], record.Mapping{Start: 0x7f0000000000, End: 0x7f0000001000, Perms: "rwxp", Inode: 900, Path: "/tmp/ffiXa81 (deleted)"})
		}},
		blind: "memory",
	},
}

func TestEachRuleHasThreeAnswers(t *testing.T) {
	set := behaviour.New()
	for _, r := range set.Rules() {
		c, ok := cases[r.ID]
		if !ok {
			t.Errorf("rule %s has no case", r.ID)
			continue
		}
		t.Run(r.ID, func(t *testing.T) {
			if r.Title == "" || r.Rationale == "" || r.FalseAlarms == "" || r.Severity.Rank() < 0 || r.Language != "CEL" || r.Origin != "" {
				t.Errorf("its description is incomplete: %+v", r)
			}
			check := func(how string, make scene, want detect.State, severity verdict.Severity, without ...string) {
				t.Helper()
				s := detecttest.Busy()
				make(s)
				a := answers(t, set, s, without...)[r.ID]
				if a.State() != want || want == detect.Hit && a.Gravest() != severity {
					t.Errorf("%s: is %s %s, want %s %s: %+v", how, a.State(), a.Gravest(), want, severity, a)
				}
				for _, h := range a.Hits {
					if len(h.Citations) == 0 || h.Statement == "" || h.Severity.Rank() > r.Severity.Rank() {
						t.Errorf("%s: hit %+v", how, h)
					}
				}
			}
			check("what it is for", c.hit, detect.Hit, c.severity)
			check("an honest container", func(*detecttest.Scene) {}, detect.Clean, "")
			check("without "+c.blind, c.hit, detect.Blind, "", c.blind)
			for i, make := range c.clean {
				check(fmt.Sprint("honest ", i), make, detect.Clean, "")
			}
			for i, make := range c.low {
				s := detecttest.Busy()
				make(s)
				if a := answers(t, set, s)[r.ID]; a.State() != detect.Hit || a.Gravest().Rank() > verdict.Low.Rank() {
					t.Errorf("harmless %d: is %s %s, want a hit that does not weigh: %+v", i, a.State(), a.Gravest(), a)
				}
			}
		})
	}
	var own []string
	for _, r := range set.Rules() {
		own = append(own, r.ID)
	}
	for id := range maps.Keys(cases) {
		if !slices.Contains(own, id) {
			t.Errorf("there is no rule for case %s", id)
		}
	}
}

// Statements are what tells the rules that were Go once from what they were.
func TestStatements(t *testing.T) {
	s := detecttest.Busy()
	s.Connect(foreign(s), 3, "203.0.113.9", 4444, 10, 20)
	s.Sockets = append(s.Sockets, listener(4017, 31337, "0.0.0.0"), listener(4001, 9229, "0.0.0.0"))
	got := answers(t, behaviour.New(), s)
	for id, want := range map[string]string{
		"network-foreign-peer":       `process 17 "conv", which is not the image's, has a connection with 203.0.113.9:4444 (10 bytes out, 20 in)`,
		"network-foreign-listener":   `process 17 "conv", which is not the image's, listens on 0.0.0.0:31337`,
		"network-unexposed-listener": `process 1 "server" listens on port 9229, which the image does not declare`,
	} {
		a := got[id]
		if len(a.Hits) != 1 || a.Hits[0].Statement != want {
			t.Errorf("%s says %+v, want %q", id, a.Hits, want)
		}
	}
	h := got["network-foreign-peer"].Hits[0]
	if h.PID != 4017 || h.Path != "/usr/lib/conv" || h.SHA256 != detecttest.Hash(implant) || h.Peer != "203.0.113.9:4444" || !h.Foreign || len(h.Citations) != 2 {
		t.Errorf("a hit is linked by %+v", h)
	}
}
