// Package relay carries a package from a collector on a node to whoever asked for it, through a pipe that may break at any time:
// the exec stream of an API server. The collector's long-lived process (Server) makes each package into a file of its own and
// serves it from any offset; a short-lived one beside it (Ask), which the exec starts, passes questions on; the client (Fetch) asks
// again from where it was cut.
//
// A question is a length and JSON. An answer is frames: one byte of kind, four of length (big-endian), payload. Kinds:
//
//	H  the collector's greeting, JSON, first: what its clock says
//	D  bytes of the package, which follow each other from the offset asked for
//	S  a stage of the capture, in words
//	R  the result, JSON, last
//	E  an error in words, last
//
// Nothing of it is trusted by the client: sizes are bounded, and the package proves itself by its seal.
package relay

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"time"

	"github.com/sherd-forensics/sherd/target"
)

// Limits of what either side reads.
const (
	maxRequest = 64 << 20
	maxFrame   = 1 << 20
	maxWords   = 64 << 10
)

// Request asks for a package: made now when the job is new, from the offset on when it is known.
type Request struct {
	// Job names the capture, letters and digits, chosen by the client.
	Job string `json:"job"`
	// Ask is a question of another kind, by the name that the collector knows it by, with its Args; "" asks for a package.
	Ask  string          `json:"ask,omitempty"`
	Args json.RawMessage `json:"args,omitempty"`
	// Target is the container as the node's runtime names it: "containerd://k8s.io/ID"; "" with Container.
	Target string `json:"target"`
	// URL is the target as the user named it; it goes into the package in place of Target.
	URL string `json:"url,omitempty"`
	// Expect is what the API server says of the container: the node's runtime must agree.
	Expect *Expect `json:"expect,omitempty"`
	// Upload sends the package from the node to a place of the client's choice, and nothing of it to the client.
	Upload *Upload `json:"upload,omitempty"`
	// Offset is where in the package to begin, in bytes.
	Offset int64 `json:"offset"`
	// Direct sends the package as it is made, without a file on the node; a broken connection ends it.
	Direct  bool     `json:"direct,omitempty"`
	Capture Capture  `json:"capture"`
	Records []Record `json:"records,omitempty"`
	// Container is what the cluster says of the container, for a collector beside it, which finds no runtime to ask: it looks
	// for the processes of the container with this id.
	Container *target.Container `json:"container,omitempty"`
	// Logs are the container's output as the API server gives it, for a collector that can't read the node's files.
	Logs []Record `json:"logs,omitempty"`
	// Checkpoint is an archive that the kubelet made on the node, which goes into the package as it is.
	Checkpoint string `json:"checkpoint,omitempty"`
	// Quit ends the collector's process; nothing is made.
	Quit bool `json:"quit,omitempty"`
	// Warnings are what the client could not have, which goes into the package as what is missing.
	Warnings []string `json:"warnings,omitempty"`
}

// Capture are the choices of a capture that travel.
type Capture struct {
	Memory      string   `json:"memory,omitempty"`
	Freeze      bool     `json:"freeze,omitempty"`
	WithSecrets bool     `json:"with_secrets,omitempty"`
	Remote      bool     `json:"remote,omitempty"`
	EncryptTo   []string `json:"encrypt_to,omitempty"`
}

// Expect names a container as the API server does.
type Expect struct {
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
	UID       string `json:"uid,omitempty"` // of the pod
	Container string `json:"container"`
}

// Hello is what a collector says first.
type Hello struct {
	// Clock is the collector's wall clock when the question had come, nanoseconds UTC.
	Clock int64 `json:"clock"`
	// At is when that came here.
	At time.Time `json:"-"`
}

// Offset is how far a collector's clock is ahead of this machine's.
type Offset struct{ By, Within time.Duration }

// Offset compares the clocks, given when the question was asked. The greeting was written somewhere between then and its coming.
func (h *Hello) Offset(asked time.Time) Offset {
	half := h.At.Sub(asked) / 2
	return Offset{By: time.Unix(0, h.Clock).Sub(asked.Add(half)), Within: half}
}

// Record is a document of the client's that goes into the package: what the API server says of the pod.
type Record struct {
	Name   string `json:"name"` // inside target/, of a log inside logs/
	Origin string `json:"origin"`
	Data   []byte `json:"data"`
}

// Result says what a capture came to.
type Result struct {
	Size      int64  `json:"size"`
	SHA256    string `json:"sha256"` // of the package's bytes
	ID        string `json:"id"`     // of the evidence
	Artifacts int    `json:"artifacts"`
	Processes int    `json:"processes"`
	Missed    int    `json:"missed"`
	// KeyID is the fingerprint of the key that the collector signed with, made for this package alone, and known by this way only.
	KeyID string `json:"key_id"`
	// Stopped says why the capture did not come to its end, "" if it did. What was taken until then is sealed.
	Stopped string `json:"stopped,omitempty"`
	// Target is the container that was captured as the node's runtime names it, where it is not the one that was asked for, and Why that is so.
	Target string `json:"target,omitempty"`
	Why    string `json:"why,omitempty"`
	// MD5 is that of the package's bytes where it was uploaded: what object stores know content by.
	MD5 string `json:"md5,omitempty"`
	// Uploaded says that the package lies where Upload named.
	Uploaded bool `json:"uploaded,omitempty"`
	// Answer is that to a question of another kind.
	Answer json.RawMessage `json:"answer,omitempty"`
	// Hello is what the collector said first; nil if it said nothing.
	Hello *Hello `json:"-"`
	// Clock is how far the collector's clock is ahead of this machine's; nil if it did not say.
	Clock *Offset `json:"-"`
}

var jobName = regexp.MustCompile(`^[a-z0-9]{1,64}$`)

// frame kinds.
const (
	kindHello  = 'H'
	kindData   = 'D'
	kindStage  = 'S'
	kindResult = 'R'
	kindError  = 'E'
)

func writeFrame(w io.Writer, kind byte, payload []byte) error {
	var head [5]byte
	head[0] = kind
	binary.BigEndian.PutUint32(head[1:], uint32(len(payload)))
	if _, err := w.Write(head[:]); err != nil {
		return err
	}
	_, err := w.Write(payload)
	return err
}

// WriteRequest writes a question.
func WriteRequest(w io.Writer, r *Request) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if len(b) > maxRequest {
		return fmt.Errorf("the documents that go into the package have %d MiB, more than %d", len(b)>>20, maxRequest>>20)
	}
	var head [4]byte
	binary.BigEndian.PutUint32(head[:], uint32(len(b)))
	if _, err := w.Write(head[:]); err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// readRequest reads a question.
func readRequest(r io.Reader) (*Request, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, fmt.Errorf("reading the request: %w", err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxRequest {
		return nil, fmt.Errorf("a request of %d bytes", n)
	}
	// What is promised is not allocated before it comes.
	b, err := io.ReadAll(io.LimitReader(r, int64(n)))
	if err != nil || len(b) != int(n) {
		return nil, fmt.Errorf("the request is cut short at %d of %d bytes: %w", len(b), n, errors.Join(err, io.ErrUnexpectedEOF))
	}
	req := &Request{}
	if err := json.Unmarshal(b, req); err != nil {
		return nil, fmt.Errorf("the request: %w", err)
	}
	switch {
	case !jobName.MatchString(req.Job):
		return nil, fmt.Errorf("a job is named by letters and digits, not %q", req.Job)
	case req.Offset < 0:
		return nil, fmt.Errorf("an offset of %d", req.Offset)
	}
	return req, nil
}

// BrokenError says that the stream ended before the package did. N bytes of it had come by then, and the rest can be asked for.
type BrokenError struct {
	N   int64
	Err error
}

func (e *BrokenError) Error() string {
	return fmt.Sprintf("the stream from the collector broke off after %d bytes: %v", e.N, e.Err)
}

func (e *BrokenError) Unwrap() error { return e.Err }

// CollectorError is what the collector itself said.
type CollectorError struct{ Words string }

func (e *CollectorError) Error() string { return e.Words }

// Fetch reads an answer, writing the package's bytes to w, and calls stage, which may be nil, for each stage. Its error is a *BrokenError when
// asking again from where it was cut may help.
func Fetch(r io.Reader, w io.Writer, stage func(string)) (*Result, error) {
	in := bufio.NewReaderSize(r, 256<<10)
	var got int64
	var hello *Hello
	broken := func(err error) error {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return &BrokenError{got, err}
	}
	buf := make([]byte, 64<<10)
	for {
		var head [5]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return nil, broken(err)
		}
		n := int64(binary.BigEndian.Uint32(head[1:]))
		if n > maxFrame || head[0] != kindData && head[0] != kindResult && n > maxWords {
			return nil, fmt.Errorf("the collector's answer is not in its form: a frame %q of %d bytes", head[0], n)
		}
		if head[0] == kindData {
			k, err := io.CopyBuffer(onlyWriter{w}, io.LimitReader(in, n), buf)
			got += k
			var we *writeError
			switch {
			case errors.As(err, &we):
				return nil, we.error
			case err != nil:
				return nil, broken(err)
			case k < n:
				return nil, broken(io.ErrUnexpectedEOF)
			}
			continue
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(in, b); err != nil {
			return nil, broken(err)
		}
		switch head[0] {
		case kindHello:
			h := Hello{At: time.Now()}
			if err := json.Unmarshal(b, &h); err != nil {
				return nil, fmt.Errorf("the collector's greeting is not in its form: %w", err)
			}
			if hello == nil { // later ones only say that it is there still
				hello = &h
			}
		case kindStage:
			if stage != nil {
				stage(string(b))
			}
		case kindError:
			return nil, &CollectorError{string(b)}
		case kindResult:
			res := &Result{}
			if err := json.Unmarshal(b, res); err != nil {
				return nil, fmt.Errorf("the collector's result is not in its form: %w", err)
			}
			res.Hello = hello
			return res, nil
		default:
			return nil, fmt.Errorf("the collector's answer is not in its form: a frame %q", head[0])
		}
	}
}

// onlyWriter tells errors of writing from those of reading.
type onlyWriter struct{ w io.Writer }

type writeError struct{ error }

func (e *writeError) Unwrap() error { return e.error }

func (o onlyWriter) Write(b []byte) (int, error) {
	n, err := o.w.Write(b)
	if err != nil {
		err = &writeError{err}
	}
	return n, err
}
