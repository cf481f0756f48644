package evidence

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
)

// The seal is an in-toto statement (https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md) in a DSSE envelope
// (https://github.com/secure-systems-lab/dsse). The statement's few fields are written down here and not taken from
// in-toto's module: that is generated protobuf code, whose JSON form differs in its white space from run to run on purpose,
// while a sealed package must have exactly one form.

const (
	statementType = "https://in-toto.io/Statement/v1"
	predicateType = "https://github.com/sherd-forensics/sherd/evidence/v1"
	payloadType   = "application/vnd.in-toto+json"
	// packageSubject names the package's bytes from the first to the last before the signature frame.
	packageSubject = "package"
)

// Statement is what a package's signer states.
type Statement struct {
	Type          string    `json:"_type"`
	Subject       []Subject `json:"subject"`
	PredicateType string    `json:"predicateType"`
	Predicate     Seal      `json:"predicate"`
}

// Subject is one thing that is stated about.
type Subject struct {
	Name   string `json:"name"`
	Digest Digest `json:"digest"`
}

// Digest is the hash of a Subject.
type Digest struct {
	SHA256 string `json:"sha256"`
}

// Seal is the statement's predicate.
type Seal struct {
	ID        string `json:"id"`
	Tool      string `json:"tool"`
	Sealed    int64  `json:"sealed"`    // nanoseconds since the Unix epoch, UTC
	Frames    int    `json:"frames"`    // before the signature frame
	Bytes     int64  `json:"bytes"`     // of the package before the signature frame
	TarBytes  int64  `json:"tar_bytes"` // of the tar stream
	Artifacts int    `json:"artifacts"` // manifest.json not counted
	// Manifest says where manifest.json's header begins in the tar stream, at the start of a frame, and how long its content is.
	Manifest Span   `json:"manifest"`
	Signer   Signer `json:"signer"`
}

// Span is a run of the tar stream.
type Span struct {
	Offset int64 `json:"offset"`
	Size   int64 `json:"size"`
}

// Signer says who signed. All of it is the signer's claim until the key is found among the trusted ones.
type Signer struct {
	Name      string `json:"name"`
	PublicKey []byte `json:"public_key"` // Ed25519, 32 bytes
	Ephemeral bool   `json:"ephemeral"`
}

// sha256sum is a hash that is also an io.Writer; the name keeps signatures short.
type sha256sum struct{ hash.Hash }

func newSHA256() *sha256sum { return &sha256sum{sha256.New()} }

// seal makes the signature frame.
func (w *Writer) seal(manifestAt, manifestSize int64, manifestSum [32]byte) ([]byte, error) {
	k := w.o.Key
	st := Statement{
		Type:          statementType,
		PredicateType: predicateType,
		Subject: []Subject{
			{packageSubject, Digest{hex.EncodeToString(w.p.outHash.Sum(nil))}},
			{ManifestPath, Digest{hex.EncodeToString(manifestSum[:])}},
		},
		Predicate: Seal{ID: w.o.ID, Tool: w.o.Tool, Sealed: w.m.sealed, Frames: len(w.p.frames), Bytes: w.p.written.Load(), TarBytes: w.p.offset,
			Artifacts: w.m.n, Manifest: Span{manifestAt, manifestSize},
			Signer: Signer{Name: k.Name, PublicKey: k.Public().Key, Ephemeral: k.Ephemeral}},
	}
	return signatureFrame(st, k)
}

func signatureFrame(st Statement, k *Key) ([]byte, error) {
	body, err := json.Marshal(st)
	if err != nil {
		return nil, err
	}
	es, err := dsse.NewEnvelopeSigner(signer{k})
	if err != nil {
		return nil, err
	}
	env, err := es.SignPayload(context.Background(), payloadType, body)
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	b, err := json.Marshal(env)
	if err != nil {
		return nil, err
	}
	if len(b)+skipHeader > maxSignature {
		return nil, fmt.Errorf("the signed statement has %d bytes, more than %d: the tool's or signer's name is too long", len(b), maxSignature)
	}
	frame := binary.LittleEndian.AppendUint32(nil, signatureMagic)
	frame = binary.LittleEndian.AppendUint32(frame, uint32(len(b)))
	return append(frame, b...), nil
}

// parseSignature takes a signature frame's content apart. It accepts one form only: decoding and encoding again must give the same
// bytes, so that nothing in it, be it white space or the slack bits of base64, can be changed unnoticed. The signature is
// checked against the key that the statement itself names; whether that key is trusted is for the caller to say.
func parseSignature(b []byte) (*Statement, error) {
	var env dsse.Envelope
	if err := json.Unmarshal(b, &env); err != nil {
		return nil, fmt.Errorf("the signature is damaged: %w", err)
	}
	if again, err := json.Marshal(env); err != nil || !bytes.Equal(again, b) {
		return nil, errors.New("the signature is not written as it was sealed")
	}
	if env.PayloadType != payloadType || len(env.Signatures) != 1 {
		return nil, fmt.Errorf("the signature is of type %q with %d signatures, instead of one of %q", clip(env.PayloadType), len(env.Signatures), payloadType)
	}
	body, err := strictBase64(env.Payload)
	if err != nil {
		return nil, fmt.Errorf("the signed statement is damaged: %w", err)
	}
	if _, err := strictBase64(env.Signatures[0].Sig); err != nil {
		return nil, fmt.Errorf("the signature is damaged: %w", err)
	}
	var st Statement
	if err := json.Unmarshal(body, &st); err != nil {
		return nil, fmt.Errorf("the signed statement is damaged: %w", err)
	}
	pub := PublicKey{Key: st.Predicate.Signer.PublicKey}
	if len(pub.Key) != ed25519.PublicKeySize || env.Signatures[0].KeyID != pub.ID() {
		return nil, errors.New("the signature names another key than the signed statement")
	}
	ev, err := dsse.NewEnvelopeVerifier(verifier{pub})
	if err != nil {
		return nil, err
	}
	if _, err := ev.Verify(context.Background(), &env); err != nil {
		return nil, errors.New("the signature does not fit the statement that it signs")
	}
	return &st, st.check()
}

func strictBase64(s string) ([]byte, error) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err == nil && base64.StdEncoding.EncodeToString(b) != s {
		err = errors.New("not in its one form")
	}
	return b, err
}

// check says why a statement, though signed, is not one about a package.
func (s *Statement) check() error {
	if s.Type != statementType || s.PredicateType != predicateType {
		return fmt.Errorf("the signed statement is of another kind: %q about %q", clip(s.Type), clip(s.PredicateType))
	}
	if len(s.Subject) != 2 || s.Subject[0].Name != packageSubject || s.Subject[1].Name != ManifestPath {
		return errors.New("the signed statement is not about a package and its manifest")
	}
	p := s.Predicate
	if p.Frames < 1 || p.Bytes < 1 || p.Manifest.Offset < 0 || p.Manifest.Size < 0 || p.Manifest.Size > maxManifest || p.TarBytes < p.Manifest.Offset {
		return errors.New("the signed statement's numbers can't be true")
	}
	return nil
}

// readSignature reads the content of the signature frame at off.
func readSignature(r io.ReaderAt, off, size int64) ([]byte, error) {
	if size < skipHeader || size > maxSignature {
		return nil, fmt.Errorf("a signature frame of %d bytes", size)
	}
	b := make([]byte, size)
	if err := readAt(r, b, off); err != nil {
		return nil, err
	}
	if binary.LittleEndian.Uint32(b) != signatureMagic || int64(binary.LittleEndian.Uint32(b[4:])) != size-skipHeader {
		return nil, fmt.Errorf("at offset %d: no signature frame", off)
	}
	return b[skipHeader:], nil
}
