package filesystem

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/safefs"
)

// item is what the walk found at one path: rows for the inventory and at most one object for the package.
type item struct {
	rows []record.File
	// sums has for each row the content that its hash comes from, nil for none.
	sums []*content
	// object is set when rows[0] is to be kept in the package; body is its content if it is a regular file.
	object *evidence.Meta
	body   *content
	// same: rows[0] (root) and rows[1] (image) have the same metadata. If their hashes agree too they become one row, and
	// the object isn't needed.
	same bool
	// of is the source that the kept object belongs to, for its coverage entries: "filesystem" or "volumes".
	of string
}

// pipeline carries items from the walk to the package in the walk's order, while workers read and hash ahead. Only one
// goroutine writes, because artifacts go into the package one after another.
type pipeline struct {
	w      *evidence.Writer
	lines  *evidence.Lines
	queue  chan *item
	jobs   chan job
	ahead  *semaphore.Weighted
	bufs   [len(bufSizes)]sync.Pool
	rows   int64
	missed [2]atomic.Bool // filesystem, volumes
	leases safefs.Leases
	proc   string // where the machine's /proc is seen
}

type job struct {
	c    *content
	keep bool // it goes into the package: read it ahead, don't hash it
	hold bool // leave the file open for the writer
}

// bufSizes are the sizes of the buffers for files read ahead.
var bufSizes = [...]int{16 << 10, 128 << 10, smallFile}

const (
	queueLen   = 256
	streamSize = 512 << 10
)

func newPipeline(w *evidence.Writer) *pipeline {
	return &pipeline{
		w: w, lines: w.Lines("filesystem/inventory.jsonl", "a walk through the writable layer, the image's layers and the mounts"),
		queue: make(chan *item, queueLen), jobs: make(chan job, 16), ahead: semaphore.NewWeighted(readAhead),
	}
}

// run starts walk and does what it asks for, until it ends.
func (p *pipeline) run(ctx context.Context, walk func(context.Context) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(p.queue)
		defer close(p.jobs)
		return walk(ctx)
	})
	for range max(runtime.GOMAXPROCS(0), 2) {
		g.Go(func() error {
			buf := make([]byte, streamSize)
			for j := range p.jobs {
				p.work(j, buf)
				if ctx.Err() != nil {
					return ctx.Err()
				}
			}
			return nil
		})
	}
	g.Go(func() error { return p.sink(ctx) })
	err := g.Wait()
	for it := range p.queue {
		p.drop(it)
	}
	// Also when the capture was stopped: what was found until then is sealed.
	if cerr := p.lines.Close(); err == nil {
		err = cerr
	}
	return err
}

func (p *pipeline) work(j job, buf []byte) {
	defer close(j.c.done)
	if !j.keep {
		j.c.hash(buf)
		j.c.settled()
		if !j.hold {
			j.c.close()
		}
		return
	}
	class := classOf(j.c.size)
	b, _ := p.bufs[class].Get().([]byte)
	if b == nil {
		b = make([]byte, bufSizes[class])
	}
	j.c.readInto(b)
	j.c.settled()
	j.c.close()
}

func classOf(size int64) int {
	for i, n := range bufSizes {
		if size <= int64(n) {
			return i
		}
	}
	return len(bufSizes) - 1
}

// release gives back what a content holds.
func (p *pipeline) release(c *content) {
	if c == nil {
		return
	}
	c.close()
	if c.ahead > 0 {
		p.bufs[classOf(c.size)].Put(c.data[:0:bufSizes[classOf(c.size)]]) //nolint:staticcheck // a slice header per megabyte is nothing
		p.ahead.Release(int64(c.ahead))
		c.data, c.ahead = nil, 0
	}
}

func (p *pipeline) drop(it *item) {
	p.release(it.body)
	for _, c := range it.sums {
		p.release(c)
	}
}

// hash asks for a content to be hashed; the result is there when done is closed.
func (p *pipeline) hash(ctx context.Context, c *content, hold bool) error {
	return p.submit(ctx, job{c: c, hold: hold})
}

// prefetch asks for a content that will be kept. A large one is read by the writer itself.
func (p *pipeline) prefetch(ctx context.Context, c *content) error {
	if c.size > smallFile || c.extents != nil || c.size == 0 {
		close(c.done)
		return nil
	}
	n := bufSizes[classOf(c.size)]
	if err := p.ahead.Acquire(ctx, int64(n)); err != nil {
		return err
	}
	c.ahead = n
	return p.submit(ctx, job{c: c, keep: true})
}

func (p *pipeline) submit(ctx context.Context, j job) error {
	select {
	case p.jobs <- j:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *pipeline) put(ctx context.Context, it *item) error {
	select {
	case p.queue <- it:
		return nil
	case <-ctx.Done():
		p.drop(it)
		return ctx.Err()
	}
}

func (p *pipeline) sink(ctx context.Context) error {
	buf := make([]byte, streamSize)
	for it := range p.queue {
		err := p.finish(ctx, it, buf)
		p.drop(it)
		if err != nil {
			return err
		}
	}
	return nil
}

func wait(ctx context.Context, c *content) error {
	if c == nil {
		return nil
	}
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *pipeline) finish(ctx context.Context, it *item, buf []byte) error {
	for i, c := range it.sums {
		if err := wait(ctx, c); err != nil {
			return err
		}
		if c != nil {
			r := &it.rows[i]
			r.SHA256, r.Magic = c.sum, c.magic
			p.fault(r, c, it.of)
		}
	}
	if err := wait(ctx, it.body); err != nil {
		return err
	}
	if it.same {
		a, b := it.sums[0], it.sums[1]
		if a == nil || b == nil || a.sum == b.sum && a.sum != "" {
			it.rows[0].Tree = record.TreeBoth
			it.rows[0].Layer, it.rows[0].LayerDigest = it.rows[1].Layer, it.rows[1].LayerDigest
			it.rows = append(it.rows[:1], it.rows[2:]...)
			it.object, it.body = nil, nil
		}
	}
	if it.object != nil {
		if err := p.keep(it, buf); err != nil {
			return err
		}
	}
	for i := range it.rows {
		p.rows++
		if err := p.lines.Write(&it.rows[i]); err != nil {
			return err
		}
	}
	return nil
}

// keep writes the object into the package. The hash that the package needs anyway is the row's.
func (p *pipeline) keep(it *item, buf []byte) error {
	r := &it.rows[0]
	c := it.body
	var e evidence.Entry
	var err error
	filled := false
	switch {
	case c == nil:
		e, err = p.w.Add(*it.object, nil)
	case int64(len(c.data)) == c.size && c.size > 0 && it.object.Key == "":
		it.object.Errors = append(it.object.Errors, c.errs...)
		e, err = p.w.Add(*it.object, c.data)
	default:
		it.object.Sparse = c.sparse()
		it.object.Errors = append(it.object.Errors, c.errs...)
		e, err = p.w.Stream(*it.object, c.size, func(w io.Writer) error {
			filled = true
			return c.fill(w, buf)
		})
	}
	if err != nil {
		return fmt.Errorf("keeping %q: %w", it.object.Path, err)
	}
	if e.Path != "" && c != nil {
		r.Artifact = record.Escape(e.Path)
	}
	if c == nil {
		return nil
	}
	if filled && c.data == nil {
		c.settled()
	}
	switch {
	case r.SHA256 != "" || r.Metacopy:
	case e.HashOf == "":
		r.SHA256 = e.SHA256
	default:
		c.fault("not hashed: %d bytes of holes", c.holes())
	}
	if r.Magic == nil {
		r.Magic = c.magic
	}
	for _, s := range e.Errors {
		c.errs = appendNew(c.errs, s)
	}
	p.fault(r, c, it.of)
	return nil
}

func appendNew(list []string, s string) []string {
	for _, t := range list {
		if t == s {
			return list
		}
	}
	return append(list, s)
}

// fault puts what went wrong with a content into its row and into the coverage.
func (p *pipeline) fault(r *record.File, c *content, of string) {
	if len(c.errs) == 0 {
		return
	}
	text := ""
	for i, s := range c.errs {
		if i > 0 {
			text += "; "
		}
		text += s
	}
	if r.Error == text {
		return
	}
	r.Error = text
	p.miss(of, record.Miss{What: "content of " + record.Escape(string(r.Path)), Reason: text, Partial: true})
}

// miss adds a coverage entry.
func (p *pipeline) miss(of string, m record.Miss) {
	m.Kind = of
	m.Count = max(m.Count, 1)
	if !m.Deliberate {
		i := 0
		if of == kindVolumes {
			i = 1
		}
		p.missed[i].Store(true)
	}
	p.w.Miss(m)
}
