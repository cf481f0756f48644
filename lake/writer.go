package lake

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/cespare/xxhash/v2"
	"github.com/parquet-go/parquet-go"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/parse"
)

// encoders is how many buffers are encoded at a time, beside the parser: on two cores a second one only takes memory and its time from
// the parser.
func encoders() int { return min(2, max(1, runtime.GOMAXPROCS(0)-1)) }

// Writer makes a lake in an empty folder. Events may come in any order; the nearer to the order of time, the faster the lake. It is for
// one goroutine.
type Writer struct {
	dir  string
	buf  *buffer
	free chan *buffer
	full chan *job
	base int64
	row  int64 // of the first in buf
	seq  int

	wg    sync.WaitGroup
	mu    sync.Mutex // of what follows
	turn  *sync.Cond
	next  int // the job that may commit
	err   error
	man   Manifest
	runs  map[int]*run
	index *output
}

// run is a Parquet file that is being written: of buffersPerRun jobs in a row.
type run struct {
	*output
	pw *parquet.GenericWriter[any]
}

type job struct {
	seq int
	buf *buffer
}

// NewWriter begins a lake in dir, which must be there and empty. Its rows are numbered from base, so that those of lakes that are
// queried together differ.
func NewWriter(dir string, base int64) (*Writer, error) {
	n := encoders()
	w := &Writer{dir: dir, row: base, base: base, free: make(chan *buffer, n+1), full: make(chan *job, 1)}
	w.turn = sync.NewCond(&w.mu)
	w.runs = map[int]*run{}
	w.man = Manifest{Version: formatVersion, First: math.MaxInt64, Last: math.MinInt64}
	var err error
	if w.index, err = create(dir, textName); err != nil {
		return nil, err
	}
	for range n + 1 {
		w.free <- newBuffer()
	}
	for range n {
		w.wg.Add(1)
		go w.encode()
	}
	w.buf = <-w.free
	return w, nil
}

// Write adds an event, whose strings and attributes are copied.
func (w *Writer) Write(e *event.Event) error {
	if w.buf == nil {
		return errors.New("the lake is written already")
	}
	if !w.buf.add(e) {
		return nil
	}
	return w.flush()
}

// Events is how many were written so far.
func (w *Writer) Events() int64 { return w.row - w.base + int64(w.buf.n) }

func (w *Writer) flush() error {
	w.mu.Lock()
	err := w.err
	w.mu.Unlock()
	if err != nil {
		return err
	}
	w.buf.first = w.row
	w.row += int64(w.buf.n)
	w.full <- &job{w.seq, w.buf}
	w.seq++
	w.buf = <-w.free
	return nil
}

// Abort ends the writer and leaves what it wrote, which is no lake.
func (w *Writer) Abort() {
	if w.buf == nil {
		return
	}
	w.buf = nil
	close(w.full)
	w.wg.Wait()
	w.drop()
}

func (w *Writer) drop() {
	for _, r := range w.runs {
		r.f.Close()
	}
	w.index.f.Close()
}

// Close writes what is left, and the manifest with the key and report given; then the lake is whole and on the disk.
func (w *Writer) Close(key string, report *parse.Report) (*Manifest, error) {
	if w.buf == nil {
		return nil, errors.New("the lake is written already")
	}
	var err error
	if w.buf.n > 0 {
		err = w.flush()
	}
	w.buf = nil
	close(w.full)
	w.wg.Wait()
	if err == nil {
		err = w.err
	}
	for _, r := range w.runs { // at most the last
		if err == nil {
			err = w.endRun(r)
		}
	}
	if err == nil {
		err = w.end(w.index)
	}
	if err != nil {
		w.drop()
		return nil, fmt.Errorf("writing the index of events: %w", err)
	}
	m := &w.man
	m.Key, m.Report, m.Events = key, report, w.row-w.base
	if m.First > m.Last {
		m.First, m.Last = 0, 0
	}
	b, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	o, err := create(w.dir, manifestName)
	if err != nil {
		return nil, err
	}
	if _, err := o.Write(b); err != nil {
		o.f.Close()
		return nil, err
	}
	if err := errors.Join(o.f.Sync(), o.f.Close(), syncDir(w.dir)); err != nil {
		return nil, err
	}
	return m, nil
}

// output is a file of the lake that is hashed while it is written.
type output struct {
	name string
	f    *os.File
	size int64
	sum  *xxhash.Digest
}

func create(dir, name string) (*output, error) {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("writing the index of events: %w", err)
	}
	return &output{name: name, f: f, sum: xxhash.New()}, nil
}

func (o *output) Write(b []byte) (int, error) {
	n, err := o.f.Write(b)
	o.size += int64(n)
	_, _ = o.sum.Write(b[:n]) // a hash takes everything
	return n, err
}

// end closes a file and lists it.
func (w *Writer) end(o *output) error {
	if err := errors.Join(o.f.Sync(), o.f.Close()); err != nil {
		return err
	}
	d, err := describe(filepath.Join(w.dir, o.name))
	if err != nil {
		return err
	}
	d.Name, d.Hash = o.name, o.sum.Sum64()
	if d.Size != o.size {
		return fmt.Errorf("%s has %d bytes after %d were written", o.name, d.Size, o.size)
	}
	w.man.Files = append(w.man.Files, d)
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// openRun gives the run with that number, which is made if it is not there. The caller holds the lock.
func (w *Writer) openRun(n int) (*run, error) {
	if r := w.runs[n]; r != nil {
		return r, nil
	}
	o, err := create(w.dir, fmt.Sprintf("run-%06d.parquet", n+1))
	if err != nil {
		return nil, err
	}
	r := &run{o, parquet.NewGenericWriter[any](o, options()...)}
	w.runs[n] = r
	return r, nil
}

func (w *Writer) endRun(r *run) error {
	if err := r.pw.Close(); err != nil {
		return err
	}
	return w.end(r.output)
}

// encode takes buffers until there are no more. After an error it only takes them.
func (w *Writer) encode() {
	defer w.wg.Done()
	e := newEncoder()
	for j := range w.full {
		err := w.work(e, j)
		j.buf.reset()
		w.free <- j.buf
		w.mu.Lock()
		if err != nil && w.err == nil {
			w.err = err
		}
		w.next++
		w.turn.Broadcast()
		w.mu.Unlock()
	}
}

// work encodes a job beside the others, and writes it after those before it.
func (w *Writer) work(e *encoder, j *job) error {
	begin := func() (*run, []*parquet.ConcurrentRowGroupWriter, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		r, err := w.openRun(j.seq / buffersPerRun)
		if err != nil {
			return nil, nil, err
		}
		out := make([]*parquet.ConcurrentRowGroupWriter, (j.buf.n+groupRows-1)/groupRows)
		for i := range out {
			out[i] = r.pw.BeginRowGroup()
		}
		return r, out, nil
	}
	r, out, err := begin()
	var groups []Group
	var texts []byte
	if err == nil {
		j.buf.sort()
		groups, texts, err = e.encode(j.buf, out)
	}

	w.mu.Lock()
	for w.next != j.seq {
		w.turn.Wait()
	}
	failed := w.err != nil
	w.mu.Unlock()
	if err != nil || failed {
		return err
	}
	// From here to the increment of next this goroutine is the only one that writes.
	base := w.index.size
	if _, err := w.index.Write(texts); err != nil {
		return err
	}
	for i, g := range groups {
		if _, err := out[i].Commit(); err != nil {
			return err
		}
		g.File, g.Text = j.seq/buffersPerRun, g.Text+base
		w.man.Groups = append(w.man.Groups, g)
		if g.first != 0 {
			w.man.First = min(w.man.First, g.first)
		}
		if g.Max != 0 {
			w.man.Last = max(w.man.Last, g.Max)
		}
	}
	if j.seq%buffersPerRun == buffersPerRun-1 {
		w.mu.Lock()
		delete(w.runs, j.seq/buffersPerRun)
		w.mu.Unlock()
		return w.endRun(r)
	}
	return nil
}
