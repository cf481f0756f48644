package evidence

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"sync"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/zstd"
)

// pipeline turns the tar stream into frames. Bytes are put into a frame's buffer once and stay there: one goroutine hashes
// contents, workers compress whole frames, and one goroutine writes the frames in order and hashes what it writes. A
// buffer goes back when all of them are done with it, so the number of buffers bounds both memory and lead.
type pipeline struct {
	out     io.Writer
	outHash hash.Hash // of the bytes given to out; belongs to the writing goroutine until drained
	written atomic.Int64
	offset  int64 // of the tar stream: how much went into frames; the producer's

	busy  atomic.Int32 // workers that compress just now
	hurry bool         // what is appended is volatile; the producer's
	cur   *frame
	sum   hash.Hash // of the content that is being appended, nil between contents
	from  int       // up to where the hasher was given the current frame
	free  chan *frame
	work  chan *frame
	order chan *frame
	segs  chan segment
	wg    sync.WaitGroup // hasher and workers
	wrote chan struct{}  // closed when the writing goroutine is done

	frames []frameInfo // the writing goroutine's
	failed atomic.Bool
	errMu  sync.Mutex
	err    error
}

// frame is one buffer on its way.
type frame struct {
	in    []byte // full capacity
	n     int
	out   []byte // compressed, or the header of a stored frame
	hurry bool
	store bool          // in goes into the package as it is, see storedHeader
	sum   uint32        // checksum of the content, of a stored frame
	done  chan struct{} // compressed
	refs  atomic.Int32  // holders: the writer, and each segment that is still to be hashed
}

// segment is a run of one artifact's content: bytes of a frame, or that many zeros of a hole. A segment with done
// set ends the content.
type segment struct {
	frame *frame
	data  []byte
	zeros int64
	sum   hash.Hash
	done  chan struct{}
}

func newPipeline(out io.Writer, workers int) (*pipeline, error) {
	p := &pipeline{out: out, outHash: sha256.New(), wrote: make(chan struct{})}
	buffers := workers*2 + 2
	p.free = make(chan *frame, buffers)
	for range buffers {
		p.free <- &frame{done: make(chan struct{}, 1)}
	}
	p.work = make(chan *frame, buffers)
	p.order = make(chan *frame, buffers)
	p.segs = make(chan segment, 4*buffers)
	for range workers {
		enc, err := newEncoder()
		if err != nil {
			return nil, err
		}
		p.wg.Go(func() {
			for f := range p.work {
				p.compress(enc, f)
				f.done <- struct{}{}
			}
		})
	}
	p.wg.Go(p.hashSegments)
	go p.writeFrames()
	return p, nil
}

// How a frame in a hurry is sampled.
const (
	samples    = 10
	sampleSize = 512
)

// compress makes f ready to be written. A frame in a hurry is stored where others wait behind it, unless a sample of it all but
// vanishes, as zeros do: that is faster to compress than to hash and write.
func (p *pipeline) compress(enc *zstd.Encoder, f *frame) {
	f.store = false
	if f.hurry && (len(p.work) > 0 || len(p.segs) > 1 || p.busy.Load() > 0) {
		// The places are odd, so that a pattern in memory does not hide from all of them.
		var sample []byte
		for k := 1; k <= samples; k++ {
			at := f.n * k / (samples + 1)
			sample = append(sample, f.in[at:min(f.n, at+sampleSize)]...)
		}
		f.out = enc.EncodeAll(sample, f.out[:0])
		if len(f.out) > len(sample)/16 {
			f.store, f.sum = true, checksum(f.in[:f.n])
			return
		}
	}
	p.busy.Add(1)
	f.out = enc.EncodeAll(f.in[:f.n], f.out[:0])
	p.busy.Add(-1)
}

// checksum is what a frame ends with: the low half of XXH64.
func checksum(b []byte) uint32 { return uint32(xxhash.Sum64(b)) }

func (p *pipeline) hashSegments() {
	for s := range p.segs {
		if s.data != nil {
			s.sum.Write(s.data)
		}
		if s.zeros > 0 {
			hashZeros(s.sum, s.zeros)
		}
		p.release(s.frame)
		if s.done != nil {
			close(s.done)
		}
	}
}

var manyZeros [64 << 10]byte

func hashZeros(h hash.Hash, n int64) {
	for n > 0 {
		k := min(n, int64(len(manyZeros)))
		h.Write(manyZeros[:k])
		n -= k
	}
}

func (p *pipeline) writeFrames() {
	defer close(p.wrote)
	for f := range p.order {
		<-f.done
		switch {
		case p.failed.Load():
		case f.store:
			p.frames = append(p.frames, frameInfo{uint32(storedSize(f.n)), uint32(f.n), f.sum})
			p.writeStored(f)
		default:
			sum := binary.LittleEndian.Uint32(f.out[len(f.out)-4:])
			p.frames = append(p.frames, frameInfo{uint32(len(f.out)), uint32(f.n), sum})
			p.write(f.out)
		}
		p.release(f)
	}
}

// writeStored writes a frame whose blocks are raw (RFC 8878, 3.1.1.2.2).
func (p *pipeline) writeStored(f *frame) {
	f.out = appendFrameHeader(f.out[:0], f.n)
	for at := 0; at < f.n && !p.failed.Load(); {
		n := min(f.n-at, rawBlock)
		f.out = appendRawHeader(f.out, n, at+n == f.n)
		p.write(f.out)
		p.write(f.in[at : at+n])
		f.out = f.out[:0]
		at += n
	}
	p.write(binary.LittleEndian.AppendUint32(f.out[:0], f.sum))
}

// write gives bytes to the output; only the writing goroutine, and Close after it, may call it.
func (p *pipeline) write(b []byte) {
	n, err := p.out.Write(b)
	p.outHash.Write(b[:n])
	p.written.Add(int64(n))
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	if err != nil {
		p.fail(fmt.Errorf("writing the package, after %d bytes: %w", p.written.Load(), err))
	}
}

func (p *pipeline) fail(err error) {
	p.errMu.Lock()
	defer p.errMu.Unlock()
	if p.err == nil {
		p.err = err
		p.failed.Store(true)
	}
}

// Err is the first failure of the output, which ends the package.
func (p *pipeline) Err() error {
	if !p.failed.Load() {
		return nil
	}
	p.errMu.Lock()
	defer p.errMu.Unlock()
	return p.err
}

func (p *pipeline) release(f *frame) {
	if f != nil && f.refs.Add(-1) == 0 {
		p.free <- f
	}
}

// space gives the unfilled rest of the current frame, at least one byte. advance says how much of it was filled.
func (p *pipeline) space() []byte {
	if p.cur == nil {
		f := <-p.free
		if f.in == nil {
			f.in = make([]byte, FrameSize)
		}
		f.n = 0
		f.refs.Store(1)
		p.cur = f
	}
	return p.cur.in[p.cur.n:]
}

// advance takes n filled bytes of space as part of the stream. A full frame goes on its way.
func (p *pipeline) advance(n int) {
	p.cur.n += n
	p.offset += int64(n)
	if p.cur.n == len(p.cur.in) {
		p.boundary()
	}
}

// append copies b into the stream.
func (p *pipeline) append(b []byte) error {
	for len(b) > 0 {
		n := copy(p.space(), b)
		p.advance(n)
		b = b[n:]
	}
	return p.Err()
}

// boundary ends the current frame, if it holds anything.
func (p *pipeline) boundary() {
	f := p.cur
	if f == nil || f.n == 0 {
		return
	}
	p.flushSegment()
	f.hurry = p.hurry
	p.cur, p.from = nil, 0
	p.order <- f
	p.work <- f
}

// begin has all that comes from now on hashed into sum, beside the producer.
func (p *pipeline) begin(sum hash.Hash) {
	p.sum, p.from = sum, 0
	if p.cur != nil {
		p.from = p.cur.n
	}
}

// flushSegment hands the hasher what the current frame holds since the last time.
func (p *pipeline) flushSegment() {
	f := p.cur
	if p.sum == nil || f == nil || f.n == p.from {
		return
	}
	f.refs.Add(1)
	p.segs <- segment{frame: f, data: f.in[p.from:f.n], sum: p.sum}
	p.from = f.n
}

// hole has n zeros hashed that are not in the stream.
func (p *pipeline) hole(n int64) {
	p.flushSegment()
	p.segs <- segment{zeros: n, sum: p.sum}
}

// end ends what begin began, and waits until the hasher has seen all of it; it does not wait for compression.
func (p *pipeline) end() {
	p.flushSegment()
	p.sum = nil
	done := make(chan struct{})
	p.segs <- segment{done: done}
	<-done
}

// drain ends the last frame and waits until all is written. Nothing may be appended afterwards.
func (p *pipeline) drain() error {
	p.boundary()
	close(p.work)
	close(p.segs)
	close(p.order)
	p.wg.Wait()
	<-p.wrote
	return p.Err()
}
