package evidence_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"filippo.io/age"

	"github.com/sherd-forensics/sherd/evidence"
)

// TestResign: what a collector without a key of its own made is the responder's afterwards, and only if it is what the collector signed.
func TestResign(t *testing.T) {
	key, err := evidence.NewKey("kira@acme")
	if err != nil {
		t.Fatal(err)
	}
	made := func(o evidence.WriterOptions) (string, *evidence.Sealed) {
		path := filepath.Join(t.TempDir(), "x.sherd")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		w, err := evidence.NewWriter(f, o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Add(evidence.Meta{Path: "target/pod.json"}, []byte(`{"kind":"Pod"}`)); err != nil {
			t.Fatal(err)
		}
		s, err := w.Close()
		if err != nil {
			t.Fatal(err)
		}
		return path, s
	}
	resign := func(path, collector string) (string, error) {
		return evidence.Resign(context.Background(), path, key, collector)
	}
	path, s := made(evidence.WriterOptions{Tool: "collector"})
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum, err := resign(path, s.KeyID)
	if err != nil {
		t.Fatal(err)
	}
	r, err := evidence.Verify(context.Background(), path, evidence.VerifyOptions{Trusted: []evidence.PublicKey{key.Public()}})
	if err != nil {
		t.Fatalf("%v", err)
	}
	if r.SHA256 != sum || r.Signer != "kira@acme" || !r.Trusted {
		t.Errorf("signed by %+v with sum %s, not %s", r.Signer, r.SHA256, sum)
	}
	if _, err := resign(path, s.KeyID); err == nil {
		t.Error("signed by another key than the collector's, and accepted")
	}
	// Each byte counts.
	for _, at := range []int{10, len(before) / 3, len(before) - 40} {
		bad := append([]byte(nil), before...)
		bad[at] ^= 1
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := resign(path, s.KeyID); err == nil {
			t.Errorf("byte %d was changed, and it is signed all the same", at)
		}
		if now, err := os.ReadFile(path); err != nil || string(now) != string(bad) {
			t.Errorf("byte %d: what is refused was written to", at)
		}
	}
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	path, s = made(evidence.WriterOptions{Tool: "collector", Recipients: []age.Recipient{id.Recipient()}})
	if _, err := resign(path, s.KeyID); !errors.Is(err, evidence.ErrEncrypted) {
		t.Errorf("an encrypted package: %v", err)
	}
}
