package target

import (
	"strings"
	"testing"
)

func TestSandboxed(t *testing.T) {
	for name, want := range map[string]string{
		"io.containerd.runsc.v1": "gVisor", "runsc": "gVisor", "/usr/local/bin/runsc": "gVisor", "runsc-kvm": "gVisor",
		"io.containerd.kata.v2": "virtual machine", "io.containerd.kata-qemu.v2": "virtual machine", "kata-runtime": "virtual machine", "aws.firecracker": "virtual machine",
		"io.containerd.runc.v2": "", "io.containerd.runtime.v1.linux": "", "runc": "", "crun": "", "": "", "katana": "", "runscope": "",
	} {
		got := Sandboxed(name)
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%q: %q", name, got)
		}
	}
}
