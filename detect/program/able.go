package program

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
)

// Ability is something that a file's code is able to do, and the names from which that was told.
type Ability struct {
	What string   `json:"what"`
	From []string `json:"from"`
}

// ability is one thing that code may be able to do, and what betrays it.
type ability struct {
	what string
	// calls are functions of the C library or system calls, by the names that both have in common.
	calls []string
	// functions are of Go, whole: the linker leaves out what nothing calls.
	functions []string
}

// abilities are in the order in which they are told. Only functions that do the thing themselves count.
var abilities = []ability{
	{"talk over the network", []string{"connect", "sendto", "sendmsg", "getaddrinfo", "curl_easy_perform", "SSL_connect"},
		[]string{"net.(*Dialer).DialContext", "net.(*netFD).connect", "syscall.Connect", "golang.org/x/sys/unix.Connect"}},
	{"listen for connections", []string{"listen", "accept", "accept4"},
		[]string{"net.(*TCPListener).Accept", "net.(*ListenConfig).Listen", "syscall.Listen", "golang.org/x/sys/unix.Listen"}},
	{"run programs", []string{"execve", "execv", "execvp", "execvpe", "execl", "execlp", "execle", "system", "popen", "posix_spawn", "posix_spawnp"},
		[]string{"os.StartProcess", "os/exec.(*Cmd).Start", "syscall.forkExec", "syscall.Exec"}},
	{"run programs without a file", []string{"execveat", "fexecve"}, nil},
	{"make files in memory (memfd)", []string{"memfd_create"}, []string{"golang.org/x/sys/unix.MemfdCreate"}},
	{"trace processes", []string{"ptrace"}, []string{"syscall.ptrace", "syscall.PtraceAttach", "golang.org/x/sys/unix.PtraceAttach", "golang.org/x/sys/unix.PtraceSeize"}},
	{"write other processes' memory", []string{"process_vm_writev"}, []string{"golang.org/x/sys/unix.ProcessVMWritev"}},
	{"load BPF programs", []string{"bpf", "bpf_object__load", "bpf_prog_load"}, []string{"github.com/cilium/ebpf.NewProgram", "github.com/cilium/ebpf.NewCollection"}},
	{"load kernel modules", []string{"init_module", "finit_module"}, []string{"golang.org/x/sys/unix.InitModule", "golang.org/x/sys/unix.FinitModule"}},
	{"mount file systems", []string{"mount", "umount2", "pivot_root", "move_mount"}, []string{"syscall.Mount", "golang.org/x/sys/unix.Mount", "syscall.PivotRoot", "golang.org/x/sys/unix.PivotRoot"}},
	{"change namespaces or root", []string{"unshare", "setns", "chroot"}, []string{"syscall.Unshare", "golang.org/x/sys/unix.Unshare", "golang.org/x/sys/unix.Setns", "syscall.Chroot"}},
	{"change user or capabilities", []string{"setuid", "setreuid", "setresuid", "seteuid", "setgid", "setresgid", "capset"},
		[]string{"syscall.Setuid", "syscall.Setreuid", "syscall.Setresuid", "golang.org/x/sys/unix.Setuid", "golang.org/x/sys/unix.Capset"}},
	{"send and read raw packets", []string{"pcap_open_live", "pcap_create", "pcap_activate", "libnet_init"},
		[]string{"net.ListenIP", "net.DialIP", "golang.org/x/net/ipv4.NewRawConn", "github.com/google/gopacket/pcap.OpenLive"}},
	{"offer a terminal", []string{"posix_openpt", "openpty", "forkpty"}, []string{"github.com/creack/pty.Open", "github.com/kr/pty.Open"}},
	{"encrypt data", []string{"EVP_EncryptInit_ex", "EVP_EncryptInit", "AES_encrypt", "AES_set_encrypt_key", "crypto_secretbox_easy", "crypto_secretstream_xchacha20poly1305_push", "RSA_public_encrypt"},
		[]string{"crypto/cipher.NewCTR", "crypto/cipher.NewCBCEncrypter", "golang.org/x/crypto/nacl/secretbox.Seal", "filippo.io/age.Encrypt"}},
	{"load libraries while it runs", []string{"dlopen", "dlmopen"}, []string{"plugin.Open"}},
	{"use io_uring", []string{"io_uring_setup", "io_uring_queue_init"}, nil},
	{"reboot the machine", []string{"reboot", "kexec_load", "kexec_file_load"}, nil},
}

// abilities tells what the code can do: from imports, from the full table of symbols of a static file, from the numbers of system
// calls in its instructions, and from Go's table of functions. All of these only say "at least".
func (x *Facts) abilities(f *file, whole []byte, names, imported []string) {
	known := map[string]bool{}
	for _, n := range imported {
		n, _, _ = strings.Cut(n, "@")
		known[n] = true
	}
	isGo := x.Language == "Go"
	if !isGo {
		for _, n := range f.systemCalls() {
			known[n] = true
		}
		if x.Static {
			for _, n := range names {
				known[strings.TrimPrefix(n, "__libc_")] = true
			}
		}
	}
	for _, a := range abilities {
		var from []string
		for _, c := range a.calls {
			if known[c] {
				from = append(from, c)
			}
		}
		if isGo {
			for _, fn := range a.functions {
				if bytes.Contains(whole, []byte("\x00"+fn+"\x00")) {
					from = append(from, fn)
				}
			}
		}
		if len(from) > 0 {
			x.Can = append(x.Can, Ability{a.what, from[:min(len(from), 6)]})
		}
	}
	for _, n := range imported {
		n, _, _ = strings.Cut(n, "@")
		if len(x.Imports) < maxListed && slices.ContainsFunc(abilities, func(a ability) bool { return slices.Contains(a.calls, n) }) {
			x.Imports = append(x.Imports, show(n))
		}
	}
}

// Numbers of the system calls that abilities name: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h.
var (
	callsX86 = map[uint32]string{
		42: "connect", 43: "accept", 288: "accept4", 44: "sendto", 46: "sendmsg", 50: "listen", 59: "execve", 322: "execveat", 101: "ptrace", 105: "setuid",
		106: "setgid", 113: "setreuid", 117: "setresuid", 119: "setresgid", 126: "capset", 155: "pivot_root", 161: "chroot", 165: "mount", 166: "umount2",
		169: "reboot", 175: "init_module", 313: "finit_module", 246: "kexec_load", 320: "kexec_file_load", 272: "unshare", 308: "setns", 311: "process_vm_writev",
		319: "memfd_create", 321: "bpf", 425: "io_uring_setup", 429: "move_mount",
	}
	callsARM64 = map[uint32]string{
		203: "connect", 202: "accept", 242: "accept4", 206: "sendto", 211: "sendmsg", 201: "listen", 221: "execve", 281: "execveat", 117: "ptrace", 146: "setuid",
		144: "setgid", 145: "setreuid", 147: "setresuid", 149: "setresgid", 91: "capset", 41: "pivot_root", 51: "chroot", 40: "mount", 39: "umount2",
		142: "reboot", 105: "init_module", 273: "finit_module", 104: "kexec_load", 294: "kexec_file_load", 97: "unshare", 268: "setns", 271: "process_vm_writev",
		279: "memfd_create", 280: "bpf", 425: "io_uring_setup", 429: "move_mount",
	}
)

// systemCalls are those whose number an instruction loads just before the one that enters the kernel. Numbers that are computed are
// not seen.
func (f *file) systemCalls() []string {
	var out []string
	add := func(n string) {
		if n != "" && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	for i := range f.Segments {
		s := &f.Segments[i]
		if !s.Executable() || f.Big || !f.Wide {
			continue
		}
		b := f.segment(s)
		switch f.Machine {
		case 62:
			callsIn86(b, add)
		case 183:
			callsInARM(b, add)
		}
	}
	slices.Sort(out)
	return out
}

// callsIn86 looks for mov $N,%eax (b8 imm32) at most 24 bytes before syscall (0f 05), with no other syscall between.
func callsIn86(b []byte, add func(string)) {
	for at := 0; ; {
		i := bytes.Index(b[at:], []byte{0x0f, 0x05})
		if i < 0 {
			return
		}
		here := at + i
		from := max(at, here-24)
		for k := here - 5; k >= from; k-- {
			if b[k] == 0xb8 && b[k+2] < 3 && b[k+3] == 0 && b[k+4] == 0 {
				add(callsX86[binary.LittleEndian.Uint32(b[k+1:])])
				break
			}
		}
		at = here + 2
	}
}

// callsInARM looks for mov x8, #N or mov w8, #N at most 6 instructions before svc #0.
func callsInARM(b []byte, add func(string)) {
	for i := 0; i+4 <= len(b); i += 4 {
		if binary.LittleEndian.Uint32(b[i:]) != 0xd4000001 {
			continue
		}
		for k := i - 4; k >= max(0, i-24); k -= 4 {
			if w := binary.LittleEndian.Uint32(b[k:]); w&0x7fe0001f == 0x52800008 {
				add(callsARM64[w>>5&0xffff])
				break
			}
		}
	}
}
