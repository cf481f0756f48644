package applog

import (
	"context"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/parse"
)

// stream is content that is read once, from its beginning.
type stream struct{ io.Reader }

func (stream) ReadAt([]byte, int64) (int, error) { return 0, errors.New("not here") }
func (stream) Size() int64                       { return 0 }

// letters gives bytes without end.
type letters struct{ c byte }

func (l letters) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = l.c
	}
	return len(p), nil
}

// TestLongLine reads a line of 2 GiB in little memory, and what follows it: text, an object that is never closed, a trace.
func TestLongLine(t *testing.T) {
	for _, c := range []struct {
		head string
		fill byte
	}{{"", 'a'}, {`{"level":"info","msg":"`, 'a'}, {"", '{'}, {"panic: ", '\t'}} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		in, err := parse.NewInput(stream{io.MultiReader(strings.NewReader(c.head), io.LimitReader(letters{c.fill}, 2<<30), strings.NewReader("\nnext\n"))}, event.Event{Artifact: "log"})
		if err != nil {
			t.Fatal(err)
		}
		var last event.Event
		n := 0
		err = Format.Read(context.Background(), in, func(e *event.Event) error {
			if len(e.Message) > 4*maxMessage || len(e.Attributes) > 2*maxRest {
				t.Errorf("%q: a message of %d bytes", c.head, len(e.Message))
			}
			n++
			last = *e
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		if n != 2 || last.Message != "next" || last.Offset != int64(len(c.head))+2<<30+1 {
			t.Errorf("%q: %d events, the last %q at %d", c.head, n, last.Message, last.Offset)
		}
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20 {
			t.Errorf("%q: allocated %d bytes", c.head, grown)
		}
	}
}
