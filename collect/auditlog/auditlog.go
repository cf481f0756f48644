// Package auditlog takes out of an API server's audit log what concerns pods: requests about them, their owners and accounts, and
// requests that were made by their identity. Lines are kept as they are. A log of any size is read once, for all pods together.
//
// Specification: https://kubernetes.io/docs/reference/config-api/apiserver-audit.v1/. Lines may also be in the envelopes in which EKS and AKS
// deliver them.
package auditlog

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/sherd-forensics/sherd/internal/printable"
)

// Subject is a pod as the audit log knows it.
type Subject struct {
	Namespace, Pod, UID, Account string
	// Owners are "RESOURCE/NAME" of the pod's namespace: who changed them changed what the pod runs.
	Owners []string
}

func (s *Subject) user() string { return "system:serviceaccount:" + s.Namespace + ":" + s.Account }

// Extract is what the logs hold about one subject.
type Extract struct {
	Matched int // lines about the subject
	Dropped int // of them, left out of the middle
	// Origin names the files and how many lines were looked at.
	Origin string
	// Missed is what could not be read.
	Missed []string

	kept *kept
}

// Lines are those that were kept, as they are in the logs. When there are too many, it is the first and the last of them: whoever makes noise
// can push out neither the beginning nor the end.
func (e *Extract) Lines() []byte { return e.kept.bytes() }

const (
	maxLine    = 4 << 20
	maxExtract = 16 << 20
	// maxHeld bounds what is held for all subjects together; lines that concern several are held once.
	maxHeld = 256 << 20
)

// Scan reads the files, one after another, and gives an extract for each subject. Its error is that of a file that is not there, or of ctx:
// damage inside a file is told in the extracts.
func Scan(ctx context.Context, files []string, subjects []Subject) ([]Extract, error) {
	return scan(ctx, files, subjects, maxExtract)
}

func scan(ctx context.Context, files []string, subjects []Subject, limit int) ([]Extract, error) {
	s := newScanner(subjects, limit)
	for _, f := range files {
		if err := s.file(ctx, f); err != nil {
			return nil, err
		}
	}
	out := make([]Extract, len(subjects))
	for i := range out {
		k := &s.kept[i]
		origin := fmt.Sprintf("%d lines about the pod and by its identity, of %d in %s", k.matched, s.lines, names(files))
		out[i] = Extract{kept: k, Matched: k.matched, Dropped: k.dropped, Origin: origin, Missed: slices.Clone(s.missed)}
		if k.dropped > 0 {
			out[i].Missed = append(out[i].Missed, fmt.Sprintf("the audit log: %d of %d lines about the pod and by its identity are left out, from the middle: at most %d MiB are kept, half of them the first and half the last", k.dropped, k.matched, k.limit>>20))
		}
	}
	return out, nil
}

func names(files []string) string {
	var out []string
	for _, f := range files {
		out = append(out, filepath.Base(f))
	}
	return strings.Join(out, ", ")
}

// kept is what is held of one subject's lines: the first ones, and a window of the last.
type kept struct {
	first, last         [][]byte
	firstSize, lastSize int
	matched, dropped    int
	limit               int
}

func (k *kept) add(line []byte) {
	k.matched++
	n := len(line) + 1
	if len(k.last) == 0 && k.firstSize+n <= k.limit/2 {
		k.first, k.firstSize = append(k.first, line), k.firstSize+n
		return
	}
	k.last, k.lastSize = append(k.last, line), k.lastSize+n
	for k.lastSize > k.limit/2 {
		k.lastSize -= len(k.last[0]) + 1
		k.last[0] = nil
		k.last = k.last[1:]
		k.dropped++
	}
}

func (k *kept) bytes() []byte {
	var b bytes.Buffer
	for _, l := range slices.Concat(k.first, k.last) {
		b.Write(l)
		b.WriteByte('\n')
	}
	return b.Bytes()
}

type scanner struct {
	subjects []Subject
	kept     []kept
	// namespaces and names are what every line that concerns a subject holds one of. Most lines of a log do not: looking for a text is many
	// times faster than reading JSON.
	namespaces, names [][]byte
	lines             int
	missed            []string
}

func newScanner(subjects []Subject, limit int) *scanner {
	s := &scanner{subjects: subjects, kept: make([]kept, len(subjects))}
	for i := range subjects {
		s.kept[i].limit = limit
		s.namespaces = needle(s.namespaces, subjects[i].Namespace)
		s.names = needle(needle(needle(s.names, subjects[i].Pod), subjects[i].Account), subjects[i].UID)
		for _, o := range subjects[i].Owners {
			_, name, _ := strings.Cut(o, "/")
			s.names = needle(s.names, name)
		}
	}
	// The limits together are no more than may be held.
	if n := len(subjects); n > 0 && limit > maxHeld/n {
		for i := range s.kept {
			s.kept[i].limit = maxHeld / n
		}
	}
	return s
}

// needle adds one that none before it is part of.
func needle(list [][]byte, n string) [][]byte {
	if n == "" || slices.ContainsFunc(list, func(o []byte) bool { return bytes.Contains([]byte(n), o) }) {
		return list
	}
	return append(list, []byte(n))
}

func anyOf(line []byte, needles [][]byte) bool {
	return slices.ContainsFunc(needles, func(n []byte) bool { return bytes.Contains(line, n) })
}

func (s *scanner) file(ctx context.Context, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("the audit log: %w", err)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return fmt.Errorf("the audit log %s is no file: name one with --audit-log", printable.Text(name))
	}
	r, err := plain(f)
	if err != nil {
		return fmt.Errorf("the audit log %s: %w", printable.Text(name), err)
	}
	before, understood := s.lines, 0
	long := 0
	b := bufio.NewReaderSize(r, 256<<10)
	for {
		line, whole, err := readLine(b)
		if len(bytes.TrimSpace(line)) > 0 || !whole {
			s.lines++
			switch {
			case !whole:
				long++
			case s.line(line):
				understood++
			}
		}
		if s.lines%4096 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			s.missed = append(s.missed, fmt.Sprintf("the audit log %s can't be read on after %d lines: %v", printable.Text(filepath.Base(name)), s.lines-before, err))
			break
		}
	}
	if long > 0 {
		s.missed = append(s.missed, fmt.Sprintf("the audit log %s: %d lines are longer than %d MiB", printable.Text(filepath.Base(name)), long, maxLine>>20))
	}
	if understood == 0 && s.lines > before {
		s.missed = append(s.missed, fmt.Sprintf("the audit log %s: none of its %d lines is an audit event that names the pods or what they belong to", printable.Text(filepath.Base(name)), s.lines-before))
	}
	return nil
}

// plain decompresses what is compressed.
func plain(f *os.File) (io.Reader, error) {
	b := bufio.NewReaderSize(f, 64<<10)
	head, err := b.Peek(4)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return nil, err
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return gzip.NewReader(b)
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		d, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	}
	return b, nil
}

// readLine gives a line without its end, valid until the next call unless it is longer than the buffer. One that is too long is passed over, and not whole.
func readLine(b *bufio.Reader) (line []byte, whole bool, err error) {
	line, err = b.ReadSlice('\n')
	whole = true
	if errors.Is(err, bufio.ErrBufferFull) {
		line = slices.Clone(line)
		for errors.Is(err, bufio.ErrBufferFull) {
			var more []byte
			more, err = b.ReadSlice('\n')
			if len(line)+len(more) > maxLine {
				whole = false
				continue
			}
			line = append(line, more...)
		}
	}
	return bytes.TrimRight(line, "\r\n"), whole, err
}

// event is what decides about a line.
type event struct {
	APIVersion string `json:"apiVersion"`
	Verb       string `json:"verb"`
	User       user   `json:"user"`
	As         *user  `json:"impersonatedUser"`
	Ref        *struct {
		Resource  string `json:"resource"`
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	} `json:"objectRef"`
	Request *struct {
		Subjects []struct {
			Kind      string `json:"kind"`
			Namespace string `json:"namespace"`
			Name      string `json:"name"`
		} `json:"subjects"`
	} `json:"requestObject"`
	Response *struct {
		Metadata struct {
			Name string `json:"name"`
		} `json:"metadata"`
	} `json:"responseObject"`
	// The envelopes of clouds hold the event as a text.
	Message    string `json:"message"`
	Properties *struct {
		Log string `json:"log"`
	} `json:"properties"`
}

type user struct {
	Name  string              `json:"username"`
	Extra map[string][]string `json:"extra"`
}

// line keeps a line for the subjects that it concerns. It reports whether it is an audit event at all, of those that could.
func (s *scanner) line(line []byte) bool {
	if !anyOf(line, s.namespaces) || !anyOf(line, s.names) {
		return false
	}
	var e event
	if json.Unmarshal(line, &e) != nil {
		return false
	}
	inner := e.Message
	if e.Properties != nil && e.Properties.Log != "" {
		inner = e.Properties.Log
	}
	if inner != "" && !strings.HasPrefix(e.APIVersion, "audit.k8s.io/") {
		e = event{}
		if json.Unmarshal([]byte(inner), &e) != nil {
			return false
		}
	}
	if !strings.HasPrefix(e.APIVersion, "audit.k8s.io/") {
		return false
	}
	var own []byte
	for i := range s.subjects {
		if !s.subjects[i].concerns(&e) {
			continue
		}
		if own == nil { // one copy for all
			own = bytes.Clone(line)
		}
		s.kept[i].add(own)
	}
	return true
}

// writes are the verbs that change an owner or an account, which is what tells of them.
var writes = []string{"create", "update", "patch", "delete", "deletecollection"}

func (s *Subject) concerns(e *event) bool {
	if e.User.is(s) || e.As != nil && e.As.is(s) {
		return true
	}
	r := e.Ref
	if r != nil && strings.HasSuffix(r.Resource, "rolebindings") && e.Request != nil { // who gave the account rights, anywhere
		for _, to := range e.Request.Subjects {
			if to.Kind == "ServiceAccount" && to.Name == s.Account && cmp.Or(to.Namespace, r.Namespace) == s.Namespace || to.Kind == "User" && to.Name == s.user() {
				return true
			}
		}
	}
	if r == nil || r.Namespace != s.Namespace {
		return false
	}
	name := r.Name
	if name == "" && e.Response != nil { // of what was created under a name that the server chose
		name = e.Response.Metadata.Name
	}
	switch {
	case r.Resource == "pods":
		return name == s.Pod
	case !slices.Contains(writes, e.Verb):
		return false
	case r.Resource == "serviceaccounts":
		return name == s.Account
	}
	return slices.Contains(s.Owners, r.Resource+"/"+name)
}

// is reports whether the user is the subject's account, or says that it is the pod.
func (u *user) is(s *Subject) bool {
	if u.Name == s.user() {
		return true
	}
	if s.UID != "" && slices.Contains(u.Extra["authentication.kubernetes.io/pod-uid"], s.UID) {
		return true
	}
	return strings.HasPrefix(u.Name, "system:serviceaccount:"+s.Namespace+":") && slices.Contains(u.Extra["authentication.kubernetes.io/pod-name"], s.Pod)
}
