package evidence

import (
	"fmt"

	"github.com/sherd-forensics/sherd/internal/printable"
)

// AlteredError says that a package's bytes are not the ones that were sealed.
type AlteredError struct {
	Path     string
	Problems []string // what and where, bounded in number
}

func (e *AlteredError) Error() string {
	s := "altered"
	if len(e.Problems) > 0 {
		s += ": " + e.Problems[0]
	}
	if n := len(e.Problems) - 1; n > 0 {
		s += fmt.Sprintf(" (and %d more)", n)
	}
	return s
}

// TruncatedError says that a package ends before its seal: it was cut short, or never finished.
type TruncatedError struct {
	Path      string
	Frames    int   // whole ones
	Readable  int64 // bytes of the file up to the last whole frame
	Size      int64 // bytes of the file
	Artifacts int   // whole ones
}

func (e *TruncatedError) Error() string {
	return fmt.Sprintf("cut short: %d of its %d bytes are whole frames, with %d whole artifacts; nothing vouches for them, since the seal comes last",
		e.Readable, e.Size, e.Artifacts)
}

// UnsignedError says that a package is whole but carries no signature.
type UnsignedError struct{ Path string }

func (e *UnsignedError) Error() string {
	return "no signature: it was taken out, since every package is written with one"
}

// UnknownSignerError says that a package is intact, but that the key that signed it is not one trusted here.
type UnknownSignerError struct {
	Path      string
	Signer    string // as the package claims
	KeyID     string
	Ephemeral bool
}

func (e *UnknownSignerError) Error() string {
	if e.Ephemeral {
		return fmt.Sprintf("intact, but signed with a key made for it alone (%s): anybody could have changed it and signed it again; compare its sha256 with the one noted at the capture", e.KeyID)
	}
	return fmt.Sprintf("intact, but signed by a key that is not trusted here: %s, which calls itself %q; if that is who you expect, get the public key from there (`sherd key`) and pass it with --key FILE or put it into %s",
		e.KeyID, printable.Clip(e.Signer, 80), trustedDir())
}

// EncryptedError says that a package is encrypted and that no identity at hand opens it.
type EncryptedError struct {
	Path  string
	Given int // identities tried
}

func (e *EncryptedError) Error() string {
	if e.Given == 0 {
		return fmt.Sprintf("%s is encrypted: pass the age identity (or SSH private key) of one of its recipients with --identity FILE", printable.Text(e.Path))
	}
	return fmt.Sprintf("%s is encrypted, and to none of the %d identities given: pass the one of a recipient with --identity FILE", printable.Text(e.Path), e.Given)
}

// NotPackageError says that a file is no package at all.
type NotPackageError struct {
	Path string
	Why  string
}

func (e *NotPackageError) Error() string {
	return fmt.Sprintf("%s is not a sherd package: %s", printable.Text(e.Path), e.Why)
}

// CustodyError says that the chain of custody beside a package does not hold.
type CustodyError struct {
	Path     string
	Problems []string
}

func (e *CustodyError) Error() string {
	return fmt.Sprintf("the chain of custody in %s does not hold: %s", printable.Text(e.Path), e.Problems[0])
}
