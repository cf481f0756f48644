package subject

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/sherd-forensics/sherd/target"
)

// Who shares a namespace and is none of the container's: a sidecar in the pid namespace, a pod's other container in the network. The machine's
// own namespaces are nobody's.
func TestSharing(t *testing.T) {
	f := newFake(t)
	net := func(pid int, ns string) {
		f.check(os.Symlink("net:["+ns+"]", filepath.Join(f.dir, strconv.Itoa(pid), "ns/net")))
	}
	f.add(20, 10, "/docker/aaa", "pod", "a")
	f.add(21, 20, "/docker/aaa", "pod", "a")
	f.add(30, 10, "/docker/bbb", "pod", "b")     // sidecar
	f.add(40, 10, "/docker/ccc", "another", "c") // in the pod's network
	f.add(50, 10, "/docker/ddd", "third", "d")
	f.add(60, 10, "/docker/eee", "host", "e") // on the machine's own network and pids
	f.add(61, 10, "/docker/fff", "host", "f")
	for pid, ns := range map[int]string{1: "host", 20: "pod", 21: "pod", 30: "pod", 40: "pod", 50: "other", 60: "host", 61: "host"} {
		net(pid, ns)
	}
	for pid, want := range map[int]string{20: "[30 pid net][40 net]", 50: "", 60: "", 0: ""} {
		list, err := Sharing(&target.Container{PID: pid, CgroupPath: "/docker/" + map[int]string{20: "aaa", 50: "ddd", 60: "eee"}[pid]}, f.dir)
		f.check(err)
		got := ""
		for _, s := range list {
			got += "[" + strconv.Itoa(s.PID)
			for _, n := range s.Shares {
				got += " " + n
			}
			got += "]"
		}
		if got != want {
			t.Errorf("of %d: %s, want %s", pid, got, want)
		}
	}
	if _, err := Sharing(&target.Container{PID: 999}, f.dir); err == nil {
		t.Error("a container that is gone shares")
	}
	// A list that is too long is cut.
	for i := range maxSharing + 1 {
		pid := 1000 + i
		f.add(pid, 10, fmt.Sprintf("/docker/%d", i), "pod", "x")
	}
	if list, err := Sharing(&target.Container{PID: 20, CgroupPath: "/docker/aaa"}, f.dir); err == nil || len(list) != maxSharing {
		t.Errorf("%d, %v", len(list), err)
	}
}
