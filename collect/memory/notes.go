package memory

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sherd-forensics/sherd/internal/safefs"
)

// Bounds of the notes of one process.
const (
	maxThreads   = 1 << 14
	maxFileNotes = 4 << 20 // as the kernel's core_file_note_size_limit
	maxAuxv      = 4 << 10
)

// NoteOwner and NoteThreads name a note of our own: for each thread two 32-bit numbers, its id and which registers of
// its NT_PRSTATUS are known (Known…); the others are zero there, since nothing was stopped to ask.
const (
	NoteOwner   = "SHERD"
	NoteThreads = 1
)

// What is known of a thread's registers.
const (
	KnownPC      = 1 << iota // program counter
	KnownSP                  // stack pointer
	KnownSyscall             // the system call it waits in, and its arguments
)

// procStat has the fields of /proc/PID/stat that a core repeats; times are in clock ticks.
type procStat struct {
	comm                         string
	state                        byte
	ppid, pgrp, session          int32
	flags                        uint64
	utime, stime, cutime, cstime uint64
	nice                         int8
	start                        uint64
	sp, pc                       uint64
}

func parseStat(b []byte) (procStat, error) {
	var st procStat
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return st, errors.New("stat without a name")
	}
	st.comm = string(b[open+1 : end])
	f := strings.Fields(string(b[end+1:]))
	if len(f) < 28 || len(f[0]) != 1 {
		return st, fmt.Errorf("stat has %d fields", len(f)+2)
	}
	var bad error
	u := func(i int) uint64 { // i as proc_pid_stat(5) numbers them
		v, err := strconv.ParseUint(f[i-3], 10, 64)
		bad = cmpErr(bad, err)
		return v
	}
	s := func(i int) int64 {
		v, err := strconv.ParseInt(f[i-3], 10, 64)
		bad = cmpErr(bad, err)
		return v
	}
	st.state = f[0][0]
	st.ppid, st.pgrp, st.session = int32(s(4)), int32(s(5)), int32(s(6))
	st.flags = u(9)
	st.utime, st.stime, st.cutime, st.cstime = u(14), u(15), uint64(s(16)), uint64(s(17))
	st.nice = int8(s(19))
	st.start, st.sp, st.pc = u(22), u(29), u(30)
	return st, bad
}

func cmpErr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

func readStat(dir string) (procStat, error) {
	b, err := safefs.ReadProc(dir+"/stat", 4096)
	if err != nil {
		return procStat{}, err
	}
	return parseStat(b)
}

// registers are what is known of a thread without stopping it.
type registers struct {
	known  uint32
	sp, pc uint64
	nr     int64
	args   [6]uint64
}

// parseSyscall reads /proc/PID/syscall, proc_pid_syscall(5): "running", "-1 SP PC", or "NR ARG… SP PC".
func parseSyscall(b []byte) (registers, error) {
	var r registers
	f := strings.Fields(string(b))
	if len(f) == 1 && f[0] == "running" {
		return r, nil
	}
	if len(f) != 3 && len(f) != 9 {
		return r, fmt.Errorf("syscall has %d fields", len(f))
	}
	nr, err := strconv.ParseInt(f[0], 10, 64)
	if err != nil {
		return r, err
	}
	v := make([]uint64, len(f)-1)
	for i := range v {
		if v[i], err = strconv.ParseUint(f[i+1], 0, 64); err != nil {
			return r, err
		}
	}
	r.sp, r.pc = v[len(v)-2], v[len(v)-1]
	r.known = KnownPC | KnownSP
	r.nr = nr
	if len(f) == 9 {
		copy(r.args[:], v)
		r.known |= KnownSyscall
	}
	return r, nil
}

// noteSource is what the notes are made of.
type noteSource struct {
	dir  string // /proc/PID
	pid  int
	stat procStat
	maps *maps
	auxv []byte
	l    layout
}

// build gives the contents of PT_NOTE, and what of it could not be had.
func (n *noteSource) build() (notes []byte, missed []string) {
	var out bytes.Buffer
	tids, err := threads(n.dir, n.pid)
	if err != nil {
		missed = append(missed, "its list of threads: "+err.Error())
	}
	known := &enc{}
	unread := 0
	for i, tid := range tids {
		t := n.dir + "/task/" + strconv.Itoa(tid)
		st, err := readStat(t)
		if err != nil {
			if i > 0 {
				continue // it ended meanwhile
			}
			st = n.stat
		}
		var r registers
		b, err := safefs.ReadProc(t+"/syscall", 4096)
		if err == nil {
			r, err = parseSyscall(b)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			unread++
		}
		if r.known == 0 && st.pc != 0 {
			r.sp, r.pc, r.known = st.sp, st.pc, KnownPC|KnownSP
		}
		known.u32(uint32(tid), r.known)
		note(&out, "CORE", ntPRStatus, n.prstatus(tid, st, r))
		if i == 0 {
			note(&out, "CORE", ntPRPSInfo, n.prpsinfo())
			note(&out, "CORE", ntAuxv, n.auxv)
			files, cut := n.files()
			if cut > 0 {
				missed = append(missed, fmt.Sprintf("%d mapped files beyond what a core's list of files may hold; memory.jsonl has them", cut))
			}
			note(&out, "CORE", ntFile, files)
		}
	}
	note(&out, NoteOwner, NoteThreads, known.b)
	if unread > 0 {
		missed = append(missed, fmt.Sprintf("registers of %d threads: %v", unread, err))
	}
	if len(tids) == maxThreads {
		missed = append(missed, fmt.Sprintf("threads beyond the first %d", maxThreads))
	}
	return out.Bytes(), missed
}

// threads lists a process's threads, the first one first: debuggers show it when they open the core.
func threads(dir string, pid int) ([]int, error) {
	names, err := within(5*time.Second, func() ([]string, error) {
		d, err := os.Open(dir + "/task")
		if err != nil {
			return nil, err
		}
		defer d.Close()
		return d.Readdirnames(maxThreads)
	})
	tids := []int{pid}
	for _, s := range names {
		if t, aerr := strconv.Atoi(s); aerr == nil && t != pid && len(tids) < maxThreads {
			tids = append(tids, t)
		}
	}
	slices.Sort(tids[1:])
	return tids, err
}

// prpsinfo is struct elf_prpsinfo (32-bit: compat_elf_prpsinfo).
func (n *noteSource) prpsinfo() []byte {
	e := &enc{wide: n.l.wide}
	st := n.stat
	zombie := uint8(0)
	if st.state == 'Z' {
		zombie = 1
	}
	e.u8(uint8(max(strings.IndexByte("RSDTZW", st.state), 0)), st.state, zombie, uint8(st.nice))
	uid, gid := owner(n.dir)
	if n.l.wide {
		e.pad(4)
		e.u64(st.flags)
		e.u32(uid, gid)
	} else {
		e.u32(uint32(st.flags))
		e.u16(uint16(uid), uint16(gid))
	}
	e.u32(uint32(n.pid), uint32(st.ppid), uint32(st.pgrp), uint32(st.session))
	e.str(st.comm, 16)
	args, _ := safefs.ReadProc(n.dir+"/cmdline", 79) //nolint:errcheck // ErrTooLarge comes with the 79 bytes that fit; cmdline itself is kept elsewhere
	e.str(strings.TrimRight(strings.ReplaceAll(string(args), "\x00", " "), " "), 80)
	return e.b
}

// owner gives the real user and group.
func owner(dir string) (uid, gid uint32) {
	b, _ := safefs.ReadProc(dir+"/status", 64<<10) //nolint:errcheck // unreadable: the ids stay 0, status itself is kept elsewhere
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "Uid:" && f[0] != "Gid:" {
			continue
		}
		v, err := strconv.ParseUint(f[1], 10, 32)
		if err != nil {
			continue
		}
		if f[0] == "Uid:" {
			uid = uint32(v)
		} else {
			gid = uint32(v)
		}
	}
	return uid, gid
}

// prstatus is struct elf_prstatus of the process's machine.
func (n *noteSource) prstatus(tid int, st procStat, r registers) []byte {
	e := &enc{wide: n.l.wide}
	e.pad(12 + 4) // siginfo; current signal: none
	e.word(0, 0)  // pending and held signals
	e.u32(uint32(tid), uint32(st.ppid), uint32(st.pgrp), uint32(st.session))
	for _, ticks := range []uint64{st.utime, st.stime, st.cutime, st.cstime} {
		e.word(ticks/ticksPerSecond, ticks%ticksPerSecond*(1e6/ticksPerSecond))
	}
	e.word(n.l.regs(r)...)
	e.u32(0) // no floating point registers
	if n.l.wide {
		e.pad(4)
	}
	return e.b
}

// ticksPerSecond is USER_HZ, 100 on every machine that Linux runs on today but Alpha and IA-64.
const ticksPerSecond = 100

// regs lays the registers out as struct user_regs_struct of the machine has them; in a system call its number
// and arguments are in known ones.
func (l layout) regs(r registers) []uint64 {
	nr := uint64(r.nr)
	if r.known&KnownSyscall == 0 {
		nr = ^uint64(0) // in no system call
		if r.known == 0 {
			nr = 0
		}
	}
	a := r.args
	switch l.machine {
	case emX8664:
		// r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base ds es fs gs
		return []uint64{0, 0, 0, 0, 0, 0, 0, a[3], a[5], a[4], 0, 0, a[2], a[1], a[0], nr, r.pc, 0x33, 0, r.sp, 0x2b, 0, 0, 0, 0, 0, 0}
	case em386:
		// ebx ecx edx esi edi ebp eax ds es fs gs orig_eax eip cs eflags esp ss
		return []uint64{a[0], a[1], a[2], a[3], a[4], a[5], 0, 0x2b, 0x2b, 0, 0, nr, r.pc, 0x23, 0, r.sp, 0x2b}
	case emARM64:
		// x0 … x30 sp pc pstate
		v := make([]uint64, 34)
		copy(v, a[:])
		if r.known&KnownSyscall != 0 {
			v[8] = nr
		}
		v[31], v[32] = r.sp, r.pc
		return v
	}
	// ARM: r0 … r12 sp lr pc cpsr orig_r0
	v := make([]uint64, 18)
	copy(v, a[:])
	if r.known&KnownSyscall != 0 {
		v[7] = nr
	}
	v[13], v[15], v[16] = r.sp, r.pc, 0x10
	return v
}

// files is the contents of NT_FILE: fs/binfmt_elf.c, fill_files_note.
func (n *noteSource) files() (desc []byte, cut int) {
	e := &enc{wide: n.l.wide}
	names := &enc{}
	count := uint64(0)
	body := &enc{wide: n.l.wide}
	for i := range n.maps.list {
		p := &n.maps.list[i]
		path := n.maps.path(p)
		if p.inode == 0 || path == "" {
			continue
		}
		if len(body.b)+len(names.b)+len(path)+25 > maxFileNotes {
			cut++
			continue
		}
		body.word(p.start, p.end, p.offset/n.l.pageSize)
		names.b = append(names.b, path...)
		names.b = append(names.b, 0)
		count++
	}
	e.word(count, n.l.pageSize)
	e.b = append(e.b, body.b...)
	e.b = append(e.b, names.b...)
	return e.b, cut
}

// narrow says whether auxv is that of a 32-bit program: AT_PHENT (4) holds the size of its program headers.
func narrow(auxv []byte) bool {
	for i := 0; i+16 <= len(auxv); i += 16 {
		if binary.LittleEndian.Uint64(auxv[i:]) == 4 && binary.LittleEndian.Uint64(auxv[i+8:]) == 56 {
			return false
		}
	}
	for i := 0; i+8 <= len(auxv); i += 8 {
		if binary.LittleEndian.Uint32(auxv[i:]) == 4 {
			return binary.LittleEndian.Uint32(auxv[i+4:]) == 32
		}
	}
	return false
}
