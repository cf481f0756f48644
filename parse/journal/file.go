package journal

import (
	"bytes"
	"context"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/sherd-forensics/sherd/parse"
)

// Types of objects.
const (
	typeData       = 1
	typeField      = 2
	typeEntry      = 3
	typeDataTable  = 4
	typeFieldTable = 5
	typeArray      = 6
	typeTag        = 7
)

// Flags of objects: how a field is compressed.
const (
	flagXZ   = 1
	flagLZ4  = 2
	flagZstd = 4
)

const (
	leastHeader  = 208 // of the oldest files
	objectHeader = 16
	entryHeader  = 64
	arrayHeader  = 24
	maxHeader    = 64 << 10
	// Flags of the file that a reader must know.
	knownFlags  = 1<<5 - 1
	flagKeyed   = 1 << 2
	flagCompact = 1 << 4
	// Times that bytes must have to be taken for an entry after damage, in microseconds: 1990 to 2100.
	earliest, latest = 631152000e6, 4102444800e6
)

// leastSize of an object, by type.
var leastSize = [...]int64{0, 64, 40, entryHeader, objectHeader, objectHeader, arrayHeader, 64}

// file is a binary journal.
type file struct {
	in      *parse.Input
	p       pages
	header  int64 // its length
	item    int64 // bytes of an item of entries and arrays
	data    int64 // where a field's text begins in its object
	listed  index
	keyed   bool      // hashes of fields are made with a key
	key     [2]uint64 // the file's id
	covered int64     // where the last entry ends that only the index has
	cache   map[int64]field
	cached  int
	zstd    *zstd.Decoder
	left    int64 // bytes that may still be expanded
	buf     []byte
	fields  []field
	text    []byte
}

// object is one object's header.
type object struct {
	at, size int64
	kind     byte
	flags    byte
}

func readBinary(ctx context.Context, in *parse.Input, emit parse.Emit) error {
	r, size, done, err := in.At()
	if err != nil {
		return err
	}
	defer done()
	f := &file{in: in, p: pages{r: r, size: size}, cache: map[int64]field{}, left: 32*size + 256<<20}
	defer func() {
		if f.zstd != nil {
			f.zstd.Close()
		}
	}()
	if !f.open() {
		return f.p.err
	}
	w := newWriter(in, emit)
	if err := f.walk(ctx, w); err != nil {
		return err
	}
	if f.p.err != nil {
		return f.p.err
	}
	return w.end()
}

// open reads the file's header. It is false when nothing of it can be used.
func (f *file) open() bool {
	head := make([]byte, leastHeader)
	if n := f.p.read(head, 0); n < leastHeader {
		if n > 0 {
			f.in.Skip(0, int64(n), "the file ends within its header")
		}
		return false
	}
	if !bytes.HasPrefix(head, []byte(signature)) {
		f.in.Skip(0, 8, "the signature of a journal file is missing")
	}
	flags := le.Uint32(head[12:])
	f.item, f.data = 16, 64
	if flags&flagCompact != 0 {
		f.item, f.data = 4, 72
	}
	if flags&^knownFlags != 0 {
		f.in.Skip(12, 4, "the header has flags of a newer format; the file is read as far as the known one goes")
	}
	f.keyed, f.key = flags&flagKeyed != 0, [2]uint64{le.Uint64(head[24:]), le.Uint64(head[32:])}
	f.header = int64(min(le.Uint64(head[88:]), maxHeader+1))
	if f.header < leastHeader || f.header > maxHeader || f.header%8 != 0 {
		f.in.Skip(88, 8, "the header gives a length that can't be its own")
		f.header = leastHeader
	}
	f.listed = index{f: f, array: int64(min(le.Uint64(head[176:]), 1<<62)), width: 8}
	if f.item == 4 {
		f.listed.width = 4
	}
	f.listed.start()
	return true
}

// object reads the header of the object at an offset. It is not ok when none can stand there.
func (f *file) object(at int64) (object, bool) {
	if at < f.header || at%8 != 0 || at > f.p.size-objectHeader {
		return object{}, false
	}
	b := f.p.at(at) // pages end where an object may begin, never within these 16 bytes, unless it is aligned to 8 bytes only
	if len(b) < objectHeader {
		var own [objectHeader]byte
		if f.p.read(own[:], at) < objectHeader {
			return object{}, false
		}
		b = own[:]
	}
	o := object{at: at, kind: b[0], flags: b[1]}
	size := le.Uint64(b[8:])
	if o.kind < typeData || o.kind > typeTag || size < uint64(leastSize[o.kind]) || size > uint64(f.p.size-at) {
		return object{}, false
	}
	o.size = int64(size)
	return o, o.kind != typeData || o.size > f.data
}

// likely reports whether an object that was found after damage looks like one inside as well: the text of a message may contain anything.
func (f *file) likely(o object) bool {
	var b [96]byte
	n := f.p.read(b[:min(o.size, int64(len(b)))], o.at)
	if b[2]|b[3]|b[4]|b[5]|b[6]|b[7] != 0 {
		return false
	}
	switch o.kind {
	case typeData:
		if o.flags != 0 {
			return o.flags == flagXZ || o.flags == flagLZ4 || o.flags == flagZstd
		}
		i := bytes.IndexByte(b[f.data:n], '=')
		return i < 0 && isName(b[f.data:n]) || i > 0 && isName(b[f.data:int(f.data)+i])
	case typeField:
		return o.flags == 0 && isName(b[40:min(int64(n), max(40, o.size))])
	case typeEntry:
		at := le.Uint64(b[24:])
		return o.flags == 0 && (o.size-entryHeader)%f.item == 0 && o.size > entryHeader && at >= earliest && at < latest
	case typeArray:
		return o.flags == 0 && (o.size-arrayHeader)%f.listed.width == 0 && o.size > arrayHeader
	case typeTag:
		return o.flags == 0 && o.size == 64
	}
	return false
}

// walk goes from object to object, and beside that along the index.
func (f *file) walk(ctx context.Context, w *writer) error {
	at := f.header
	for n := 1; at <= f.p.size-objectHeader; n++ {
		if n%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		o, ok := f.object(at)
		if !ok {
			at = f.resume(ctx, at)
			continue
		}
		// What the index has before this object was passed over: an object before it says that it is longer than it is.
		if err := f.hidden(w, at); err != nil {
			return err
		}
		if o.kind == typeEntry {
			if err := f.entry(w, entry{unlisted: !f.listed.take(at)}, o); err != nil {
				return err
			}
		}
		at += (o.size + 7) &^ 7
	}
	if err := f.hidden(w, f.p.size); err != nil {
		return err
	}
	if tail := f.tail(); tail >= f.p.size {
		f.in.Skip(f.p.size, 0, "the file is cut: its last object should stand further on")
	}
	return ctx.Err()
}

// tail is where the header says that the last object stands.
func (f *file) tail() int64 {
	var b [8]byte
	f.p.read(b[:], 136)
	return int64(min(le.Uint64(b[:]), 1<<62))
}

// hidden emits the entries of the index that stand before an offset and were not found where they stand.
func (f *file) hidden(w *writer, before int64) error {
	for f.listed.next < before {
		at := f.listed.next
		f.listed.advance()
		o, ok := f.object(at)
		if !ok || o.kind != typeEntry || at < f.covered {
			f.in.Skip(at, 0, "the index has an entry where none stands")
			continue
		}
		f.covered = at + o.size // entries don't overlap: one would be read over and over
		if err := f.entry(w, entry{covered: true}, o); err != nil {
			return err
		}
	}
	return nil
}

// resume finds the next object after something that is none. The rest of a file that is not yet used is zeros.
func (f *file) resume(ctx context.Context, from int64) int64 {
	clean := true // zeros alone
	at := from
	for ; at <= f.p.size-objectHeader && ctx.Err() == nil; at += 8 {
		b := f.p.at(at)
		if len(b) < 8 {
			break
		}
		if b[0] >= typeData && b[0] <= typeTag && at > from {
			if o, ok := f.object(at); ok && f.likely(o) {
				break
			}
			if b = f.p.at(at); len(b) < 8 {
				break
			}
		}
		if le.Uint64(b) != 0 {
			clean = false
		}
	}
	if at > f.p.size-objectHeader {
		at = f.p.size
		if clean {
			return at
		}
	}
	if clean {
		f.in.Skip(from, at-from, "zero bytes where objects should stand")
	} else {
		f.in.Skip(from, at-from, "it is no object of a journal")
	}
	return at
}

// entry reads an entry and its fields.
func (f *file) entry(w *writer, e entry, o object) error {
	items := (o.size - entryHeader) / f.item
	e.offset, e.length, e.fields = o.at, o.size, f.fields[:0]
	if items > maxFields {
		e.left = int(min(items-maxFields, 1<<31))
		items = maxFields
	}
	need := int(entryHeader + items*f.item)
	if cap(f.buf) < need {
		f.buf = make([]byte, need)
	}
	b := f.buf[:need]
	if f.p.read(b, o.at) < need {
		return f.p.err
	}
	e.realtime = le.Uint64(b[24:])
	kept := 0
	sum, summed := uint64(0), true
	for i := range items {
		item := b[entryHeader+i*f.item:]
		at := int64(le.Uint32(item))
		if f.item == 16 {
			at = int64(min(le.Uint64(item), 1<<62))
		}
		if at == 0 {
			continue
		}
		if kept > maxEntry {
			e.left++
			continue
		}
		fd, why := f.field(at)
		if why != "" {
			e.unread++
			f.in.Skip(o.at, o.size, why)
			continue
		}
		if e.message == 0 && fd.name == "MESSAGE" {
			e.message = at
		}
		kept += len(fd.value)
		sum ^= fd.sum
		summed = summed && fd.summed
		e.fields = append(e.fields, fd)
	}
	f.fields = e.fields
	e.altered = summed && e.left+e.unread == 0 && sum != le.Uint64(b[56:])
	return w.write(&e)
}

// check compares a field with the hash that its object has of it.
func (f *file) check(fd *field, o object, text []byte) {
	var want [8]byte
	f.p.read(want[:], o.at+objectHeader)
	fd.sum, fd.summed = jenkins(text), true
	own := fd.sum
	if f.keyed {
		own = sipHash(f.key[0], f.key[1], text)
	}
	fd.altered = own != le.Uint64(want[:])
}

const (
	maxCached      = 4096 // fields
	maxCachedBytes = 4 << 20
)

// field reads the field at an offset; why says that it can't be read.
func (f *file) field(at int64) (fd field, why string) {
	if fd, ok := f.cache[at]; ok {
		return fd, ""
	}
	o, ok := f.object(at)
	if !ok || o.kind != typeData {
		return field{}, "an entry names a field where none stands"
	}
	b, whole, why := f.payload(o)
	if why != "" {
		return field{}, why
	}
	if fd, ok = split(b, whole); !ok {
		return field{}, "a field has no name"
	}
	if whole {
		f.check(&fd, o, b)
	}
	if len(f.cache) >= maxCached || f.cached > maxCachedBytes {
		clear(f.cache)
		f.cached = 0
	}
	f.cache[at] = fd
	f.cached += len(fd.name) + len(fd.value)
	return fd, ""
}

// room is how much of a field is read at most.
const room = maxName + 1 + maxMessage

// payload is the beginning of a field's text, and whether it is all of it.
func (f *file) payload(o object) (b []byte, whole bool, why string) {
	size := o.size - f.data
	if o.flags&(flagXZ|flagLZ4|flagZstd) == 0 {
		if f.text == nil {
			f.text = make([]byte, room)
		}
		// Most fields are short: the name says how much is wanted.
		b = f.text[:min(size, maxName+1+maxValue)]
		b = b[:f.p.read(b, o.at+f.data)]
		if int64(len(b)) < size && bytes.HasPrefix(b, []byte("MESSAGE=")) {
			b = f.text[:min(size, room)]
			b = b[:f.p.read(b, o.at+f.data)]
		}
		return b, int64(len(b)) == size, ""
	}
	if o.flags&flagXZ != 0 {
		return nil, false, "a field is compressed with xz, which is not read"
	}
	if f.left <= 0 {
		return nil, false, "the compressed fields expand to more than can be read"
	}
	if o.flags&flagZstd != 0 {
		b, whole, why = f.unZstd(o, size)
	} else {
		src := make([]byte, min(size, room+room/128+16))
		src = src[:f.p.read(src, o.at+f.data)]
		if len(src) < 8 {
			return nil, false, "a compressed field is damaged"
		}
		all := le.Uint64(src)
		var ok bool
		if b, ok = unLZ4(src[8:], room); !ok && len(b) < room {
			why = "a compressed field is damaged"
		}
		whole = uint64(len(b)) == all
	}
	f.left -= int64(len(b)) + 64
	return b, whole, why
}

// unZstd expands the beginning of a field.
func (f *file) unZstd(o object, size int64) (b []byte, whole bool, why string) {
	src := &section{&f.p, o.at + f.data, o.at + f.data + size}
	if f.zstd == nil {
		z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(8<<20), zstd.WithDecoderMaxMemory(64<<20))
		if err != nil {
			return nil, false, "zstd: " + err.Error()
		}
		f.zstd = z
	}
	if err := f.zstd.Reset(src); err != nil {
		return nil, false, "a compressed field is damaged"
	}
	b = make([]byte, room+1)
	n, err := io.ReadFull(f.zstd, b)
	if err == nil {
		return b[:room], false, ""
	}
	if err != io.EOF && err != io.ErrUnexpectedEOF { //nolint:errorlint // ReadFull gives them as they are
		return nil, false, "a compressed field is damaged"
	}
	return b[:n], true, ""
}

// section reads a part of the file from its beginning.
type section struct {
	p       *pages
	at, end int64
}

func (s *section) Read(b []byte) (int, error) {
	from := s.p.at(s.at)
	if len(from) == 0 || s.at >= s.end {
		return 0, io.EOF
	}
	n := copy(b, from[:min(int64(len(from)), s.end-s.at)])
	s.at += int64(n)
	return n, nil
}
