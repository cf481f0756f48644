package investigate_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/sherd-forensics/sherd/detect/detecttest"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/investigate"
	"github.com/sherd-forensics/sherd/verdict"
)

func entity(r *investigate.Result, kind, value string) *verdict.Entity {
	i := slices.IndexFunc(r.Verdict.Scope, func(e verdict.Entity) bool { return e.Type == kind && e.Value == value })
	if i < 0 {
		return nil
	}
	return &r.Verdict.Scope[i]
}

func effect(r *investigate.Result, kind, words string) bool {
	return slices.ContainsFunc(r.Verdict.Impact, func(i verdict.Impact) bool { return i.Type == kind && strings.Contains(i.Statement, words) })
}

// toolbox is a debug container of an intruder's: it holds memory for writing and speaks with a stranger.
func toolbox(s *scene) {
	s.Sharer(5001, 31, "/usr/bin/python3", at, record.Hold{What: "fd", FD: 3, Part: "mem", Of: 1, Target: "/proc/1/mem", Writable: true})
	sent := uint64(4096)
	s.Sockets = append(s.Sockets, record.Socket{Family: "inet", Protocol: "tcp", State: "established", LocalIP: "10.0.7.5", LocalPort: 44000, RemoteIP: "203.0.113.9", RemotePort: 4444, Shared: true,
		Inode: 9800, BytesSent: &sent, BytesReceived: &sent, Others: []record.Owner{{PID: 5001, FD: 5}}, Source: "sock_diag", Observed: detecttest.Capture.UnixNano()})
}

// An intruder's debug container is named with its process, its peer, what it could read and what may have left.
func TestIntrudersDebugContainer(t *testing.T) {
	s := detecttest.Busy()
	toolbox(s)
	r := judge(t, s)
	if r.Verdict.Verdict != verdict.Suspicious || r.Verdict.RootCause != nil {
		t.Errorf("%s, %+v", r.Verdict.Verdict, r.Verdict.RootCause)
	}
	for _, want := range [][3]string{
		{verdict.EntityProcess, "/usr/bin/python3", "outsider"}, {verdict.EntityContainer, strings.Repeat("cd", 32), "outsider"}, {verdict.EntityAddress, "203.0.113.9:4444", "peer"},
		{verdict.EntityCredential, "DB_PASSWORD", "within reach"},
	} {
		if e := entity(r, want[0], want[1]); e == nil || e.Role != want[2] || len(e.Citations) == 0 {
			t.Errorf("%v: %+v", want, e)
		}
	}
	if !slices.ContainsFunc(r.Verdict.Story, func(s verdict.Step) bool {
		return strings.Contains(s.Statement, "of another container (cdcdcdcdcdcd) starts")
	}) {
		t.Errorf("story %+v", r.Verdict.Story)
	}
	if e := entity(r, verdict.EntityProcess, "/usr/bin/python3"); e != nil && e.PID != 31 {
		t.Errorf("pid %d", e.PID)
	}
	if !effect(r, verdict.ImpactExfiltration, "at most 4.0 KiB (4096 bytes) left for 203.0.113.9:4444") || !effect(r, verdict.ImpactCredential, "DB_PASSWORD") {
		t.Errorf("%+v", r.Verdict.Impact)
	}
}

// An operator's looks at the same things and is named nowhere.
func TestOperatorsDebugContainer(t *testing.T) {
	s := detecttest.Busy()
	s.Sharer(5001, 31, "/usr/bin/gdb", at, record.Hold{What: "fd", FD: 3, Part: "mem", Of: 1, Target: "/proc/1/mem", Writable: true})
	s.Processes[0].TracerPID = 5001
	if r := judge(t, s); r.Verdict.Verdict != verdict.Clean || len(r.Verdict.Scope) > 0 {
		t.Errorf("%s %+v", r.Verdict.Verdict, r.Verdict.Scope)
	}
}

// The metadata service and its keys are named where an intruder is, and nowhere else.
func TestMachineKeysWithinReach(t *testing.T) {
	asks := func(s *scene) {
		s.Connect(&s.Processes[0], 9, "169.254.169.254", 80, 300, 900)
		s.Cores[4001] = []byte(elf + `{"AccessKeyId":"ASIAEXAMPLEKEYID0000","SecretAccessKey":"never shown"}`)
	}
	s := detecttest.Busy()
	asks(s)
	if r := judge(t, s); r.Verdict.Verdict != verdict.Clean || len(r.Verdict.Scope) > 0 {
		t.Errorf("an honest library: %s %+v", r.Verdict.Verdict, r.Verdict.Scope)
	}
	s.Connect(&s.Processes[0], 10, "203.0.113.9", 4444, 10, 20)
	r := judge(t, s)
	if entity(r, verdict.EntityAddress, "169.254.169.254:80") == nil || entity(r, verdict.EntityCredential, "ASIAEXAMPLEKEYID0000") == nil || !effect(r, verdict.ImpactCredential, "revoke it") {
		t.Errorf("%+v %+v", r.Verdict.Scope, r.Verdict.Impact)
	}
	for _, f := range r.Verdict.Findings {
		if strings.Contains(f.Statement, "never shown") {
			t.Errorf("a key is shown: %s", f.Statement)
		}
	}
}

// A container that was started over the runtime's socket is in scope, and the machine with it.
func TestStartedContainer(t *testing.T) {
	s := detecttest.Busy()
	id := strings.Repeat("5e", 32)
	s.Sockets = append(s.Sockets,
		record.Socket{Family: "unix", Protocol: "stream", State: "established", Inode: 9901, PeerInode: 9902, Owners: []record.Owner{{PID: 4001, FD: 12}}},
		record.Socket{Family: "unix", Protocol: "stream", State: "established", Inode: 9902, PeerInode: 9901, Path: "/run/docker.sock"})
	s.Cores[4001] = []byte(elf + `{"Id":"` + id + `","Warnings":[]}`)
	r := judge(t, s)
	if e := entity(r, verdict.EntityNode, "node1"); e == nil || e.Role == "" {
		t.Errorf("the machine: %+v", r.Verdict.Scope)
	}
	if e := entity(r, verdict.EntityContainer, id); e == nil || e.Role != "started" || !effect(r, verdict.ImpactEscape, id[:12]) {
		t.Errorf("%+v %+v", r.Verdict.Scope, r.Verdict.Impact)
	}
}
