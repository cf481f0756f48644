package memory

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// state is what the page tables say of a run of pages.
type state uint8

const (
	statePresent state = 1 << iota
	stateSwapped
	stateFile // a page of a file or of shared memory, not private to the process
	stateZero // the kernel's one page of zeroes: nobody wrote here yet
)

// region is a run of pages that are present or swapped.
type region struct {
	start, end uint64
	state      state
}

// The interface of PAGEMAP_SCAN, Linux 6.7: include/uapi/linux/fs.h, Documentation/admin-guide/mm/pagemap.rst.
const (
	ioctlPagemapScan = 0xc0606610 // _IOWR('f', 16, struct pm_scan_arg)

	pageIsFile    = 1 << 2
	pageIsPresent = 1 << 3
	pageIsSwapped = 1 << 4
	pageIsPFNZero = 1 << 5
)

type pmScanArg struct {
	size, flags, start, end, walkEnd uint64
	vec, vecLen, maxPages            uint64
	inverted, mask, anyOf, ret       uint64
}

type pageRegion struct{ start, end, categories uint64 }

// scanner asks the page tables of one process.
type scanner struct {
	f        *os.File // /proc/PID/pagemap; it stays with the program that ran when it was opened
	pageSize uint64
	old      bool // no PAGEMAP_SCAN
	vec      []pageRegion
	buf      []byte
}

func newScanner(f *os.File, pageSize uint64) *scanner {
	return &scanner{f: f, pageSize: pageSize}
}

// scan calls fn with the present and swapped pages of the mappings in order of address, each run inside one
// mapping. Device mappings are passed over.
func (s *scanner) scan(m *maps, fn func(p *mapping, r region) error) error {
	if len(m.list) == 0 {
		return nil
	}
	if !s.old {
		err := s.scanNew(m, fn)
		if !errors.Is(err, unix.ENOTTY) && !errors.Is(err, unix.EINVAL) {
			return err
		}
		s.old = true
	}
	for i := range m.list {
		if p := &m.list[i]; p.kind != kindDevice {
			if err := s.scanOld(p, fn); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *scanner) scanNew(m *maps, fn func(*mapping, region) error) error {
	if s.vec == nil {
		s.vec = make([]pageRegion, 4096)
	}
	i := 0
	// Addresses above the user's half hold nothing but the vsyscall page.
	last := len(m.list) - 1
	for last > 0 && m.list[last].start>>63 != 0 {
		last--
	}
	for start, end := m.list[0].start, m.list[last].end; start < end; {
		arg := pmScanArg{
			size: uint64(unsafe.Sizeof(pmScanArg{})), start: start, end: end,
			vec: uint64(uintptr(unsafe.Pointer(&s.vec[0]))), vecLen: uint64(len(s.vec)),
			anyOf: pageIsPresent | pageIsSwapped, ret: pageIsFile | pageIsPresent | pageIsSwapped | pageIsPFNZero,
		}
		n, _, errno := unix.Syscall(unix.SYS_IOCTL, s.f.Fd(), ioctlPagemapScan, uintptr(unsafe.Pointer(&arg)))
		runtime.KeepAlive(s.vec)
		switch {
		case errno == unix.EINTR:
			continue
		case errno != 0:
			return fmt.Errorf("PAGEMAP_SCAN: %w", errno)
		case n > uintptr(len(s.vec)) || arg.walkEnd <= start:
			return fmt.Errorf("PAGEMAP_SCAN made no progress at %#x", start)
		}
		for _, r := range s.vec[:n] {
			for i < len(m.list) && m.list[i].end <= r.start {
				i++
			}
			for j := i; j < len(m.list) && m.list[j].start < r.end; j++ {
				p := &m.list[j]
				if p.kind == kindDevice {
					continue
				}
				if err := fn(p, region{max(r.start, p.start), min(r.end, p.end), stateOf(r.categories)}); err != nil {
					return err
				}
			}
		}
		start = arg.walkEnd
	}
	return nil
}

func stateOf(c uint64) state {
	var st state
	for _, x := range []struct {
		bit uint64
		st  state
	}{{pageIsPresent, statePresent}, {pageIsSwapped, stateSwapped}, {pageIsFile, stateFile}, {pageIsPFNZero, stateZero}} {
		if c&x.bit != 0 {
			st |= x.st
		}
	}
	return st
}

// scanOld reads 8 bytes for each page, for kernels before 6.7: Documentation/admin-guide/mm/pagemap.rst.
func (s *scanner) scanOld(p *mapping, fn func(*mapping, region) error) error {
	const (
		bitPresent = 1 << 63
		bitSwapped = 1 << 62
		bitFile    = 1 << 61
	)
	if s.buf == nil {
		s.buf = make([]byte, 1<<20)
	}
	var run region
	flush := func() error {
		if run.state == 0 {
			return nil
		}
		return fn(p, run)
	}
	for addr := p.start; addr < p.end; {
		want := min(uint64(len(s.buf)), (p.end-addr)/s.pageSize*8)
		n, err := s.f.ReadAt(s.buf[:want], int64(addr/s.pageSize*8))
		n &^= 7
		if n == 0 {
			if err == nil {
				err = errGone
			}
			return fmt.Errorf("reading pagemap at %#x: %w", addr, err)
		}
		for i := 0; i < n; i += 8 {
			v := binary.NativeEndian.Uint64(s.buf[i:])
			var st state
			if v&(bitPresent|bitSwapped) != 0 {
				if v&bitPresent != 0 {
					st |= statePresent
				}
				if v&bitSwapped != 0 {
					st |= stateSwapped
				}
				if v&bitFile != 0 {
					st |= stateFile
				}
			}
			if st != run.state {
				if err := flush(); err != nil {
					return err
				}
				run = region{addr, addr, st}
			}
			addr += s.pageSize
			run.end = addr
		}
	}
	return flush()
}
