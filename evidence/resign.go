package evidence

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// Resign puts key's signature in the place of that of a collector which signed with a key made for this package alone, whose fingerprint is
// collector. Before, the package is verified as Verify does it. What lies before the signature frame is not touched. It returns the SHA-256
// of the whole file.
//
// A package that is encrypted can't be signed again by somebody who can't read it: that is ErrEncrypted.
func Resign(ctx context.Context, path string, key *Key, collector string) (sum string, err error) {
	r, err := Verify(ctx, path, VerifyOptions{})
	var enc *EncryptedError
	var unknown *UnknownSignerError
	switch {
	case errors.As(err, &enc):
		return "", ErrEncrypted
	case err != nil && !errors.As(err, &unknown):
		return "", err
	case r.KeyID != collector:
		return "", fmt.Errorf("the package is signed by %s, and the collector's key is %s", r.KeyID, collector)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	frames, err := readSeekTable(f, r.Size)
	if err != nil {
		return "", err
	}
	n := len(frames)
	var end int64
	for _, fr := range frames[:n-1] {
		end += int64(fr.Compressed)
	}
	b, err := readSignature(f, end, int64(frames[n-1].Compressed))
	if err != nil {
		return "", err
	}
	st, err := parseSignature(b)
	if err != nil {
		return "", err
	}
	st.Predicate.Signer = Signer{Name: key.Name, PublicKey: key.Public().Key, Ephemeral: key.Ephemeral}
	env, err := signatureFrame(*st, key)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, end)); err != nil {
		return "", err
	}
	if hex.EncodeToString(h.Sum(nil)) != st.Subject[0].Digest.SHA256 {
		return "", &AlteredError{Path: path, Problems: []string{"it was changed while it was looked at"}}
	}
	frames[n-1] = frameInfo{Compressed: uint32(len(env))}
	tail := slices.Concat(env, encodeSeekTable(frames))
	if _, err := f.WriteAt(tail, end); err != nil {
		return "", fmt.Errorf("signing the package: %w", err)
	}
	if err := f.Truncate(end + int64(len(tail))); err != nil {
		return "", fmt.Errorf("signing the package: %w", err)
	}
	h.Write(tail)
	return hex.EncodeToString(h.Sum(nil)), errors.Join(f.Sync(), f.Close())
}

// ErrEncrypted says that a package can't be signed again, since it is encrypted.
var ErrEncrypted = errors.New("the package is encrypted: it keeps the collector's signature")
