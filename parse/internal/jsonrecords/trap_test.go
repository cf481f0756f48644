package jsonrecords

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/parse"
)

// long is a text over and over, never held.
type long struct {
	text string
	size int64
	at   int64
}

func (l *long) Size() int64 { return l.size }

func (l *long) Read(b []byte) (int, error) {
	n, err := l.ReadAt(b, l.at)
	l.at += int64(n)
	return n, err
}

func (l *long) ReadAt(b []byte, off int64) (int, error) {
	for i := range b {
		if off+int64(i) >= l.size {
			return i, io.EOF
		}
		b[i] = l.text[(off+int64(i))%int64(len(l.text))]
	}
	return len(b), nil
}

// TestTraps: content that would have the reader hold much, or read the same again and again.
func TestTraps(t *testing.T) {
	size := int64(32 << 20)
	if testing.Short() {
		size = 8 << 20
	}
	for name, text := range map[string]string{
		"one line of junk":     "A",
		"NULs":                 "\x00",
		"one string":           `{"a":"` + strings.Repeat("A", 1<<20),
		"lines that nest":      `{"a":[` + "\n",
		"long lines that nest": `{"a":[` + strings.Repeat("{},", 3000) + "\n",
		"brackets":             "[",
		"elements without end": `{"Records":[{"a":!},`,
		"members without end":  `{"Records":[]`,
		"escapes without end":  `{"\`,
	} {
		in, err := parse.NewInput(&long{text: text, size: size}, event.Event{})
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		var held int
		s := &scanner{r: in, skip: in.Skip, o: Options{Members: []string{"Records"}}, indent: -1}
		for {
			rec, err := s.next()
			if err != nil {
				break
			}
			held = max(held, cap(s.buf), len(rec.Data))
		}
		held = max(held, cap(s.buf))
		in.Close()
		if held > 4*maxRecord {
			t.Errorf("%s: %d bytes were held", name, held)
		}
		if took := time.Since(begun); took > 30*time.Second {
			t.Errorf("%s: %d MiB took %v", name, size>>20, took)
		} else {
			t.Logf("%s: %v", name, took)
		}
	}
}

// TestCancelled: a context that ends stops the reading.
func TestCancelled(t *testing.T) {
	in, err := parse.NewInput(bytes.NewReader(bytes.Repeat([]byte("{}\n"), 10_000)), event.Event{})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	n := 0
	err = Read(ctx, in, Options{}, func(Record, Node) (bool, error) { n++; return true, nil })
	if err == nil || n > 1000 {
		t.Errorf("%v after %d records", err, n)
	}
}
