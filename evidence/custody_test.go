package evidence

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

func logged(t *testing.T, n int, key *Key) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.sherd")
	for i := range n {
		e := CustodyEntry{Action: "verified", Actor: "kira", Host: "acme", Tool: "test", EvidenceID: "id", SHA256: strings.Repeat("ab", 32), Note: strings.Repeat("n", i)}
		if err := AppendCustodySigned(path, e, key); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func TestCustody(t *testing.T) {
	isolate(t)
	path := logged(t, 4, testKey())
	r := must[*CustodyReport](t)(VerifyCustody(path, []PublicKey{testKey().Public()}))
	if len(r.Entries) != 4 || len(r.Problems) > 0 || r.Signed != 4 || r.Trusted != 4 || r.Torn {
		t.Fatalf("%+v", r)
	}
	good := must[[]byte](t)(os.ReadFile(CustodyPath(path)))
	check := func(name string, b []byte) {
		t.Helper()
		if err := os.WriteFile(CustodyPath(path), b, 0o600); err != nil {
			t.Fatal(err)
		}
		r := must[*CustodyReport](t)(VerifyCustody(path, nil))
		if len(r.Problems) == 0 && !r.Torn {
			t.Errorf("%s is not noticed", name)
		}
	}
	for i := range good {
		for _, m := range []byte{1, 0x20, 0x80} {
			b := bytes.Clone(good)
			b[i] ^= m
			check("a changed byte", b)
		}
	}
	lines := bytes.SplitAfter(good, []byte("\n"))[:4]
	check("a removed first line", slices.Concat(lines[1:]...))
	check("a removed line", slices.Concat(lines[0], lines[2], lines[3]))
	check("a doubled line", slices.Concat(lines[0], lines[1], lines[1], lines[2], lines[3]))
	check("swapped lines", slices.Concat(lines[0], lines[2], lines[1], lines[3]))
	check("an empty line", slices.Concat(lines[0], []byte("\n"), lines[1], lines[2], lines[3]))
	// A removed end can't show; that the head differs is all there is.
	if err := os.WriteFile(CustodyPath(path), slices.Concat(lines[:3]...), 0o600); err != nil {
		t.Fatal(err)
	}
	if r2 := must[*CustodyReport](t)(VerifyCustody(path, nil)); len(r2.Problems) > 0 || r2.Head == r.Head {
		t.Errorf("a removed end: %+v", r2)
	}
}

// TestTornCustody stops the machine at every byte of the last entry.
func TestTornCustody(t *testing.T) {
	isolate(t)
	path := logged(t, 2, testKey())
	good := must[[]byte](t)(os.ReadFile(CustodyPath(path)))
	first := bytes.IndexByte(good, '\n') + 1
	for cut := first + 1; cut < len(good); cut += 37 {
		if err := os.WriteFile(CustodyPath(path), good[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		os.Remove(path + ".custody.torn")
		r := must[*CustodyReport](t)(VerifyCustody(path, nil))
		if !r.Torn || len(r.Problems) > 0 || len(r.Entries) != 1 {
			t.Fatalf("cut at %d: %+v", cut, r)
		}
		if err := AppendCustodySigned(path, CustodyEntry{Action: "verified"}, testKey()); err != nil {
			t.Fatal(err)
		}
		r = must[*CustodyReport](t)(VerifyCustody(path, nil))
		if r.Torn || len(r.Problems) > 0 || len(r.Entries) != 2 || !strings.Contains(r.Entries[1].Note, "torn") {
			t.Fatalf("cut at %d, repaired: %+v", cut, r)
		}
		if torn := must[[]byte](t)(os.ReadFile(path + ".custody.torn")); !bytes.Equal(torn, append(bytes.Clone(good[first:cut]), '\n')) {
			t.Fatalf("cut at %d: the torn line was lost: %q", cut, torn)
		}
	}
}

func TestCustodyTogether(t *testing.T) {
	isolate(t)
	path := filepath.Join(t.TempDir(), "x.sherd")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5 {
				if err := AppendCustody(path, CustodyEntry{Action: "shown"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	r := must[*CustodyReport](t)(VerifyCustody(path, nil))
	if len(r.Entries) != 40 || len(r.Problems) > 0 || r.Signed != 0 {
		t.Errorf("%d entries, %q", len(r.Entries), r.Problems)
	}
}

func TestVerifyWithCustody(t *testing.T) {
	isolate(t)
	path, s := build(t, WriterOptions{}, variety(t))
	for _, a := range []string{"collected", "verified"} {
		if err := AppendCustodySigned(path, CustodyEntry{Action: a, EvidenceID: s.ID, SHA256: s.SHA256}, testKey()); err != nil {
			t.Fatal(err)
		}
	}
	r, err := Verify(context.Background(), path, trustTest())
	if err != nil || r.Custody == nil || len(r.Custody.Entries) != 2 {
		t.Fatalf("%v %+v", err, r.Custody)
	}
	if err := AppendCustodySigned(path, CustodyEntry{Action: "verified", EvidenceID: s.ID, SHA256: strings.Repeat("00", 32)}, testKey()); err != nil {
		t.Fatal(err)
	}
	_, err = Verify(context.Background(), path, trustTest())
	var ce *CustodyError
	if !errors.As(err, &ce) || !strings.Contains(err.Error(), "entry 3") {
		t.Errorf("a log about other bytes: %v", err)
	}
	if err := os.WriteFile(CustodyPath(path), []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err = Verify(context.Background(), path, trustTest()); !errors.As(err, &ce) {
		t.Errorf("a damaged log: %v", err)
	}
	if _, err = ReadCustody(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no log: %v", err)
	}
}
