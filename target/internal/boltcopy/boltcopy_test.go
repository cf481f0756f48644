package boltcopy

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/sherd-forensics/sherd/internal/testenv"
	"github.com/sherd-forensics/sherd/target"
)

func database(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.db")
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	err = db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucket([]byte("v1"))
		if err != nil {
			return err
		}
		for i := range byte(200) {
			if err := b.Put([]byte{i}, bytes.Repeat([]byte{i}, 300)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func count(n *int) func(*bolt.Tx) error {
	return func(tx *bolt.Tx) error {
		*n = 0
		b := tx.Bucket([]byte("v1"))
		if b == nil {
			return errors.New("no bucket")
		}
		return b.ForEach(func(_, _ []byte) error { *n++; return nil })
	}
}

// TestLocked reads a database on which another holds the lock.
func TestLocked(t *testing.T) {
	path := database(t)
	n := 0
	if err := View(target.Places{}, path, count(&n)); err != nil || n != 200 {
		t.Errorf("%d entries, %v", n, err)
	}
	want := errors.New("mine")
	if err := View(target.Places{}, path, func(*bolt.Tx) error { return want }); !errors.Is(err, want) {
		t.Errorf("%v", err)
	}
}

// TestDamaged must neither crash nor hang, wherever the file ends or is overwritten.
func TestDamaged(t *testing.T) {
	path := database(t)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(t.TempDir(), "y.db")
	for cut := 0; cut < len(whole); cut += 1777 {
		for _, b := range [][]byte{whole[:cut], append(bytes.Clone(whole[:cut]), bytes.Repeat([]byte{0xff}, len(whole)-cut)...), append(bytes.Clone(whole[:cut]), make([]byte, len(whole)-cut)...)} {
			if err := os.WriteFile(at, b, 0o600); err != nil {
				t.Fatal(err)
			}
			n := 0
			_ = View(target.Places{}, at, count(&n)) //nolint:errcheck // any answer is right but a crash
		}
	}
}

func TestNotOurs(t *testing.T) {
	testenv.NeedRoot(t)
	path := database(t)
	if err := os.Chown(path, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := View(target.Places{}, path, count(&n)); err == nil {
		t.Error("a stranger's database was read")
	}
}
