package ocispec

import (
	"os"
	"slices"
	"testing"

	"github.com/sherd-forensics/sherd/target"
)

// The configurations in testdata are those of real containers, of Docker 20.10 and Podman 4.3.
func TestReal(t *testing.T) {
	for _, name := range []string{"docker", "podman"} {
		raw, err := os.ReadFile("testdata/" + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		s, err := Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		var c target.Container
		s.Apply(&c)
		if !slices.Equal(c.Entrypoint, []string{"/app/server"}) || c.User != "65532:65532" || len(c.Privileges) > 0 || c.Rootfs.ReadOnly {
			t.Errorf("%s: %q %q %q", name, c.Entrypoint, c.User, c.Privileges)
		}
		if !slices.ContainsFunc(c.Mounts, func(m target.Mount) bool { return m.Destination == "/etc/hosts" && m.Type == "bind" && m.Source != "" }) ||
			!slices.ContainsFunc(c.Mounts, func(m target.Mount) bool { return m.Destination == "/proc" && m.Type == "proc" && m.Source == "" }) {
			t.Errorf("%s: %+v", name, c.Mounts)
		}
	}
}

func TestPrivileges(t *testing.T) {
	for text, want := range map[string][]string{
		`{"linux":{"namespaces":[{"type":"pid"},{"type":"mount"},{"type":"ipc"}],"seccomp":{"defaultAction":"SCMP_ACT_ERRNO"}}}`: {"host network"},
		`{"linux":{"namespaces":[{"type":"network","path":"/proc/7/ns/net"},{"type":"mount"},{"type":"ipc"}]}}`:                  {"host pid", "no seccomp filter"},
		`{"process":{"capabilities":{"bounding":["CAP_CHOWN","CAP_BPF"],"ambient":["CAP_NET_ADMIN"]}}}`:                          {"CAP_BPF", "CAP_NET_ADMIN"},
		`{"mounts":[{"destination":"/s","source":"/run/../run/docker.sock","options":["rbind"]},{"destination":"/h","source":"/","type":"bind","options":["ro"]}]}`: {
			"host path / (read-only)", "runtime socket /run/docker.sock"},
		`{"mounts":[{"destination":"/etc","source":"/","type":"tmpfs"}]}`: nil,
		`{"linux":{"devices":[{"path":"/dev/kmsg"}],"namespaces":[{"type":"network"},{"type":"pid"},{"type":"mount"},{"type":"ipc"}],"seccomp":{},"resources":{"devices":[{"allow":true,"access":"rwm"}]}}}`: {
			"all devices", "device /dev/kmsg"},
		`{}`: nil,
	} {
		s, err := Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Privileges(); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	if got := Beyond([]string{"SYS_PTRACE", "chown", "ALL"}); !slices.Equal(got, []string{"CAP_ALL", "CAP_SYS_PTRACE"}) {
		t.Errorf("%q", got)
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range []string{"docker", "podman"} {
		raw, err := os.ReadFile("testdata/" + name + ".json")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Add([]byte(`{"linux":{"resources":{"devices":[null]},"devices":[{}]},"mounts":[{"destination":"../.."}],"process":null,"root":null}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := Parse(raw)
		if err != nil {
			return
		}
		var c target.Container
		s.Apply(&c)
		for _, m := range c.Mounts {
			if m.Destination[0] != '/' {
				t.Fatalf("%q", m.Destination)
			}
		}
	})
}
