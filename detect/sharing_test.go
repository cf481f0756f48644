package detect_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/detect/detecttest"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/verdict"
)

func memory(writable bool) record.Hold {
	return record.Hold{What: "fd", FD: 3, Part: "mem", Of: 1, Target: "/proc/1/mem", Writable: writable}
}

// writtenInto is what a process of another container leaves that overwrote code of the first one.
func writtenInto(s *detecttest.Scene) {
	patch(s, "\xcc\xccpatched\xcc")
	s.Sharer(5001, 31, "/usr/bin/python3", after, memory(true))
}

// remember puts text into the kept memory of the first process.
func remember(s *detecttest.Scene, text string) {
	s.Cores[4001] = []byte(elf + strings.Repeat("\x00", 3<<20) + text + strings.Repeat("\x00", 64))
}

func machineKey(s *detecttest.Scene) {
	s.Connect(&s.Processes[0], 9, "169.254.169.254", 80, 300, 900)
	remember(s, `{"Code":"Success","AccessKeyId" : "ASIAEXAMPLEKEYID0000","SecretAccessKey":"never shown"}`)
}

func runtimeSocket(s *detecttest.Scene) {
	s.Sockets = append(s.Sockets,
		record.Socket{Family: "unix", Protocol: "stream", State: "established", Inode: 9901, PeerInode: 9902, Owners: []record.Owner{{PID: 4001, FD: 12}}},
		record.Socket{Family: "unix", Protocol: "stream", State: "established", Inode: 9902, PeerInode: 9901, Path: "/run/docker.sock"})
}

func startedContainer(s *detecttest.Scene) {
	runtimeSocket(s)
	remember(s, "POST /v1.41/containers/"+strings.Repeat("5e", 32)+"/start HTTP/1.1\r\n")
}

// others gives a connection in the shared network to a process of another container.
func others(s *detecttest.Scene, pid int, state, ip string, port int) {
	sent := uint64(4096)
	sock := record.Socket{Family: "inet", Protocol: "tcp", State: state, LocalIP: "10.0.7.5", LocalPort: 40000 + len(s.Sockets), RemoteIP: ip, RemotePort: port, Shared: true,
		Source: "sock_diag", Observed: detecttest.Capture.UnixNano()}
	if pid != 0 {
		sock.Inode, sock.BytesSent, sock.Others = uint64(9700+len(s.Sockets)), &sent, []record.Owner{{PID: pid, FD: 5}}
	}
	s.Sockets = append(s.Sockets, sock)
}

func TestWhoReachesIn(t *testing.T) {
	for _, c := range []struct {
		name  string
		scene func(*detecttest.Scene)
		want  verdict.Severity // Info: no hit
	}{
		{"a sidecar that holds nothing", func(s *detecttest.Scene) {
			s.Sharer(5001, 31, "/usr/bin/envoy", detecttest.Start)
			others(s, 5001, "established", "203.0.113.9", 15021)
		}, verdict.Info},
		{"a debugger with memory open for writing", func(s *detecttest.Scene) {
			s.Sharer(5001, 31, "/usr/bin/gdb", after, memory(true))
			s.Processes[0].TracerPID = 5001
		}, verdict.Low},
		{"a debugger with breakpoints set", func(s *detecttest.Scene) {
			patch(s, "\x90\x90\xcc\x90\x90\x90\xcc\x90")
			s.Sharer(5001, 31, "/usr/bin/gdb", after, memory(true))
		}, verdict.Low},
		{"an operator who looks at files", func(s *detecttest.Scene) {
			s.Sharer(5001, 31, "/bin/busybox", after, record.Hold{What: "cwd", FD: -1, Part: "folder", Target: "/data"})
		}, verdict.Low},
		{"a profiler from the start that reports to its server", func(s *detecttest.Scene) {
			s.Sharer(5001, 31, "/usr/bin/profiler", detecttest.Start.Add(time.Second), memory(false))
			others(s, 5001, "established", "10.0.9.9", 4040)
		}, verdict.Low},
		{"a debug container that downloads from the web", func(s *detecttest.Scene) {
			s.Sharer(5001, 31, "/bin/busybox", after, record.Hold{What: "fd", FD: 4, Part: "file", Target: "/etc/passwd"})
			others(s, 5001, "established", "151.101.2.132", 443)
		}, verdict.Low},
		{"a latecomer that holds memory and speaks with a stranger", func(s *detecttest.Scene) {
			s.Sharer(5001, 31, "/usr/bin/python3", after, memory(false))
			others(s, 5001, "established", "203.0.113.9", 4444)
		}, verdict.Medium},
		{"one that wrote", writtenInto, verdict.High},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := detecttest.Busy()
			c.scene(s)
			answers := run(t, s)
			a := answers["sharing-reaches-in"]
			if a.Gravest() != c.want || (len(a.Hits) > 0) != (c.want != verdict.Info) {
				t.Errorf("graded %s, want %s: %+v", a.Gravest(), c.want, a.Hits)
			}
			if traced := answers["process-traced"]; c.want == verdict.Low && traced.Gravest().Rank() > verdict.Low.Rank() {
				t.Errorf("being traced is graded %s: %+v", traced.Gravest(), traced.Hits)
			}
		})
	}
}

// What a tracer beside the container does to the code decides.
func TestTracedAndWritten(t *testing.T) {
	s := detecttest.Busy()
	patch(s, "\xcc\xccpatched\xcc")
	s.Sharer(5001, 31, "/usr/bin/python3", after)
	s.Processes[0].TracerPID = 5001
	answers := run(t, s)
	for _, rule := range []string{"process-traced", "sharing-reaches-in"} {
		a := answers[rule]
		if a.Gravest() != verdict.High || !strings.Contains(a.Hits[0].Statement, "another container (cdcdcdcdcdcd)") {
			t.Errorf("%s: %+v", rule, a)
		}
	}
}

func TestWhose(t *testing.T) {
	id := strings.Repeat("0f", 32)
	for cgroup, want := range map[string]string{
		"0::/docker/" + id: id,
		"0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-" + id + ".scope": id,
		"5:cpu:/libpod_parent/libpod-" + id + "\n0::/":                           id,
		"0::/sherd/web-1\n":              "web-1",
		"0::/system.slice/sshd.service":  "",
		"0::/":                           "",
		"":                               "",
		"garbage":                        "",
		"0::/user.slice/user-1000.slice": "",
	} {
		if got := (&detect.Sharer{Sharer: record.Sharer{Cgroup: cgroup}}).Whose(); got != want {
			t.Errorf("%q: %q, want %q", cgroup, got, want)
		}
	}
}

// Closed connections in a network that containers share are told of where somebody's open one says whose they are.
func TestClosedConnectionsOfSharedNetworks(t *testing.T) {
	const ip, port = "203.0.113.9", 4444
	for _, c := range []struct {
		name  string
		scene func(*detecttest.Scene)
		want  detect.State
	}{
		{"nobody has an open one", func(*detecttest.Scene) {}, detect.Blind},
		{"ours has", func(s *detecttest.Scene) { s.Connect(&s.Processes[0], 9, ip, port, 1, 1) }, detect.Hit},
		{"another's has", func(s *detecttest.Scene) { others(s, 5001, "established", ip, port) }, detect.Clean},
		{"too few", func(s *detecttest.Scene) { s.Sockets = s.Sockets[:len(s.Sockets)-1] }, detect.Clean},
		{"a known service's", func(s *detecttest.Scene) {
			for i := range s.Sockets {
				if s.Sockets[i].RemotePort == port {
					s.Sockets[i].RemotePort = 443
				}
			}
		}, detect.Clean},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := detecttest.Busy()
			s.Sockets = s.Sockets[:2] // without the database's
			for range 3 {
				others(s, 0, "time_wait", ip, port)
			}
			c.scene(s)
			if a := run(t, s)["network-outbound"]; a.State() != c.want {
				t.Errorf("is %s, want %s: %+v", a.State(), c.want, a)
			}
		})
	}
}

// An address that only begins like one that the configuration names is not named.
func TestAddressesAreWhole(t *testing.T) {
	for env, want := range map[string]verdict.Severity{"UPSTREAM=203.0.113.98": verdict.Medium, "UPSTREAM=1203.0.113.9": verdict.Medium, "UPSTREAM=tcp://203.0.113.9": verdict.Info, "UPSTREAM=203.0.113.9.": verdict.Info, "UPSTREAM=5.203.0.113.9": verdict.Medium} {
		s := detecttest.Busy()
		s.Sockets = s.Sockets[:2]
		s.Config = strings.Replace(s.Config, `"PATH=`, `"`+env+`","PATH=`, 1)
		s.Connect(&s.Processes[0], 9, "203.0.113.9", 4444, 1, 1)
		if a := run(t, s)["network-outbound"]; a.Gravest() != want || len(a.Hits) != 1 {
			t.Errorf("%s: %s, want %s: %+v", env, a.Gravest(), want, a.Hits)
		}
	}
}

func TestOrdersToTheRuntime(t *testing.T) {
	created, own := strings.Repeat("5e", 32), strings.Repeat("ab", 32)
	for _, c := range []struct {
		name, memory, env string
		want              []string
		severity          verdict.Severity
	}{
		{"an answer", `{"Id":"` + created + `","Warnings":[]}`, "", []string{created}, verdict.High},
		{"an order and its answer", `{"Id":"` + created + `","Warnings":[]} POST /containers/` + created + "/start HTTP/1.1", "", []string{created}, verdict.High},
		{"a list of containers", `[{"Id":"` + created + `","Names":["/web"]}] GET /containers/` + created + "/json HTTP/1.1", "", nil, verdict.Info},
		{"itself", "POST /containers/" + own + "/restart HTTP/1.1", "", nil, verdict.Info},
		{"an agent's", "POST /containers/" + created + "/start HTTP/1.1", "DOCKER_HOST=unix:///run/docker.sock", []string{created}, verdict.Info},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := detecttest.Busy()
			runtimeSocket(s)
			remember(s, c.memory)
			if c.env != "" {
				s.Config = strings.Replace(s.Config, `"PATH=`, `"`+c.env+`","PATH=`, 1)
			}
			a := run(t, s)["memory-runtime-order"]
			var got []string
			for _, h := range a.Hits {
				got = append(got, h.Container)
			}
			if fmt.Sprint(got) != fmt.Sprint(c.want) || a.Gravest() != c.severity {
				t.Errorf("%q, %s; want %q, %s", got, a.Gravest(), c.want, c.severity)
			}
		})
	}
}

// Without the memory's bytes nobody can tell what was ordered.
func TestOrdersWithoutMemory(t *testing.T) {
	s := detecttest.Busy()
	startedContainer(s)
	if a := run(t, s, "cores")["memory-runtime-order"]; a.State() != detect.Blind {
		t.Errorf("is %+v", a)
	}
}

// Keys are looked for only where the metadata service was asked, and only their ids are told.
func TestMachineKeys(t *testing.T) {
	s := detecttest.Busy()
	machineKey(s)
	a := run(t, s)["memory-machine-keys"]
	if len(a.Hits) != 1 || a.Hits[0].Key != "ASIAEXAMPLEKEYID0000" || strings.Contains(a.Hits[0].Statement, "never shown") {
		t.Errorf("%+v", a)
	}
	if c := a.Hits[0].Citations[0]; c.Offset != int64(len(elf)+3<<20+len(`{"Code":"Success","AccessKeyId" : "`)) || c.Length != 20 {
		t.Errorf("cites %+v", c)
	}
	s.Sockets = s.Sockets[:len(s.Sockets)-1]
	if a := run(t, s)["memory-machine-keys"]; a.State() != detect.Clean {
		t.Errorf("without a connection it is %+v", a)
	}
}

// In a network that containers share a closed connection with the metadata service is nobody's.
func TestMetadataOfSharedNetworks(t *testing.T) {
	s := detecttest.Busy()
	others(s, 0, "time_wait", "169.254.169.254", 80)
	if a := run(t, s)["network-metadata-service"]; a.State() != detect.Blind {
		t.Errorf("is %+v", a)
	}
	s.Sockets[len(s.Sockets)-1].Shared = false
	if a := run(t, s)["network-metadata-service"]; a.State() != detect.Hit || a.Hits[0].PID != 0 {
		t.Errorf("is %+v", a)
	}
}

func TestKernelHelpersOfTheNode(t *testing.T) {
	for path, want := range map[string]detect.State{
		"/host/proc/sys/kernel/core_pattern": detect.Hit, "/host/proc/sys/kernel/modprobe": detect.Hit, "/host/sys/kernel/uevent_helper": detect.Hit,
		"/host/sys/fs/cgroup/rdma/release_agent": detect.Hit, "/host/sys/fs/cgroup/release_agent": detect.Hit,
		"/host/proc/sys/kernel/hostname": detect.Clean, "/host/sys/fs/cgroup/rdma/notify_on_release": detect.Clean,
	} {
		s := detecttest.Busy()
		s.Mounts = append(s.Mounts, record.Mounted{Point: "/host", Kind: "host", FSType: "ext4", Root: "/", Writable: true})
		s.MountFile("/host", path, "|/x\n", 0o644, after)
		if a := run(t, s)["file-steers-node"]; a.State() != want {
			t.Errorf("%s: %s, want %s", path, a.State(), want)
		}
	}
}

// Only a program that lies in the container itself is one that the container set.
func TestKernelHelper(t *testing.T) {
	id := strings.Repeat("ab", 32)
	for pattern, want := range map[string]detect.State{
		"core": detect.Clean, "/var/crash/%e.%p": detect.Clean, "|/usr/lib/systemd/systemd-coredump %P %u": detect.Clean, "|/usr/share/apport/apport %p": detect.Clean, "": detect.Clean, "|": detect.Clean,
		"|/layers/0f/diff/tmp/x": detect.Hit, "|/run/rootfs/" + id + "/x %P": detect.Hit, "|/proc/4001/root/tmp/x": detect.Hit, "|/proc/1/root/tmp/x": detect.Clean, "|/proc/4001/exe": detect.Clean, "|/layers/0f/different": detect.Clean,
	} {
		s := detecttest.Busy()
		s.Container.Rootfs.Upper = "/layers/0f/diff"
		s.Extra["host/core_pattern"] = pattern + "\n"
		if a := run(t, s)["node-kernel-helper"]; a.State() != want {
			t.Errorf("%q: %s, want %s", pattern, a.State(), want)
		}
	}
}
