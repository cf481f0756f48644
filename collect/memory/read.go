package memory

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/internal/safefs"
)

// A batch is what one read brings: large enough that the cost of the calls vanishes, small enough that a few of them fit
// beside the compressor in memory.
const (
	batchBytes = 4 << 20
	batchSpans = 1024 // IOV_MAX
	batches    = 3
)

// part is a run of bytes in a batch.
type part struct {
	addr uint64
	n    int
	src  source
	m    *mapping
}

type batch struct {
	buf   []byte // batchBytes; the first n are filled
	n     int
	parts []part
	bad   []span // what could not be read, by address; zero in buf
	err   error  // the process is gone, or ctx is: nothing of this batch counts
}

// reader reads the pieces of a plan one after another.
type reader struct {
	proc string
	pid  int
	vm   bool
	mem  *os.File // /proc/PID/mem, which stays with the program that ran when it was opened
	pl   *plan

	local  []unix.Iovec
	remote []unix.RemoteIovec

	file    *safefs.File // of the mapping fileOf
	fileOf  *mapping
	fileErr error
}

// stream writes all pieces to w in order and calls took for each part of each batch once it is read. It ends early,
// with an error, when the process is gone or does not let itself be read in time; what w has then got is whole batches.
func (r *reader) stream(ctx context.Context, w io.Writer, timeout time.Duration, took func(part, []byte), bad func(span)) error {
	// The reader outlives this call where a read hangs or the output fails, so it has a descriptor of its own: ours would be
	// closed under it, and its number soon be another file's.
	fd, err := unix.FcntlInt(r.mem.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "dup", Path: r.mem.Name(), Err: err}
	}
	r.mem = os.NewFile(uintptr(fd), r.mem.Name())
	free, full := make(chan *batch, batches), make(chan *batch, batches)
	for range batches {
		free <- &batch{buf: make([]byte, batchBytes)}
	}
	stopped := make(chan struct{})
	defer close(stopped)
	go r.produce(free, full, stopped)
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		timer.Reset(timeout)
		select {
		case b, ok := <-full:
			switch {
			case !ok:
				return nil
			case b.err != nil:
				return b.err
			}
			at := 0
			for _, p := range b.parts {
				took(p, b.buf[at:at+p.n])
				at += p.n
			}
			for _, s := range b.bad {
				bad(s)
			}
			if _, err := w.Write(b.buf[:b.n]); err != nil {
				return err
			}
			free <- b
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			hung.Add(1) // for good: the reader is left where it hangs
			return fmt.Errorf("reading its memory: %w", errTimeout)
		}
	}
}

// produce fills batches until the plan is done. It may be left behind in a read that hangs, so it shares nothing with the
// other side but batches and the plan, which nobody changes meanwhile.
func (r *reader) produce(free, full chan *batch, stopped <-chan struct{}) {
	defer close(full)
	defer r.closeFile()
	defer r.mem.Close()
	c := cursor{pl: r.pl}
	for {
		var b *batch
		select {
		case <-stopped:
			return
		case b = <-free:
		}
		b.n, b.parts, b.bad, b.err = 0, b.parts[:0], b.bad[:0], nil
		if !c.next(b) {
			return
		}
		r.fill(b)
		if !r.alive() {
			b.err = errGone
		}
		full <- b
		if b.err != nil {
			return
		}
	}
}

// cursor walks over the pieces.
type cursor struct {
	pl    *plan
	m     int    // index of the mapping
	piece int32  // within the mapping
	done  uint64 // bytes of the piece
}

// next lays out a batch; false when nothing is left.
func (c *cursor) next(b *batch) bool {
	for b.n < len(b.buf) && len(b.parts) < batchSpans && c.m < len(c.pl.maps.list) {
		m := &c.pl.maps.list[c.m]
		if c.piece == m.count {
			c.m, c.piece, c.done = c.m+1, 0, 0
			continue
		}
		pc := c.pl.pieces[m.first+c.piece]
		left := uint64(pc.pages)*c.pl.pageSize - c.done
		n := int(min(left, uint64(len(b.buf)-b.n)))
		b.parts = append(b.parts, part{pc.addr + c.done, n, pc.src, m})
		b.n += n
		c.done += uint64(n)
		if uint64(n) == left {
			c.piece, c.done = c.piece+1, 0
		}
	}
	return b.n > 0
}

// fill reads the parts of b, runs of them that process_vm_readv may take in one call.
func (r *reader) fill(b *batch) {
	at := 0
	for i := 0; i < len(b.parts); {
		p := b.parts[i]
		if r.viaVM(p) {
			j, n := i, 0
			r.remote = r.remote[:0]
			for ; j < len(b.parts) && r.viaVM(b.parts[j]); j++ {
				r.remote = append(r.remote, unix.RemoteIovec{Base: uintptr(b.parts[j].addr), Len: b.parts[j].n})
				n += b.parts[j].n
			}
			r.vmread(b, b.buf[at:at+n])
			at += n
			i = j
			continue
		}
		buf := b.buf[at : at+p.n]
		switch p.src {
		case fromZero:
			clear(buf)
		case fromFile:
			r.readFile(b, p, buf)
		default:
			r.readMem(b, p.addr, buf)
		}
		at += p.n
		i++
	}
}

// viaVM: process_vm_readv respects a mapping's permissions, /proc/PID/mem does not need to.
func (r *reader) viaVM(p part) bool {
	return r.vm && p.src <= fromText && p.m.perms&permRead != 0
}

// vmread reads what r.remote names, parts of b, into buf, and goes around what it can't read.
func (r *reader) vmread(b *batch, buf []byte) {
	for len(buf) > 0 {
		r.local = append(r.local[:0], unix.Iovec{Base: &buf[0]})
		r.local[0].SetLen(len(buf))
		n, err := unix.ProcessVMReadv(r.pid, r.local, r.remote, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
			r.vm = false
		}
		if n > 0 {
			buf = buf[n:]
			r.advance(n)
		}
		if len(buf) == 0 {
			return
		}
		if n > 0 && err == nil {
			continue // a short read: the next one fails at once, or goes on
		}
		if !r.vm {
			for _, v := range r.remote {
				r.readMem(b, uint64(v.Base), buf[:v.Len])
				buf = buf[v.Len:]
			}
			return
		}
		// The page at the front is the one that failed. The rest of its page goes the other way.
		v := r.remote[0]
		step := min(v.Len, int(r.pl.pageSize-uint64(v.Base)%r.pl.pageSize))
		r.readMem(b, uint64(v.Base), buf[:step])
		buf = buf[step:]
		r.advance(step)
	}
}

// advance drops n bytes from the front of the remote vectors.
func (r *reader) advance(n int) {
	for n > 0 {
		v := &r.remote[0]
		step := min(n, v.Len)
		v.Base += uintptr(step)
		v.Len -= step
		n -= step
		if v.Len == 0 {
			r.remote = r.remote[1:]
		}
	}
}

// readMem reads through /proc/PID/mem; pages that can't be read are zero and listed.
func (r *reader) readMem(b *batch, addr uint64, buf []byte) {
	for len(buf) > 0 {
		n, err := unix.Pread(int(r.mem.Fd()), buf, int64(addr))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if n > 0 {
			buf, addr = buf[n:], addr+uint64(n)
			continue
		}
		step := min(len(buf), int(r.pl.pageSize-addr%r.pl.pageSize))
		clear(buf[:step])
		b.markBad(addr, uint64(step))
		buf, addr = buf[step:], addr+uint64(step)
	}
}

func (b *batch) markBad(addr, n uint64) {
	if k := len(b.bad); k > 0 && b.bad[k-1].end == addr {
		b.bad[k-1].end += n
		return
	}
	b.bad = append(b.bad, span{addr, addr + n})
}

// readFile takes the bytes from the file behind the mapping. Reading a hole or beyond the end gives zeroes, as the
// process would see them.
func (r *reader) readFile(b *batch, p part, buf []byte) {
	if r.fileOf != p.m {
		r.closeFile()
		r.fileOf = p.m
		r.file, r.fileErr = openMapped(r.proc, r.pid, p.m, r.pl.maps.path(p.m))
	}
	clear(buf)
	if r.fileErr == nil {
		n, err := r.file.ReadAt(buf, int64(p.addr-p.m.start+p.m.offset))
		if err == nil || errors.Is(err, io.EOF) {
			return
		}
		r.fileErr = err
		clear(buf[n:])
	}
	b.markBad(p.addr, uint64(p.n))
}

func (r *reader) closeFile() {
	if r.file != nil {
		r.file.Close() //nolint:errcheck // opened for reading
		r.file = nil
	}
}

// alive says whether the process still runs the program whose memory we began to read: process_vm_readv would go on with
// whatever the pid stands for now, but the descriptor of mem belongs to one address space, and reads nothing, without
// an error, when that is gone.
func (r *reader) alive() bool { return alive(r.mem) }

// It asks for address 0, where nothing is mapped, so that it brings no page into the target: that is an error while the
// address space exists.
func alive(mem *os.File) bool {
	var one [1]byte
	n, err := unix.Pread(int(mem.Fd()), one[:], 0)
	return n > 0 || err != nil
}

// ownPIDs says whether proc numbers processes as we do: process_vm_readv takes our own numbers.
func ownPIDs(proc string) bool {
	self, err := os.Readlink(proc + "/self")
	if err != nil || self != fmt.Sprint(os.Getpid()) {
		return false
	}
	theirs, err1 := os.Readlink(proc + "/self/ns/pid")
	ours, err2 := os.Readlink("/proc/self/ns/pid")
	return err1 == nil && err2 == nil && theirs == ours
}
