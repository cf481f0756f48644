// Package core reads the memory of one process out of its core in a package: by address, and as a stream of windows that are looked at
// side by side and answered in order. Whatever the core holds is an intruder's to choose, so that nothing of it is taken for a size.
package core

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"

	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
)

const (
	// WindowSize is how much is looked at in one piece, a frame of the package.
	WindowSize = 1 << 20
	// Before is how much of what lies before a window is shown with it.
	Before = 64
	// After is how much of what lies behind it is, so that nothing is cut in two: no value that is looked for is longer.
	After = 16 << 10
)

// Run is a stretch of memory that the core holds.
type Run struct {
	Addr    uint64
	Offset  int64 // in the artifact
	Length  int64
	Mapping int // index into Image.Maps, -1 if it belongs to none
}

// Image is the memory of one process, or a file that is looked at as if it were.
type Image struct {
	Artifact string // its path
	Maps     []record.Mapping
	Runs     []Run // by address
	Bytes    int64 // of all runs

	r    io.ReaderAt
	size int64
}

// ErrNone says that a package holds no core of a process.
var ErrNone = errors.New("its memory is not in the package")

// Open opens the core of the process whose folder in the package is dir, with its mappings.
func Open(p *evidence.Package, dir string, maps []record.Mapping) (*Image, error) {
	path := dir + "/core"
	if e, ok := p.Artifact(path); !ok || e.SHA256 == "" {
		return nil, ErrNone
	}
	a, err := p.Open(path)
	if err != nil {
		return nil, err
	}
	m := &Image{Artifact: path, Maps: maps, r: a, size: a.Size()}
	extents := a.Extents()
	sparse := extents != nil
	for i := range maps {
		for _, s := range maps[i].Segments {
			m.add(Run{s.Addr, s.CoreOffset, s.Length, i}, extents, sparse)
		}
	}
	slices.SortStableFunc(m.Runs, func(a, b Run) int { return cmp.Or(cmp.Compare(a.Addr, b.Addr), cmp.Compare(a.Offset, b.Offset)) })
	return m, nil
}

// File makes an image of a file: one run from address 0 on, of no mapping.
func File(artifact string, r io.ReaderAt, size int64) *Image {
	return &Image{Artifact: artifact, r: r, size: size, Bytes: size, Runs: []Run{{Length: size, Mapping: -1}}}
}

// maxRuns bounds the runs of one core.
const maxRuns = 1 << 20

// add takes a segment as far as the core has it, without its holes.
func (m *Image) add(r Run, extents []evidence.Extent, sparse bool) {
	if r.Offset < 0 || r.Length <= 0 || r.Offset >= m.size {
		return
	}
	r.Length = min(r.Length, m.size-r.Offset)
	if !sparse {
		m.take(r)
		return
	}
	k, _ := slices.BinarySearchFunc(extents, r.Offset, func(x evidence.Extent, off int64) int { return cmp.Compare(x.Offset+x.Length-1, off) })
	for ; k < len(extents) && extents[k].Offset < r.Offset+r.Length; k++ {
		from, to := max(r.Offset, extents[k].Offset), min(r.Offset+r.Length, extents[k].Offset+extents[k].Length)
		if from < to {
			m.take(Run{r.Addr + uint64(from-r.Offset), from, to - from, r.Mapping})
		}
	}
}

// take appends a run, to the one before if it goes on where that ends.
func (m *Image) take(r Run) {
	// A package whose segments overlap could make us read its core over and over.
	if len(m.Runs) >= maxRuns || m.Bytes+r.Length > 2*m.size {
		return
	}
	m.Bytes += r.Length
	if n := len(m.Runs); n > 0 {
		last := &m.Runs[n-1]
		if last.Mapping == r.Mapping && last.Addr+uint64(last.Length) == r.Addr && last.Offset+last.Length == r.Offset {
			last.Length += r.Length
			return
		}
	}
	m.Runs = append(m.Runs, r)
}

// Find is the run that holds an address, nil if none does.
func (m *Image) Find(addr uint64) *Run {
	i, _ := slices.BinarySearchFunc(m.Runs, addr, func(r Run, a uint64) int {
		switch {
		case a < r.Addr:
			return 1
		case a-r.Addr >= uint64(r.Length):
			return -1
		}
		return 0
	})
	if i < len(m.Runs) && addr >= m.Runs[i].Addr && addr-m.Runs[i].Addr < uint64(m.Runs[i].Length) {
		return &m.Runs[i]
	}
	return nil
}

// Read gives up to n bytes from an address on, as far as they lie side by side in memory and the core has them. An error is that of
// reading the package.
func (m *Image) Read(addr uint64, n int) ([]byte, error) {
	var out []byte
	for len(out) < n {
		r := m.Find(addr)
		if r == nil {
			return out, nil
		}
		at := int64(addr - r.Addr)
		b := make([]byte, min(int64(n-len(out)), r.Length-at))
		k, err := m.r.ReadAt(b, r.Offset+at)
		if out == nil {
			out = b[:k]
		} else {
			out = append(out, b[:k]...)
		}
		if k < len(b) {
			if errors.Is(err, io.EOF) {
				return out, nil
			}
			return out, err
		}
		addr += uint64(k)
	}
	return out, nil
}

// Window is a part of a run with a little of what lies around it.
type Window struct {
	Bytes    []byte
	From, To int    // of Bytes: what is this window's own; the rest belongs to those beside it
	Addr     uint64 // of Bytes[0]
	Offset   int64  // of Bytes[0], in the artifact
	Run      *Run
}

// Scan has look look at every window of the image, several at a time, and hands what it says to take, in the order of addresses. It
// ends early when take says false. progress, which may be nil, is told the bytes looked at so far. An error is ctx's, or that of
// reading: then everything before it was taken.
func Scan[T any](ctx context.Context, m *Image, look func(Window) T, take func(T) bool, progress func(done int64)) error {
	type answer struct {
		v   T
		n   int64
		err error
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	workers := max(runtime.GOMAXPROCS(0), 1)
	queue := make(chan chan answer, workers)
	slots := make(chan []byte, workers)
	for range workers {
		slots <- make([]byte, Before+WindowSize+After)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() {
		defer close(queue)
		for i := range m.Runs {
			r := &m.Runs[i]
			for at := int64(0); at < r.Length; at += WindowSize {
				out := make(chan answer, 1)
				var buf []byte
				select {
				case buf = <-slots:
				case <-ctx.Done():
					return
				}
				select {
				case queue <- out:
				case <-ctx.Done():
					return
				}
				wg.Go(func() {
					defer func() { slots <- buf }()
					w, err := m.window(buf, r, at)
					a := answer{n: min(WindowSize, r.Length-at), err: err}
					if err == nil {
						a.v = look(w)
					}
					out <- a
				})
			}
		}
	})
	done := int64(0)
	for out := range queue {
		a := <-out
		if a.err != nil {
			return a.err
		}
		done += a.n
		if progress != nil {
			progress(done)
		}
		if !take(a.v) {
			return nil
		}
	}
	return ctx.Err()
}

func (m *Image) window(buf []byte, r *Run, at int64) (Window, error) {
	from := max(0, at-Before)
	to := min(r.Length, at+WindowSize+After)
	b := buf[:to-from]
	if _, err := m.r.ReadAt(b, r.Offset+from); err != nil && !errors.Is(err, io.EOF) {
		return Window{}, fmt.Errorf("memory at %#x: %w", r.Addr+uint64(from), err)
	}
	return Window{Bytes: b, From: int(at - from), To: int(min(at+WindowSize, r.Length) - from), Addr: r.Addr + uint64(from), Offset: r.Offset + from, Run: r}, nil
}
