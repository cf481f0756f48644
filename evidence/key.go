package evidence

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"github.com/sherd-forensics/sherd/internal/printable"
)

// maxKeyFile bounds a key file.
const maxKeyFile = 64 << 10

// Key signs packages and custody entries. It is an Ed25519 private key.
type Key struct {
	// Name says whose it is, "kira@acme". It is a claim, not a proof.
	Name string
	// Path is where it lies, empty for one that was never stored.
	Path string
	// Ephemeral is true for a key made for one package, because there was no place to keep one.
	Ephemeral bool
	priv      ed25519.PrivateKey
	id        string
}

// PublicKey verifies what a Key signed.
type PublicKey struct {
	Name string
	Path string
	Key  ed25519.PublicKey
}

// ID is the key's fingerprint as SSH writes it, "SHA256:…".
func (k PublicKey) ID() string {
	id, err := dsse.SHA256KeyID(k.Key)
	if err != nil {
		return ""
	}
	return id
}

// NewKey makes a key.
func NewKey(name string) (*Key, error) {
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	return newKey(priv, name, "")
}

func newKey(priv ed25519.PrivateKey, name, path string) (*Key, error) {
	k := &Key{Name: name, Path: path, priv: priv}
	k.id = k.Public().ID()
	return k, nil
}

// ID is the key's fingerprint as SSH writes it.
func (k *Key) ID() string { return k.id }

// Public is the half to hand out.
func (k *Key) Public() PublicKey {
	pub, _ := k.priv.Public().(ed25519.PublicKey) // it is one, by construction
	return PublicKey{Name: k.Name, Path: k.Path, Key: pub}
}

// PublicPEM is the half to hand out, in PEM, below a line with its name.
func (k *Key) PublicPEM() ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(k.Public().Key)
	if err != nil {
		return nil, err
	}
	return append([]byte(comment(k.Name)), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})...), nil
}

// signer adapts a Key to dsse.Signer.
type signer struct{ *Key }

func (s signer) Sign(_ context.Context, data []byte) ([]byte, error) {
	return ed25519.Sign(s.priv, data), nil
}
func (s signer) KeyID() (string, error) { return s.id, nil }

// verifier adapts a PublicKey to dsse.Verifier.
type verifier struct{ PublicKey }

func (v verifier) Verify(_ context.Context, data, sig []byte) error {
	if len(v.Key) != ed25519.PublicKeySize || !ed25519.Verify(v.Key, data, sig) {
		return errors.New("the signature is not of this key and these bytes")
	}
	return nil
}
func (v verifier) KeyID() (string, error)   { return v.ID(), nil }
func (v verifier) Public() crypto.PublicKey { return v.Key }

// comment is the line above a PEM block; readers of PEM skip what precedes the block.
func comment(name string) string { return "# " + printable.Clip(name, 200) + "\n" }

// nameIn finds the comment again.
func nameIn(b []byte) string {
	line, _, _ := bytes.Cut(b, []byte{'\n'})
	s, ok := strings.CutPrefix(string(line), "# ")
	if !ok {
		return ""
	}
	return printable.Clip(strings.TrimSpace(s), 200)
}

func signerName() string {
	name := "unknown"
	if u, err := user.Current(); err == nil && u.Username != "" {
		name = u.Username
	}
	if h, err := os.Hostname(); err == nil && h != "" {
		name += "@" + h
	}
	return name
}

func configDir() string {
	if d := os.Getenv("XDG_CONFIG_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "sherd")
	}
	home, err := os.UserHomeDir()
	if err != nil || home == "" {
		return filepath.Join("/etc", "sherd")
	}
	return filepath.Join(home, ".config", "sherd")
}

// DefaultKeyPath is where a user's own key lies: $XDG_CONFIG_HOME/sherd/key, else ~/.config/sherd/key.
func DefaultKeyPath() string { return filepath.Join(configDir(), "key") }

func trustedDir() string { return filepath.Join(configDir(), "trusted") }

// LoadKey reads a private key: Ed25519, PKCS #8, in PEM.
func LoadKey(path string) (*Key, error) {
	b, err := readSmall(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("%s holds no private key in PEM (-----BEGIN PRIVATE KEY-----); `openssl genpkey -algorithm ed25519` makes one", printable.Text(path))
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: the private key is damaged: %w", printable.Text(path), err)
	}
	priv, ok := k.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s holds a key of another kind than Ed25519", printable.Text(path))
	}
	name := nameIn(b)
	if name == "" {
		name = signerName()
	}
	return newKey(priv, name, path)
}

// LoadOrCreateKey reads the key at path, and makes it first if there is none. When the place can't be written, the key is
// made for this process alone and marked Ephemeral.
func LoadOrCreateKey(path string) (*Key, error) {
	k, err := LoadKey(path)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	if k, err = NewKey(signerName()); err != nil {
		return nil, err
	}
	if err := k.store(path); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return LoadKey(path) // another process was first
		}
		k.Ephemeral = true
		return k, nil
	}
	k.Path = path
	return k, nil
}

// store writes the key aside and links it into place, so that it is never seen half-written and never replaces another.
func (k *Key) store(path string) (err error) {
	der, err := x509.MarshalPKCS8PrivateKey(k.priv)
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".key-*") // made with mode 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	_, err = f.Write(append([]byte(comment(k.Name)), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})...))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

// LoadPublicKey reads an Ed25519 public key in PEM; a private key's file will do too.
func LoadPublicKey(path string) (PublicKey, error) {
	b, err := readSmall(path)
	if err != nil {
		return PublicKey{}, err
	}
	block, _ := pem.Decode(b)
	if block != nil && block.Type == "PRIVATE KEY" {
		k, err := LoadKey(path)
		if err != nil {
			return PublicKey{}, err
		}
		return k.Public(), nil
	}
	if block == nil || block.Type != "PUBLIC KEY" {
		return PublicKey{}, fmt.Errorf("%s holds no public key in PEM (-----BEGIN PUBLIC KEY-----); the signer prints it with `sherd key`", printable.Text(path))
	}
	k, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return PublicKey{}, fmt.Errorf("%s: the public key is damaged: %w", printable.Text(path), err)
	}
	pub, ok := k.(ed25519.PublicKey)
	if !ok {
		return PublicKey{}, fmt.Errorf("%s holds a key of another kind than Ed25519", printable.Text(path))
	}
	name := nameIn(b)
	if name == "" {
		name = strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
	}
	return PublicKey{Name: name, Path: path, Key: pub}, nil
}

// LoadTrusted reads the public keys in the named files; without any, it gives the user's own key, if there is one, and those in
// the folder "trusted" beside it.
func LoadTrusted(files []string) ([]PublicKey, error) {
	var out []PublicKey
	if len(files) > 0 {
		for _, f := range files {
			k, err := LoadPublicKey(f)
			if err != nil {
				return nil, fmt.Errorf("the key to trust: %w", err)
			}
			out = append(out, k)
		}
		return out, nil
	}
	own, err := LoadKey(DefaultKeyPath())
	switch {
	case err == nil:
		out = append(out, own.Public())
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("your own key: %w", err)
	}
	found, err := filepath.Glob(filepath.Join(globEscape(trustedDir()), "*.pub"))
	if err != nil {
		return nil, err
	}
	slices.Sort(found)
	for _, f := range found {
		k, err := LoadPublicKey(f)
		if err != nil {
			return nil, fmt.Errorf("a trusted key: %w", err)
		}
		out = append(out, k)
	}
	return out, nil
}

var globEscape = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace

// readSmall reads a key file, which is never large.
func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", printable.Text(path), err)
	}
	if len(b) > maxKeyFile {
		return nil, fmt.Errorf("%s is too large for a key", printable.Text(path))
	}
	return b, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
