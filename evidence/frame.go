package evidence

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// Zstandard frames (RFC 8878) and the seekable format's table
// (https://github.com/facebook/zstd/blob/dev/contrib/seekable_format/zstd_seekable_compression_format.md).

const (
	frameMagic     = 0xFD2FB528
	signatureMagic = 0x184D2A50 // a skippable frame that holds the signed statement
	seekMagic      = 0x184D2A5E // the skippable frame that holds the seek table
	footerMagic    = 0x8F92EAB1
	skipHeader     = 8 // magic and size of a skippable frame
	seekFooter     = 9
	seekEntrySize  = 12
	seekDescriptor = 0x80 // entries carry checksums
)

// frameInfo is one frame as it lies in the file.
type frameInfo struct {
	Compressed uint32 // bytes in the file
	Content    uint32 // bytes of the tar stream; 0 for the signature
	Checksum   uint32 // low half of the content's XXH64, as the frame itself ends with; 0 for the signature
}

// newEncoder makes an encoder for one worker. The content's size and checksum go into each frame: a reader of a package
// that was cut short has nothing else to go by.
func newEncoder() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithWindowSize(FrameSize), zstd.WithSingleSegment(true), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(true))
}

// rawBlock is how many bytes one raw block of a stored frame holds, the most that a block may.
const rawBlock = 128 << 10

// appendFrameHeader begins a stored frame of n bytes: one segment, with checksum, and the content's size in four bytes.
func appendFrameHeader(b []byte, n int) []byte {
	b = binary.LittleEndian.AppendUint32(b, frameMagic)
	b = append(b, 2<<6|0x24)
	return binary.LittleEndian.AppendUint32(b, uint32(n))
}

// appendRawHeader begins a raw block of n bytes.
func appendRawHeader(b []byte, n int, last bool) []byte {
	v := uint32(n) << 3
	if last {
		v |= 1
	}
	return append(b, byte(v), byte(v>>8), byte(v>>16))
}

// storedSize is how long a stored frame of n bytes is in the file.
func storedSize(n int) int {
	return 9 + n + 3*((n+rawBlock-1)/rawBlock) + 4
}

// newDecoder makes a decoder for one worker, which never gives out more than a frame may hold.
func newDecoder() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxFrameSize), zstd.WithDecoderMaxWindow(maxFrameSize),
		zstd.WithDecodeAllCapLimit(true))
}

// decodeFrame decompresses one whole frame into dst's capacity and holds it to what its header and table say.
func decodeFrame(d *zstd.Decoder, dst, frame []byte, want frameInfo) ([]byte, error) {
	if cap(dst) < int(want.Content) {
		dst = make([]byte, 0, want.Content)
	}
	out, err := d.DecodeAll(frame, dst[:0:want.Content])
	if err != nil {
		return nil, err
	}
	if len(out) != int(want.Content) {
		return nil, fmt.Errorf("frame holds %d bytes and should hold %d", len(out), want.Content)
	}
	return out, nil
}

// errShort says that a frame's end lies behind the file's.
var errShort = errors.New("the file ends inside a frame")

// frameError says that what lies at an offset is not a frame that a package may have.
type frameError struct {
	Offset int64
	Why    string
}

func (e *frameError) Error() string { return fmt.Sprintf("at offset %d: %s", e.Offset, e.Why) }

// parsedFrame is the outcome of parseFrame.
type parsedFrame struct {
	frameInfo
	Skippable uint32 // magic of a skippable frame, 0 for one with content
}

// parseFrame finds the extent of the frame that begins at off without decompressing it: it reads the header, and hops
// over the blocks. r must give bytes up to size; the answer is errShort when the file ends before the frame does.
func parseFrame(r io.ReaderAt, off, size int64) (parsedFrame, error) {
	var h [18]byte
	n := min(int64(len(h)), size-off)
	if err := readAt(r, h[:n], off); err != nil {
		return parsedFrame{}, err
	}
	if n < 8 {
		return parsedFrame{}, errShort
	}
	magic := binary.LittleEndian.Uint32(h[:])
	if magic&^0xf == 0x184D2A50 {
		l := int64(binary.LittleEndian.Uint32(h[4:])) + skipHeader
		if magic != signatureMagic && magic != seekMagic {
			return parsedFrame{}, &frameError{off, fmt.Sprintf("a skippable frame of unknown kind %#x", magic)}
		}
		if magic == signatureMagic && l > maxSignature {
			return parsedFrame{}, &frameError{off, fmt.Sprintf("a signature frame of %d bytes", l)}
		}
		p := parsedFrame{frameInfo{Compressed: uint32(min(l, 1<<32-1))}, magic}
		if l > size-off {
			return p, errShort
		}
		return p, nil
	}
	if magic != frameMagic {
		return parsedFrame{}, &frameError{off, fmt.Sprintf("no frame begins here (found %#08x)", magic)}
	}
	// A package's frames are all alike: one segment, with checksum and content size, without dictionary.
	d := h[4]
	if d&0x3f != 0x24 {
		return parsedFrame{}, &frameError{off, fmt.Sprintf("a frame whose header %#02x is not a package's", d)}
	}
	fcs := []int64{1, 2, 4, 8}[d>>6]
	if n < 5+fcs {
		return parsedFrame{}, errShort
	}
	content := uint64(h[5])
	switch fcs {
	case 2:
		content = uint64(binary.LittleEndian.Uint16(h[5:])) + 256
	case 4:
		content = uint64(binary.LittleEndian.Uint32(h[5:]))
	case 8:
		content = binary.LittleEndian.Uint64(h[5:])
	}
	if content == 0 || content > maxFrameSize {
		return parsedFrame{}, &frameError{off, fmt.Sprintf("a frame of %d bytes of content, more than %d", content, maxFrameSize)}
	}
	end, err := blocksEnd(r, off+5+fcs, off, size, int64(content))
	if err != nil {
		return parsedFrame{}, err
	}
	var sum [4]byte
	if end+4 > size {
		return parsedFrame{}, errShort
	}
	if err := readAt(r, sum[:], end); err != nil {
		return parsedFrame{}, err
	}
	return parsedFrame{frameInfo{uint32(end + 4 - off), uint32(content), binary.LittleEndian.Uint32(sum[:])}, 0}, nil
}

// blocksEnd hops from block to block. No block is larger than 128 KiB, and all together little more than the content.
func blocksEnd(r io.ReaderAt, pos, frame, size, content int64) (int64, error) {
	limit := pos + content + content/16 + 1024
	for {
		if pos+3 > size {
			return 0, errShort
		}
		var b [4]byte
		if err := readAt(r, b[:3], pos); err != nil {
			return 0, err
		}
		v := binary.LittleEndian.Uint32(b[:])
		n := int64(v >> 3)
		if n > 128<<10 {
			return 0, &frameError{frame, fmt.Sprintf("its frame has a block of %d bytes", n)}
		}
		switch v >> 1 & 3 {
		case 1: // one byte, repeated
			n = 1
		case 3:
			return 0, &frameError{frame, "its frame has a block of a reserved type"}
		}
		pos += 3 + n
		if pos > limit {
			return 0, &frameError{frame, "its frame is longer than its content could need"}
		}
		if v&1 == 1 {
			break
		}
	}
	if pos > size {
		return 0, errShort
	}
	return pos, nil
}

func readAt(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("reading %d bytes at offset %d: %w", len(b), off, err)
}

// encodeSeekTable is the last frame of a package.
func encodeSeekTable(frames []frameInfo) []byte {
	n := len(frames)*seekEntrySize + seekFooter
	b := make([]byte, 0, skipHeader+n)
	b = binary.LittleEndian.AppendUint32(b, seekMagic)
	b = binary.LittleEndian.AppendUint32(b, uint32(n))
	for _, f := range frames {
		b = binary.LittleEndian.AppendUint32(b, f.Compressed)
		b = binary.LittleEndian.AppendUint32(b, f.Content)
		b = binary.LittleEndian.AppendUint32(b, f.Checksum)
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(len(frames)))
	b = append(b, seekDescriptor)
	return binary.LittleEndian.AppendUint32(b, footerMagic)
}

// errNoSeekTable says that a file does not end with a seek table.
var errNoSeekTable = errors.New("the file does not end with a seek table")

// readSeekTable reads the table at the end of a file. All its numbers are held against the file's size.
func readSeekTable(r io.ReaderAt, size int64) ([]frameInfo, error) {
	if size < skipHeader+seekFooter {
		return nil, errNoSeekTable
	}
	var foot [seekFooter]byte
	if err := readAt(r, foot[:], size-seekFooter); err != nil {
		return nil, err
	}
	if binary.LittleEndian.Uint32(foot[5:]) != footerMagic {
		return nil, errNoSeekTable
	}
	n := int64(binary.LittleEndian.Uint32(foot[:]))
	length := n*seekEntrySize + seekFooter
	if n > maxFrames || length+skipHeader > size {
		return nil, fmt.Errorf("the seek table claims %d frames in a file of %d bytes", n, size)
	}
	if foot[4] != seekDescriptor {
		return nil, fmt.Errorf("the seek table has the descriptor %#02x instead of %#02x", foot[4], seekDescriptor)
	}
	var head [skipHeader]byte
	at := size - length - skipHeader
	if err := readAt(r, head[:], at); err != nil {
		return nil, err
	}
	if binary.LittleEndian.Uint32(head[:]) != seekMagic || int64(binary.LittleEndian.Uint32(head[4:])) != length {
		return nil, fmt.Errorf("the seek table's header at offset %d does not fit its footer, which claims %d frames", at, n)
	}
	frames := make([]frameInfo, 0, n)
	sr := io.NewSectionReader(r, at+skipHeader, n*seekEntrySize)
	buf := make([]byte, seekEntrySize*4096)
	sum := int64(0)
	for len(frames) < int(n) {
		b := buf[:min(len(buf), (int(n)-len(frames))*seekEntrySize)]
		if _, err := io.ReadFull(sr, b); err != nil {
			return nil, fmt.Errorf("reading the seek table: %w", err)
		}
		for ; len(b) > 0; b = b[seekEntrySize:] {
			f := frameInfo{binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:])}
			if f.Content > maxFrameSize || f.Compressed < skipHeader || f.Compressed > maxFrameSize+maxFrameSize/16+1024 {
				return nil, fmt.Errorf("the seek table's frame %d claims %d bytes of content in %d", len(frames), f.Content, f.Compressed)
			}
			sum += int64(f.Compressed)
			frames = append(frames, f)
		}
	}
	if sum != at {
		return nil, fmt.Errorf("the seek table's frames add up to %d bytes and lie in %d", sum, at)
	}
	return frames, nil
}
