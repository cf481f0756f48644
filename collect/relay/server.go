package relay

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// Capturer makes the package of a request, writing it to w. It is the collector's.
type Capturer func(ctx context.Context, r *Request, w io.Writer, stage func(string)) (*Result, error)

// Question answers a question of another kind than for a package. What it returns goes back as JSON, of at most a MiB.
type Question func(ctx context.Context, r *Request) (any, error)

// Server is the collector's long-lived process: it makes packages on request, each once, and serves them from any offset.
type Server struct {
	// Dir is where packages lie until the process ends: a folder of its own.
	Dir     string
	Capture Capturer
	// Idle ends Serve when nobody has asked for anything that long; 0 never.
	Idle time.Duration
	// Questions are the other kinds of questions that this collector answers, by their names.
	Questions map[string]Question
	// Uploads sends packages elsewhere; nil refuses it.
	Uploads *Uploader

	free func(dir string) (available, total int64, err error) // for tests

	quit func()
	mu   sync.Mutex
	jobs map[string]*job
	busy int
	last time.Time
}

// maxJobs bounds the packages of one process.
const maxJobs = 256

// job is one package in the making, or made.
type job struct {
	mu     sync.Mutex
	grown  *sync.Cond
	path   string
	upload *Upload
	size   int64
	sent   int64 // how far somebody has fetched it
	gone   int64 // up to where the file is a hole, for want of room
	stages []string
	done   bool
	result *Result
	err    error
}

// Serve answers until ctx ends, which also ends captures, or until it was idle for long.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.mu.Lock()
	s.jobs, s.last = map[string]*job{}, time.Now()
	s.mu.Unlock()
	context.AfterFunc(ctx, func() { l.Close() })
	s.quit = cancel
	if s.Idle > 0 {
		go s.watch(ctx, cancel)
	}
	var wait sync.WaitGroup
	defer wait.Wait()
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		wait.Go(func() {
			defer c.Close()
			stop := context.AfterFunc(ctx, func() { c.Close() })
			defer stop()
			s.begin(1)
			defer s.begin(-1)
			s.answer(ctx, c)
		})
	}
}

func (s *Server) begin(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy += n
	s.last = time.Now()
}

func (s *Server) watch(ctx context.Context, cancel func()) {
	t := time.NewTicker(max(s.Idle/10, 10*time.Millisecond))
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			s.mu.Lock()
			idle := s.busy == 0 && time.Since(s.last) > s.Idle
			s.mu.Unlock()
			if idle {
				cancel()
				return
			}
		}
	}
}

// answer serves one question.
func (s *Server) answer(ctx context.Context, c io.ReadWriter) {
	w := bufio.NewWriterSize(c, 128<<10)
	req, err := readRequest(c)
	if err == nil {
		err = hello(w)
	}
	switch {
	case err != nil:
	case req.Quit:
		if err = result(w, &Result{}); err == nil {
			err = w.Flush()
		}
		s.quit()
	case req.Ask != "":
		err = s.question(ctx, req, w)
	case req.Direct:
		err = direct(ctx, req, w, s.Capture)
	default:
		err = s.serve(ctx, req, w)
	}
	if err != nil {
		// Who asked may be gone: then nobody reads why.
		_ = writeFrame(w, kindError, clip(err.Error()))
	}
	_ = w.Flush()
}

func hello(w *bufio.Writer) error {
	b, err := json.Marshal(Hello{Clock: time.Now().UnixNano()})
	if err == nil {
		err = writeFrame(w, kindHello, b)
	}
	return errors.Join(err, w.Flush())
}

// question answers one of another kind.
func (s *Server) question(ctx context.Context, req *Request, w io.Writer) error {
	answer := s.Questions[req.Ask]
	if answer == nil {
		return fmt.Errorf("this collector does not know the question %q: is its image of the same version as the program that asks?", req.Ask[:min(len(req.Ask), 64)])
	}
	a, err := answer(ctx, req)
	if err != nil {
		return err
	}
	res := &Result{}
	if res.Answer, err = json.Marshal(a); err != nil {
		return err
	}
	return result(w, res)
}

func result(w io.Writer, res *Result) error {
	b, err := json.Marshal(res)
	if err != nil {
		return err
	}
	if len(b) > maxFrame {
		return fmt.Errorf("the answer has %d KiB, more than %d", len(b)>>10, maxFrame>>10)
	}
	return writeFrame(w, kindResult, b)
}

func clip(s string) []byte { return []byte(s[:min(len(s), maxWords)]) }

// Answer is a collector without a Server: it makes the package that one question from in asks for, and writes the answer to out. Nothing is
// kept, so that a stream that breaks ends it. Of a question to quit it reports true and does nothing.
func Answer(ctx context.Context, in io.Reader, out io.Writer, capture Capturer) (quit bool, err error) {
	w := bufio.NewWriterSize(out, 128<<10)
	req, err := readRequest(in)
	if err == nil {
		err = hello(w)
	}
	switch {
	case err != nil:
	case req.Quit:
		quit, err = true, result(w, &Result{})
	case req.Ask != "" || req.Upload != nil:
		err = errors.New("a collector that keeps nothing makes packages, and sends them to whoever asks")
	default:
		err = direct(ctx, req, w, capture)
	}
	if err != nil {
		err = writeFrame(w, kindError, clip(err.Error()))
	}
	return quit, errors.Join(err, w.Flush())
}

// direct makes a package for one who asked, without a file.
func direct(ctx context.Context, req *Request, w *bufio.Writer, capture Capturer) error {
	if req.Offset != 0 {
		return errors.New("a package that is not kept on the node can't be continued")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	out := frames{mu: &mu, w: w, gone: cancel}
	res, err := capture(ctx, req, out, func(stage string) {
		mu.Lock()
		defer mu.Unlock()
		if writeFrame(w, kindStage, clip(stage)) != nil || w.Flush() != nil {
			cancel()
		}
	})
	if err != nil {
		return err
	}
	return result(w, res)
}

// frames writes a package as frames, between those of stages.
type frames struct {
	mu   *sync.Mutex
	w    io.Writer
	gone func()
}

func (f frames) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for n < len(b) {
		part := b[n:min(len(b), n+maxFrame)]
		if err := writeFrame(f.w, kindData, part); err != nil {
			f.gone()
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

// start finds a job or begins it.
func (s *Server) start(ctx context.Context, req *Request) (*job, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j, ok := s.jobs[req.Job]; ok {
		return j, nil
	}
	if req.Offset != 0 {
		return nil, fmt.Errorf("the capture %s is not known to this collector: it was started anew, and what it had is gone", req.Job)
	}
	if len(s.jobs) >= maxJobs {
		return nil, fmt.Errorf("this collector has made %d packages, and makes no more", maxJobs)
	}
	path := filepath.Join(s.Dir, req.Job+".sherd")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("a place for the package: %w", err)
	}
	if req.Upload != nil && s.Uploads == nil {
		return nil, errors.Join(errors.New("this collector uploads nothing"), f.Close(), os.Remove(path))
	}
	j := &job{path: path, upload: req.Upload}
	j.grown = sync.NewCond(&j.mu)
	s.jobs[req.Job] = j
	s.busy++
	go func() {
		defer s.begin(-1)
		res, err := s.Capture(ctx, req, &spool{f: f, j: j, ctx: ctx, free: s.room}, j.stage)
		err = errors.Join(err, f.Close())
		if err == nil && req.Upload != nil {
			err = s.Uploads.put(ctx, req.Upload, path, res, j.stage)
		}
		j.mu.Lock()
		defer j.mu.Unlock()
		j.done, j.result, j.err = true, res, err
		j.grown.Broadcast()
	}()
	return j, nil
}

func (j *job) stage(words string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.stages) < 1000 {
		j.stages = append(j.stages, words)
	}
	j.grown.Broadcast()
}

// serve sends a job's package from an offset on, as it grows, and its result.
func (s *Server) serve(ctx context.Context, req *Request, w *bufio.Writer) error {
	j, err := s.start(ctx, req)
	if err != nil {
		return err
	}
	f, err := os.Open(j.path)
	if err != nil {
		return err
	}
	defer f.Close()
	stop := context.AfterFunc(ctx, func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.grown.Broadcast()
	})
	defer stop()
	buf := make([]byte, 256<<10)
	at, told := req.Offset, 0
	if err := j.has(at); err != nil {
		return err
	}
	for {
		size, stages, done := j.wait(ctx, at, told)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if size <= at && len(stages) == 0 && !done {
			if err := hello(w); err != nil {
				return err
			}
		}
		for _, st := range stages {
			if err := writeFrame(w, kindStage, clip(st)); err != nil {
				return err
			}
			told++
		}
		if j.upload != nil {
			at = size // it goes elsewhere
		}
		if at > size && done {
			return fmt.Errorf("the package has %d bytes, and those from %d on are asked for", size, at)
		}
		for at < size {
			n, err := f.ReadAt(buf[:min(int64(len(buf)), size-at)], at)
			if err != nil && !errors.Is(err, io.EOF) || n == 0 {
				return fmt.Errorf("reading the package on the node at %d: %w", at, err)
			}
			if err := writeFrame(w, kindData, buf[:n]); err != nil {
				return err
			}
			at += int64(n)
		}
		if err := w.Flush(); err != nil {
			return err
		}
		j.fetched(at)
		if done {
			break
		}
	}
	if j.err != nil {
		return j.err
	}
	return result(w, j.result)
}

// beat is how often a collector that has nothing new says that it is there: whatever lies between ends a silent connection.
const beat = 20 * time.Second

// wait returns when there is more than was sent, or no more to come, or after a while.
func (j *job) wait(ctx context.Context, at int64, told int) (size int64, stages []string, done bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	late := false
	timer := time.AfterFunc(beat, func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		late = true
		j.grown.Broadcast()
	})
	defer timer.Stop()
	for (j.size <= at || j.upload != nil) && len(j.stages) == told && !j.done && !late && ctx.Err() == nil {
		j.grown.Wait()
	}
	return j.size, j.stages[told:], j.done
}

// Ask passes one question from in on to the server at the socket, and its answer to out.
func Ask(ctx context.Context, socket string, in io.Reader, out io.Writer) error {
	req, err := readRequest(in)
	if err != nil {
		return err
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("the collector's own process does not answer: %w", err)
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	if err := WriteRequest(c, req); err != nil {
		return err
	}
	return pass(out, c, maxStill)
}

// maxStill is how long one write may take before nobody is taken to be there any more: a broken exec stream does not end what it started.
const maxStill = 2 * time.Minute

// pass copies until the end, or until a write to out takes longer than still. That write is then left hanging: the program is to end.
func pass(out io.Writer, in io.Reader, still time.Duration) error {
	w := &timed{w: out}
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(w, in)
		done <- err
	}()
	t := time.NewTicker(still / 4)
	defer t.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-t.C:
			if at := w.since.Load(); at != 0 && time.Since(time.Unix(0, at)) > still {
				return errors.New("whoever asked takes no more of the answer")
			}
		}
	}
}

// timed knows since when a write goes on.
type timed struct {
	w     io.Writer
	since atomic.Int64 // 0 when none does
}

func (t *timed) Write(b []byte) (int, error) {
	t.since.Store(time.Now().UnixNano())
	defer t.since.Store(0)
	return t.w.Write(b)
}
