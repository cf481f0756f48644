package evidence

import (
	"bufio"
	"bytes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/sherd-forensics/sherd/internal/printable"
)

// ageIntro begins every binary age file (https://age-encryption.org/v1).
const ageIntro = "age-encryption.org/v1\n"

// maxAgeHeader bounds the header of an encrypted package: some thousands of recipients.
const maxAgeHeader = 1 << 20

// ParseRecipients understands each argument as an age recipient (age1…), an SSH public key (ssh-ed25519 or ssh-rsa), or a file with
// one of them on each line.
func ParseRecipients(args []string) ([]age.Recipient, error) {
	var out []age.Recipient
	for _, a := range args {
		if looksLikeRecipient(a) {
			r, err := parseRecipient(a)
			if err != nil {
				return nil, err
			}
			out = append(out, r)
			continue
		}
		b, err := readSmall(a)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%q is neither an age recipient (age1…, ssh-ed25519 …) nor a file of recipients", printable.Clip(a, 100))
		}
		if err != nil {
			return nil, err
		}
		n := len(out)
		for i, line := range strings.Split(string(b), "\n") {
			line = strings.TrimSpace(line)
			if line == "" || line[0] == '#' {
				continue
			}
			r, err := parseRecipient(line)
			if err != nil {
				return nil, fmt.Errorf("%s, line %d: %w", printable.Text(a), i+1, err)
			}
			out = append(out, r)
		}
		if len(out) == n {
			return nil, fmt.Errorf("%s holds no recipient", printable.Text(a))
		}
	}
	return out, nil
}

func looksLikeRecipient(s string) bool {
	return strings.HasPrefix(s, "age1") || strings.HasPrefix(s, "ssh-") || strings.HasPrefix(s, "AGE-SECRET-KEY-")
}

func parseRecipient(s string) (age.Recipient, error) {
	switch {
	case strings.HasPrefix(s, "AGE-SECRET-KEY-"):
		return nil, errors.New("that is a private key (AGE-SECRET-KEY-…); encryption takes the public one, age1…")
	case strings.HasPrefix(s, "age1pq1"):
		r, err := age.ParseHybridRecipient(s)
		if err != nil {
			return nil, fmt.Errorf("age recipient %q: %w", clip(s), err)
		}
		return r, nil
	case strings.HasPrefix(s, "age1"):
		r, err := age.ParseX25519Recipient(s)
		if err != nil {
			return nil, fmt.Errorf("age recipient %q: %w", clip(s), err)
		}
		return r, nil
	case strings.HasPrefix(s, "ssh-"):
		r, err := agessh.ParseRecipient(s)
		if err != nil {
			return nil, fmt.Errorf("SSH recipient %q: %w", clip(s), err)
		}
		return r, nil
	}
	return nil, fmt.Errorf("%q is not a recipient: they begin with age1 or ssh-", printable.Clip(s, 100))
}

// LoadIdentities reads the private keys in the named files: age identities, one a line, or an SSH private key without
// passphrase.
func LoadIdentities(files []string) ([]age.Identity, error) {
	var out []age.Identity
	for _, f := range files {
		b, err := readSmall(f)
		if err != nil {
			return nil, fmt.Errorf("the identity: %w", err)
		}
		if bytes.HasPrefix(bytes.TrimSpace(b), []byte("-----BEGIN")) {
			id, err := agessh.ParseIdentity(b)
			if err != nil {
				return nil, fmt.Errorf("the identity %s: %w", printable.Text(f), err)
			}
			out = append(out, id)
			continue
		}
		ids, err := age.ParseIdentities(bytes.NewReader(b))
		if err != nil {
			return nil, fmt.Errorf("the identity %s: %w", printable.Text(f), err)
		}
		out = append(out, ids...)
	}
	return out, nil
}

// source is a package's plain bytes.
type source struct {
	io.ReaderAt
	size      int64
	encrypted bool
	// cut is true for an encrypted file without its last chunk.
	cut bool
}

// openSource looks through the encryption, if there is one.
func openSource(f *os.File, path string, size int64, ids []age.Identity) (*source, error) {
	intro := make([]byte, min(int64(len(ageIntro)), size))
	if err := readAt(f, intro, 0); err != nil {
		return nil, err
	}
	if !strings.HasPrefix(string(intro), ageIntro[:min(len(intro), 8)]) || len(intro) < 8 {
		return &source{ReaderAt: f, size: size}, nil
	}
	if len(ids) == 0 {
		return nil, &EncryptedError{Path: path}
	}
	r, n, err := age.DecryptReaderAt(f, size, ids...)
	if err == nil {
		return &source{ReaderAt: r, size: n, encrypted: true}, nil
	}
	var none *age.NoIdentityMatchError
	if errors.As(err, &none) {
		return nil, &EncryptedError{Path: path, Given: len(ids)}
	}
	cut, cerr := newCutReader(f, size, ids)
	if cerr != nil {
		return nil, &AlteredError{Path: path, Problems: []string{"the encryption does not open: " + err.Error()}}
	}
	return &source{ReaderAt: cut, size: cut.size, encrypted: true, cut: true}, nil
}

// cutReader reads an age file that lost its end, which age's own random access refuses because the last chunk vouches for the
// length. Every chunk before it is authentic by itself: 64 KiB under ChaCha20-Poly1305 with its number as nonce.
type cutReader struct {
	r     io.ReaderAt
	base  int64
	size  int64
	aead  cipher.AEAD
	mu    sync.Mutex
	chunk int64
	plain []byte
	buf   []byte
}

const (
	ageChunk    = 64 << 10
	ageOverhead = chacha20poly1305.Overhead
)

func newCutReader(r io.ReaderAt, size int64, ids []age.Identity) (*cutReader, error) {
	br := bufio.NewReader(io.NewSectionReader(r, 0, min(size, maxAgeHeader)))
	head, err := age.ExtractHeader(br)
	if err != nil {
		return nil, err
	}
	key, err := age.DecryptHeader(head, ids...)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, 16)
	base := int64(len(head))
	if size < base+int64(len(nonce)) {
		return nil, errShort
	}
	if err := readAt(r, nonce, base); err != nil {
		return nil, err
	}
	sk, err := hkdf.Key(sha256.New, key, nonce, "payload", chacha20poly1305.KeySize)
	if err != nil {
		return nil, err
	}
	aead, err := chacha20poly1305.New(sk)
	if err != nil {
		return nil, err
	}
	c := &cutReader{r: r, base: base + int64(len(nonce)), aead: aead, chunk: -1, buf: make([]byte, ageChunk+ageOverhead)}
	// Whole chunks only: the stump of the last one can't be authenticated.
	c.size = (size - c.base) / (ageChunk + ageOverhead) * ageChunk
	if c.size > 0 {
		if _, err := c.load(0); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *cutReader) load(n int64) ([]byte, error) {
	if c.chunk == n {
		return c.plain, nil
	}
	if err := readAt(c.r, c.buf, c.base+n*int64(len(c.buf))); err != nil {
		return nil, err
	}
	var nonce [chacha20poly1305.NonceSize]byte
	binary.BigEndian.PutUint64(nonce[3:11], uint64(n))
	plain, err := c.aead.Open(c.plain[:0], nonce[:], c.buf, nil)
	if err != nil {
		c.chunk = -1
		return nil, fmt.Errorf("encrypted chunk %d was altered", n)
	}
	c.chunk, c.plain = n, plain
	return plain, nil
}

// ReadAt implements io.ReaderAt.
func (c *cutReader) ReadAt(b []byte, off int64) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for n < len(b) {
		if off >= c.size {
			return n, io.EOF
		}
		p, err := c.load(off / ageChunk)
		if err != nil {
			return n, err
		}
		k := copy(b[n:], p[off%ageChunk:])
		n += k
		off += int64(k)
	}
	return n, nil
}
