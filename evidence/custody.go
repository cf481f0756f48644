package evidence

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/internal/printable"
)

const (
	custodyType    = "application/vnd.sherd.custody+json"
	maxCustodyLine = 64 << 10
	maxCustodySize = 64 << 20
)

// CustodyEntry is one handling of a package: one line of its custody log. Each carries the hash of the line before, so that an
// edit, an insertion, a removal and a change of order in the middle all show; and a signature, so that the whole can't be written
// anew by somebody else. A removed end does not show in the log itself: Sequence numbers and hashes that others noted, in
// a report or a mail, are what tells.
type CustodyEntry struct {
	Seq  int    `json:"seq"`  // from 1
	Time string `json:"time"` // RFC 3339 with nanoseconds, UTC
	// Action is collected, verified, investigated, exported, shown, repaired …
	Action     string `json:"action"`
	Actor      string `json:"actor"`
	Host       string `json:"host"`
	Tool       string `json:"tool"`
	EvidenceID string `json:"evidence_id"`
	SHA256     string `json:"sha256"` // of the package's file
	Note       string `json:"note,omitempty"`
	// Prev is the SHA-256 of the line before, its newline not counted; 64 zeros in the first.
	Prev      string `json:"prev"`
	PublicKey []byte `json:"public_key,omitempty"` // of the actor's key, Ed25519
	// Sig is over the DSSE pre-authentication encoding of the line without this field.
	Sig []byte `json:"sig,omitempty"`
}

// CustodyReport is what VerifyCustody found.
type CustodyReport struct {
	Entries  []CustodyEntry
	Problems []string
	Signed   int // entries with a good signature
	Trusted  int // of those, by a trusted key
	// Torn is true when the log ends with half a line: the machine stopped while it was written. The next entry repairs it.
	Torn bool
	// Head is the hash of the last line: noted elsewhere, it shows a removed end.
	Head string
}

func (r *CustodyReport) problem(format string, a ...any) {
	if len(r.Problems) < maxProblems {
		r.Problems = append(r.Problems, "custody: "+fmt.Sprintf(format, a...))
	}
}

var custodyStart = hex.EncodeToString(make([]byte, 32))

// CustodyPath is where the custody log of a package lies: beside it.
func CustodyPath(path string) string { return path + ".custody.jsonl" }

// AppendCustody adds an entry to the custody log of the package at path. Seq, Time and Prev are filled in; it is signed with the
// user's own key if there is one. The entry is on the disk when it returns. Several processes may append at once. Half a
// line at the end, left by a machine that stopped, is moved to PATH.custody.torn, and the next entry says so.
func AppendCustody(path string, e CustodyEntry) error {
	key, err := LoadKey(DefaultKeyPath())
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("the key that signs the custody log: %w", err)
	}
	return AppendCustodySigned(path, e, key)
}

// AppendCustodySigned is AppendCustody with a given key; nil leaves the entry unsigned.
func AppendCustodySigned(path string, e CustodyEntry, key *Key) (err error) {
	name := CustodyPath(path)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("locking %s: %w", printable.Text(name), err)
	}
	seq, prev, end, torn, err := custodyEnd(f, path)
	if err != nil {
		return err
	}
	if torn != "" {
		e.Note = strings.TrimSpace(e.Note + " [" + torn + "]")
	}
	if e.Seq, e.Prev = seq+1, prev; e.Time == "" {
		e.Time = time.Now().UTC().Format(time.RFC3339Nano)
	}
	line, err := e.sign(key)
	if err != nil {
		return err
	}
	if len(line) > maxCustodyLine {
		return fmt.Errorf("a custody entry of %d bytes, more than %d", len(line), maxCustodyLine)
	}
	if _, err := f.WriteAt(append(line, '\n'), end); err != nil {
		return fmt.Errorf("writing %s: %w", printable.Text(name), err)
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if seq == 0 {
		return syncDir(filepath.Dir(name))
	}
	return nil
}

func (e CustodyEntry) sign(key *Key) ([]byte, error) {
	e.Sig, e.PublicKey = nil, nil
	if key == nil {
		return json.Marshal(e)
	}
	e.PublicKey = key.Public().Key
	body, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	e.Sig = ed25519.Sign(key.priv, dsse.PAE(custodyType, body))
	return json.Marshal(e)
}

// custodyEnd finds the last whole line, and moves what follows it aside.
func custodyEnd(f *os.File, path string) (seq int, prev string, end int64, note string, err error) {
	prev = custodyStart
	b, err := io.ReadAll(io.LimitReader(f, maxCustodySize+1))
	if err != nil {
		return 0, "", 0, "", err
	}
	if len(b) > maxCustodySize {
		return 0, "", 0, "", fmt.Errorf("%s is larger than %d bytes", printable.Text(f.Name()), maxCustodySize)
	}
	whole := b[:bytes.LastIndexByte(b, '\n')+1]
	if torn := b[len(whole):]; len(torn) > 0 {
		if err := setAside(path+".custody.torn", torn); err != nil {
			return 0, "", 0, "", err
		}
		note = fmt.Sprintf("a torn line of %d bytes, SHA-256 %s, was put aside", len(torn), lineSum(torn))
		if err := f.Truncate(int64(len(whole))); err != nil {
			return 0, "", 0, "", err
		}
	}
	if len(whole) == 0 {
		return 0, prev, 0, note, nil
	}
	last := whole[:len(whole)-1]
	last = last[bytes.LastIndexByte(last, '\n')+1:]
	var e CustodyEntry
	if err := json.Unmarshal(last, &e); err != nil {
		// A damaged log is not a reason to lose the next entry: it follows the bytes that are there, and verification will tell.
		e.Seq = bytes.Count(whole, []byte{'\n'})
	}
	return e.Seq, lineSum(last), int64(len(whole)), note, nil
}

func setAside(path string, torn []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("keeping the torn end of the custody log: %w", err)
	}
	_, err = f.Write(append(bytes.Clone(torn), '\n'))
	return errors.Join(err, f.Sync(), f.Close())
}

func lineSum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// ReadCustody reads the entries of a package's custody log without judging them, see VerifyCustody.
func ReadCustody(path string) ([]CustodyEntry, error) {
	r, err := VerifyCustody(path, nil)
	if err != nil {
		return nil, err
	}
	return r.Entries, nil
}

// VerifyCustody checks the chain of the custody log beside the package at path. Its error means that the log can't be read; os.ErrNotExist
// if there is none.
func VerifyCustody(path string, trusted []PublicKey) (*CustodyReport, error) {
	f, err := os.Open(CustodyPath(path))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := &CustodyReport{Head: custodyStart}
	br := bufio.NewReaderSize(io.LimitReader(f, maxCustodySize), maxCustodyLine+1)
	for n := 1; ; n++ {
		line, err := br.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF):
			r.Torn = len(line) > 0
			return r, nil
		case errors.Is(err, bufio.ErrBufferFull):
			r.problem("line %d is longer than %d bytes", n, maxCustodyLine)
			return r, nil
		case err != nil:
			return nil, fmt.Errorf("reading %s: %w", printable.Text(f.Name()), err)
		}
		r.line(n, line[:len(line)-1], trusted)
	}
}

// line checks one line of the log. It accepts one form only, so that no byte of it can be changed unnoticed, signed or not.
func (r *CustodyReport) line(n int, b []byte, trusted []PublicKey) {
	var e CustodyEntry
	err := json.Unmarshal(b, &e)
	if err == nil {
		if again, merr := json.Marshal(e); merr != nil || !bytes.Equal(again, b) {
			err = errors.New("it is not written as entries are")
		}
	}
	if err != nil {
		r.problem("line %d is damaged: %v", n, err)
		r.Head = lineSum(b)
		return
	}
	if e.Seq != n {
		r.problem("line %d has the number %d: entries were removed, added or moved", n, e.Seq)
	}
	if e.Prev != r.Head {
		r.problem("entry %d does not follow from the line before it: that was changed, or lines were removed, added or moved", e.Seq)
	}
	r.Head = lineSum(b)
	r.Entries = append(r.Entries, e)
	if e.Sig == nil && e.PublicKey == nil {
		return
	}
	body := e
	body.Sig = nil
	signed, err := json.Marshal(body)
	if err != nil || len(e.PublicKey) != ed25519.PublicKeySize || !ed25519.Verify(e.PublicKey, dsse.PAE(custodyType, signed), e.Sig) {
		r.problem("the signature of entry %d is wrong", e.Seq)
		return
	}
	r.Signed++
	for _, t := range trusted {
		if bytes.Equal(t.Key, e.PublicKey) {
			r.Trusted++
			return
		}
	}
}
