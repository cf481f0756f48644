package lake

import (
	"fmt"
	"io"
	"strconv"

	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
	pzstd "github.com/parquet-go/parquet-go/compress/zstd"

	"github.com/sherd-forensics/sherd/event"
)

// options are of every Parquet file that is written.
func options() []parquet.WriterOption {
	return []parquet.WriterOption{
		schema(),
		parquet.Compression(&pzstd.Codec{Level: zstd.SpeedDefault}),
		parquet.DataPageVersion(1),
		parquet.PageBufferSize(1 << 20),
		parquet.DictionaryMaxBytes(4 << 20),
		parquet.ColumnIndexSizeLimit(func([]string) int { return 16 }),
		parquet.CreatedBy("sherd", strconv.Itoa(formatVersion), ""),
	}
}

// FileWriter writes events as one Parquet file, in the order in which they come, for other programs.
type FileWriter struct {
	pw  *parquet.GenericWriter[any]
	enc *encoder
	buf *buffer
	row int64
}

// NewFileWriter begins a file on w.
func NewFileWriter(w io.Writer) *FileWriter {
	return &FileWriter{pw: parquet.NewGenericWriter[any](w, options()...), enc: newEncoder(), buf: newBuffer()}
}

// Write adds an event, which is copied.
func (f *FileWriter) Write(e *event.Event) error {
	if f.buf.add(e) {
		return f.flush()
	}
	return nil
}

func (f *FileWriter) flush() error {
	b := f.buf
	b.first = f.row
	f.row += int64(b.n)
	b.order = b.order[:0]
	for i := range b.n {
		b.order = append(b.order, int32(i))
	}
	out := make([]*parquet.ConcurrentRowGroupWriter, (b.n+groupRows-1)/groupRows)
	for i := range out {
		out[i] = f.pw.BeginRowGroup()
	}
	if _, _, err := f.enc.encode(b, out); err != nil {
		return fmt.Errorf("writing Parquet: %w", err)
	}
	for _, g := range out {
		if _, err := g.Commit(); err != nil {
			return fmt.Errorf("writing Parquet: %w", err)
		}
	}
	b.reset()
	return nil
}

// Close writes what is left and the file's end; w stays the caller's.
func (f *FileWriter) Close() error {
	if f.buf.n > 0 {
		if err := f.flush(); err != nil {
			return err
		}
	}
	if err := f.pw.Close(); err != nil {
		return fmt.Errorf("writing Parquet: %w", err)
	}
	return nil
}
