package cluster

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/url"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/sherd-forensics/sherd/collect/relay"
	"github.com/sherd-forensics/sherd/target/kubernetes"
)

// patience is how long a broken stream is taken up again without progress: an API server that is started anew takes up to a minute.
const patience = 3 * time.Minute

// maxPause is the longest between two tries.
const maxPause = 5 * time.Second

// Capture has the collector make a package and writes it to w. A stream that breaks is taken up where it was cut: the package
// waits on the node.
func (s *Session) Capture(ctx context.Context, req relay.Request, w io.Writer, stage func(string)) (*relay.Result, error) {
	if req.Job == "" {
		id, err := randomID()
		if err != nil {
			return nil, err
		}
		req.Job = id
	}
	out := &received{w: w, sum: sha256.New()}
	var lost time.Time
	for failed := 0; ; {
		before, began := out.n, time.Now()
		req.Offset = out.n
		res, err := s.question(ctx, &req, out, stage)
		if err == nil {
			if req.Upload != nil || req.Ask != "" {
				return res, nil
			}
			return res, out.check(res)
		}
		var broken *relay.BrokenError
		var denied *kubernetes.DeniedError
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		// A server that has just started refuses for a moment what it allowed before.
		if !errors.As(err, &broken) && (!errors.As(err, &denied) || !s.spoken.Load()) || req.Direct {
			return nil, err
		}
		if out.n > before || time.Since(began) > 2*maxPause {
			failed, lost = 0, time.Time{}
		}
		if lost.IsZero() {
			lost = time.Now()
		}
		if failed++; time.Since(lost) > patience {
			return nil, fmt.Errorf("%w; it was asked for again for %s, %d times", err, patience, failed)
		}
		if err := s.alive(ctx); err != nil {
			return nil, err
		}
		if req.Ask == "" {
			s.stage(fmt.Sprintf("the stream broke off at %d bytes and is taken up again", out.n))
		}
		if err := pause(ctx, min(time.Duration(failed*failed)*250*time.Millisecond, maxPause)); err != nil {
			return nil, err
		}
		// A collector that has begun the package has the documents. One that never heard of it would make it without them.
		if out.n > 0 {
			req.Records = nil
		}
	}
}

// Ask asks the collector a question of another kind, and puts its answer into to.
func (s *Session) Ask(ctx context.Context, req relay.Request, to any) error {
	res, err := s.Capture(ctx, req, io.Discard, nil)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(res.Answer, to); err != nil {
		return fmt.Errorf("the collector's answer is not in its form: %w", err)
	}
	return nil
}

// alive tells a collector that is gone from a server that does not answer for a while.
func (s *Session) alive(ctx context.Context) error {
	u, err := s.c.Resource(kubernetes.Pods).Namespace(s.o.Namespace).Get(ctx, s.pod, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return errors.New("the collector's pod was deleted while it made the package: what came until then can't be completed")
	}
	if err != nil {
		return nil //nolint:nilerr // the server may come back
	}
	look := s.look
	if s.beside {
		look = s.lookBeside
	}
	if done, _, err := look(u); err != nil && !done {
		return fmt.Errorf("the collector ended while it made the package: %w", err)
	}
	return nil
}

// received is what has come of a package.
type received struct {
	w   io.Writer
	n   int64
	sum hash.Hash
}

func (r *received) Write(b []byte) (int, error) {
	n, err := r.w.Write(b)
	r.n += int64(n)
	r.sum.Write(b[:n])
	return n, err
}

// check holds what came against what the collector says that it made. An encrypted package can't be verified here in any other way.
func (r *received) check(res *relay.Result) error {
	if got := hex.EncodeToString(r.sum.Sum(nil)); r.n != res.Size || got != res.SHA256 {
		return fmt.Errorf("what came is not what the collector made: %d bytes with the SHA-256 %s, instead of %d with %s", r.n, got, res.Size, res.SHA256)
	}
	return nil
}

// question runs `sherd-collector ask` in the collector's own container, and reads its answer.
func (s *Session) question(ctx context.Context, req *relay.Request, w io.Writer, stage func(string)) (*relay.Result, error) {
	var question bytes.Buffer
	if err := relay.WriteRequest(&question, req); err != nil {
		return nil, err
	}
	exec, err := s.exec(s.ask)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pr, pw := io.Pipe()
	asked := time.Now()
	var said bytes.Buffer
	go func() {
		err := exec.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: &question, Stdout: pw, Stderr: &limited{&said, 64 << 10}})
		if err == nil {
			err = io.ErrUnexpectedEOF // the result ends the reading before
		}
		pw.CloseWithError(err)
	}()
	res, err := relay.Fetch(pr, w, stage)
	pr.CloseWithError(io.ErrClosedPipe)
	if err == nil {
		s.spoken.Store(true)
		if res.Hello != nil {
			o := res.Hello.Offset(asked)
			res.Clock = &o
		}
	}
	var broken *relay.BrokenError
	if errors.As(err, &broken) {
		if broken.N > 0 {
			s.spoken.Store(true)
		}
		if apierrors.IsForbidden(broken.Err) {
			return nil, s.c.Explain(broken.Err, "create", kubernetes.Pods, "exec", s.o.Namespace)
		}
		if said.Len() > 0 {
			broken.Err = fmt.Errorf("%w (%s)", broken.Err, bytes.TrimSpace(said.Bytes()))
		}
	}
	return res, err
}

type limited struct {
	b   *bytes.Buffer
	max int
}

func (l *limited) Write(p []byte) (int, error) {
	l.b.Write(p[:min(len(p), max(0, l.max-l.b.Len()))])
	return len(p), nil
}

// exec prepares a command in the collector's container: over a websocket, and for servers before 1.30 over SPDY. The address is put together
// by hand: the generated client that would do it brings every kind of object along.
func (s *Session) exec(argv []string) (remotecommand.Executor, error) {
	cfg := s.c.Streaming()
	base, _, err := rest.DefaultServerUrlFor(cfg)
	if err != nil {
		return nil, err
	}
	u := base.JoinPath("api/v1/namespaces", s.o.Namespace, "pods", s.pod, "exec")
	u.RawQuery = url.Values{"container": {s.container}, "command": argv, "stdin": {"true"}, "stdout": {"true"}, "stderr": {"true"}}.Encode()
	spdy, err := remotecommand.NewSPDYExecutor(cfg, "POST", u)
	if err != nil {
		return nil, err
	}
	ws, err := remotecommand.NewWebSocketExecutor(cfg, "GET", u.String())
	if err != nil {
		return nil, err
	}
	return remotecommand.NewFallbackExecutor(ws, spdy, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
}
