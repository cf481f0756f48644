package target

import (
	"path"
	"strings"
)

// Sandboxed says of a container, by the name of the runtime that runs it, what of it can't be seen from outside because a kernel of its
// own lies between it and the machine's: "" where the machine's kernel is the container's too. Names are those of containerd's shims
// (io.containerd.runsc.v1), of Docker's and Podman's runtimes (runsc, kata-runtime), and of programs.
func Sandboxed(runtime string) string {
	name := strings.ToLower(path.Base(runtime))
	name = strings.TrimPrefix(name, "io.containerd.")
	is := func(prefixes ...string) bool {
		for _, p := range prefixes {
			if name == p || strings.HasPrefix(name, p+".") || strings.HasPrefix(name, p+"-") {
				return true
			}
		}
		return false
	}
	switch {
	case is("runsc", "gvisor"):
		return "the container runs under gVisor (" + runtime + "): its processes, their memory, descriptors and sockets are inside a kernel of gVisor's own. What /proc shows" +
			" is that kernel's process, not the container's; files that the container wrote may lie in gVisor's own store instead of the writable layer"
	case is("kata", "kata-runtime", "urunc", "firecracker", "aws.firecracker", "runhcs", "runv"):
		return "the container runs in a virtual machine of its own (" + runtime + "): its processes, their memory, descriptors and sockets are inside that, and are not seen from the node." +
			" What /proc shows is the virtual machine's process"
	}
	return ""
}
