package relay

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestTight: on a node without room a package comes whole, and resumed, without ever lying there whole.
func TestTight(t *testing.T) {
	want := content(120 << 20)
	s := &Server{Capture: pieces(want, nil), free: func(string) (int64, int64, error) { return 1 << 30, 100 << 30, nil }}
	socket := serve(t, s)
	var got bytes.Buffer
	var stages []string
	var res *Result
	for limit := int64(70 << 20); res == nil; limit = -1 {
		r, err := ask(t, socket, &Request{Job: "t", Offset: int64(got.Len())}, limit, &got, func(s string) { stages = append(stages, s) })
		var b *BrokenError
		if err != nil && !errors.As(err, &b) {
			t.Fatal(err)
		}
		res = r
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Fatalf("%d bytes came, not those that were made", got.Len())
	}
	if !strings.Contains(strings.Join(stages, "\n"), "passes through without staying there") {
		t.Errorf("nobody is told: %q", stages)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(s.Dir, "t.sherd"), &st); err != nil {
		t.Fatal(err)
	}
	if lies := st.Blocks * 512; lies > 60<<20 {
		t.Errorf("%d MiB lie on the node's disk", lies>>20)
	}
	if _, err := ask(t, socket, &Request{Job: "t", Offset: 1}, -1, io.Discard, nil); err == nil || !strings.Contains(err.Error(), "no longer lies on the node") {
		t.Errorf("its beginning, which is gone: %v", err)
	}
}

// TestTightUpload: what must lie on the node whole is refused where there is no room.
func TestTightUpload(t *testing.T) {
	s := &Server{Capture: pieces(content(1<<20), nil), Uploads: &Uploader{}, free: func(string) (int64, int64, error) { return 1 << 30, 100 << 30, nil }}
	socket := serve(t, s)
	_, err := ask(t, socket, &Request{Job: "u", Upload: &Upload{URL: "http://127.0.0.1:1/"}}, -1, io.Discard, nil)
	if err == nil || !strings.Contains(err.Error(), "without --upload") {
		t.Error(err)
	}
}

// TestQuestion: other kinds of questions, and what the collector says first.
func TestQuestion(t *testing.T) {
	s := &Server{Questions: map[string]Question{
		"pid": func(_ context.Context, r *Request) (any, error) {
			return map[string]any{"pid": os.Getpid(), "of": r.Args}, nil
		},
		"fail": func(context.Context, *Request) (any, error) { return nil, errors.New("it can't") },
		"huge": func(context.Context, *Request) (any, error) { return strings.Repeat("x", 2<<20), nil },
	}}
	socket := serve(t, s)
	res, err := ask(t, socket, &Request{Job: "q", Ask: "pid", Args: []byte(`"x"`)}, -1, io.Discard, nil)
	if err != nil || !strings.HasSuffix(string(res.Answer), `"}`) && !strings.Contains(string(res.Answer), `"of":"x"`) {
		t.Fatalf("%+v, %v", res, err)
	}
	if res.Hello == nil || res.Hello.At.UnixNano()-res.Hello.Clock > 10e9 || res.Hello.At.UnixNano() < res.Hello.Clock {
		t.Errorf("the collector's clock: %+v", res.Hello)
	}
	for ask1, want := range map[string]string{"fail": "it can't", "huge": "more than", "other": "same version"} {
		if _, err := ask(t, socket, &Request{Job: "q", Ask: ask1}, -1, io.Discard, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", ask1, err)
		}
	}
}
