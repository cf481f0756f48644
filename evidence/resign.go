package evidence

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
)

// Resign puts key's signature in the place of that of a collector which signed with a key made for this package alone, whose fingerprint is
// collector. Before, every byte that the collector signed is read again and held against its signature. f is a package's whole file,
// open for reading and writing; what lies before the signature frame is not touched. It returns the SHA-256 of the whole file.
//
// A package that is encrypted can't be signed again by somebody who can't read it: that is ErrEncrypted.
func Resign(f *os.File, key *Key, collector string) (sum string, err error) {
	st, err := f.Stat()
	if err != nil {
		return "", err
	}
	src, err := openSource(f, f.Name(), st.Size(), nil)
	var enc *EncryptedError
	if errors.As(err, &enc) {
		return "", ErrEncrypted
	}
	if err != nil {
		return "", err
	}
	frames, err := readSeekTable(src, st.Size())
	if err != nil {
		return "", fmt.Errorf("the package is not whole: %w", err)
	}
	n := len(frames)
	if n == 0 || frames[n-1].Content != 0 {
		return "", &UnsignedError{f.Name()}
	}
	var end int64
	for _, fr := range frames[:n-1] {
		end += int64(fr.Compressed)
	}
	b, err := readSignature(f, end, int64(frames[n-1].Compressed))
	if err != nil {
		return "", err
	}
	stmt, err := parseSignature(b)
	if err != nil {
		return "", err
	}
	if id := (PublicKey{Key: stmt.Predicate.Signer.PublicKey}).ID(); id != collector {
		return "", fmt.Errorf("the package is signed by %s, and the collector's key is %s", id, collector)
	}
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, end)); err != nil {
		return "", err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != stmt.Subject[0].Digest.SHA256 || end != stmt.Predicate.Bytes {
		return "", &AlteredError{Path: f.Name(), Problems: []string{"the bytes before the signature are not those that the collector signed"}}
	}
	stmt.Predicate.Signer = Signer{Name: key.Name, PublicKey: key.Public().Key, Ephemeral: key.Ephemeral}
	env, err := signatureFrame(*stmt, key)
	if err != nil {
		return "", err
	}
	frames[n-1] = frameInfo{Compressed: uint32(len(env))}
	tail := append(env, encodeSeekTable(frames)...)
	if _, err := f.WriteAt(tail, end); err != nil {
		return "", fmt.Errorf("signing the package: %w", err)
	}
	if err := f.Truncate(end + int64(len(tail))); err != nil {
		return "", fmt.Errorf("signing the package: %w", err)
	}
	h.Write(tail)
	return hex.EncodeToString(h.Sum(nil)), nil
}

// ErrEncrypted says that a package can't be signed again, since it is encrypted.
var ErrEncrypted = errors.New("the package is encrypted: it keeps the collector's signature")
