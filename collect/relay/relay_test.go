package relay

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// content is what the tests' collector makes.
func content(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

// serve starts a server that makes content in pieces.
func serve(t *testing.T, s *Server) (socket string) {
	t.Helper()
	s.Dir = t.TempDir()
	socket = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return socket
}

func pieces(b []byte, made *atomic.Int32) Capturer {
	return func(_ context.Context, r *Request, w io.Writer, stage func(string)) (*Result, error) {
		if made != nil {
			made.Add(1)
		}
		stage("memory")
		for i := 0; i < len(b); i += 100_000 {
			if _, err := w.Write(b[i:min(len(b), i+100_000)]); err != nil {
				return nil, err
			}
		}
		stage("seal")
		return &Result{Size: int64(len(b)), SHA256: fmt.Sprintf("%x", sha256.Sum256(b)), ID: r.Target}, nil
	}
}

// ask asks and cuts the stream after limit bytes, -1 never.
func ask(t *testing.T, socket string, r *Request, limit int64, w io.Writer, stage func(string)) (*Result, error) {
	t.Helper()
	var q bytes.Buffer
	if err := WriteRequest(&q, r); err != nil {
		t.Fatal(err)
	}
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(Ask(context.Background(), socket, &q, pw)) }()
	defer pr.Close()
	var in io.Reader = pr
	if limit >= 0 {
		in = io.LimitReader(pr, limit)
	}
	return Fetch(in, w, stage)
}

func TestResume(t *testing.T) {
	want := content(3<<20 + 17)
	var made atomic.Int32
	socket := serve(t, &Server{Capture: pieces(want, &made)})
	var got bytes.Buffer
	var stages []string
	res, cuts := (*Result)(nil), 0
	for range 50 {
		r, err := ask(t, socket, &Request{Job: "a1", Target: "x", Offset: int64(got.Len())}, 400_000, &got, func(s string) { stages = append(stages, s) })
		var b *BrokenError
		if errors.As(err, &b) {
			cuts++
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		res = r
		break
	}
	if res == nil || cuts < 7 || !bytes.Equal(got.Bytes(), want) || res.Size != int64(len(want)) || res.ID != "x" {
		t.Fatalf("%d bytes after %d cuts, result %+v", got.Len(), cuts, res)
	}
	if made.Load() != 1 {
		t.Errorf("made %d times", made.Load())
	}
	if len(stages) == 0 || stages[0] != "memory" {
		t.Errorf("stages %q", stages)
	}
}

func TestDirect(t *testing.T) {
	want := content(5 << 20)
	socket := serve(t, &Server{Capture: pieces(want, nil)})
	var got bytes.Buffer
	if _, err := ask(t, socket, &Request{Job: "d", Direct: true}, -1, &got, nil); err != nil || !bytes.Equal(got.Bytes(), want) {
		t.Fatalf("%d bytes, %v", got.Len(), err)
	}
	if _, err := ask(t, socket, &Request{Job: "d", Direct: true, Offset: 5}, -1, io.Discard, nil); err == nil || !strings.Contains(err.Error(), "can't be continued") {
		t.Errorf("%v", err)
	}
}

// TestGone: whoever asks for a direct package and goes away ends its capture.
func TestGone(t *testing.T) {
	ended := make(chan error, 1)
	socket := serve(t, &Server{Capture: func(ctx context.Context, _ *Request, w io.Writer, _ func(string)) (*Result, error) {
		var err error
		for err == nil {
			_, err = w.Write(make([]byte, 64<<10))
		}
		ended <- context.Cause(ctx)
		return nil, err
	}})
	if _, err := ask(t, socket, &Request{Job: "g", Direct: true}, 1<<20, io.Discard, nil); err == nil {
		t.Error("a cut stream is whole")
	}
	select {
	case err := <-ended:
		if err == nil {
			t.Error("the capture's context did not end")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the capture goes on for nobody")
	}
}

func TestErrors(t *testing.T) {
	socket := serve(t, &Server{Capture: func(context.Context, *Request, io.Writer, func(string)) (*Result, error) {
		return nil, errors.New("no such container")
	}})
	var ce *CollectorError
	if _, err := ask(t, socket, &Request{Job: "a"}, -1, io.Discard, nil); !errors.As(err, &ce) || ce.Words != "no such container" {
		t.Errorf("%v", err)
	}
	if _, err := ask(t, socket, &Request{Job: "new", Offset: 7}, -1, io.Discard, nil); err == nil || !strings.Contains(err.Error(), "not known") {
		t.Errorf("%v", err)
	}
	if _, err := ask(t, socket, &Request{Job: "../x"}, -1, io.Discard, nil); err == nil {
		t.Error("a job named ../x")
	}
}

func TestIdle(t *testing.T) {
	s := &Server{Capture: pieces(nil, nil), Idle: 50 * time.Millisecond, Dir: t.TempDir()}
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(context.Background(), l) }()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it waits for ever")
	}
}

func FuzzFetch(f *testing.F) {
	var b bytes.Buffer
	_ = writeFrame(&b, kindStage, []byte("memory"))
	_ = writeFrame(&b, kindData, []byte("bytes"))
	_ = writeFrame(&b, kindResult, []byte(`{"size":5}`))
	f.Add(b.Bytes())
	f.Add([]byte("E\x00\x00\x00\x02no"))
	f.Add([]byte("D\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var out bytes.Buffer
		res, err := Fetch(bytes.NewReader(in), &out, func(string) {})
		if (res == nil) == (err == nil) {
			t.Errorf("%+v and %v", res, err)
		}
		if out.Len() > len(in) {
			t.Errorf("%d bytes out of %d", out.Len(), len(in))
		}
	})
}

func FuzzRequest(f *testing.F) {
	var b bytes.Buffer
	_ = WriteRequest(&b, &Request{Job: "a1", Target: "containerd://k8s.io/x", Records: []Record{{Name: "pod.json", Data: []byte("{}")}}})
	f.Add(b.Bytes())
	f.Add([]byte("\xff\xff\xff\xff{}"))
	f.Fuzz(func(t *testing.T, in []byte) {
		if r, err := readRequest(bytes.NewReader(in)); err == nil && !jobName.MatchString(r.Job) {
			t.Errorf("job %q", r.Job)
		}
	})
}

// TestStill ends a question whose asker is gone although nothing says so.
func TestStill(t *testing.T) {
	if err := pass(io.Discard, strings.NewReader("answer"), time.Minute); err != nil {
		t.Errorf("an answer that is taken ends with %v", err)
	}
	r, w := io.Pipe()
	defer r.Close()
	if err := pass(w, strings.NewReader("answer"), 20*time.Millisecond); err == nil {
		t.Error("an answer that nobody takes ends well")
	}
}

// TestQuit ends a server that is told to, and answers without one.
func TestQuit(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Dir: t.TempDir()}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(context.Background(), l) }()
	var question, answer bytes.Buffer
	if err := WriteRequest(&question, &Request{Job: "quit", Quit: true}); err != nil {
		t.Fatal(err)
	}
	again := bytes.NewReader(question.Bytes())
	if err := Ask(t.Context(), socket, &question, &answer); err != nil {
		t.Fatal(err)
	}
	if _, err := Fetch(&answer, io.Discard, nil); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	answer.Reset()
	if quit, err := Answer(t.Context(), again, &answer, nil); err != nil || !quit {
		t.Errorf("without a server: %v, %v", quit, err)
	}
}
