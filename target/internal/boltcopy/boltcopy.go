// Package boltcopy reads bbolt databases (https://github.com/etcd-io/bbolt) that another process has open for writing. That
// process holds a lock on the file, so the file is copied into memory and read there; a copy taken in the middle of a
// write may contradict itself, and is then taken again.
package boltcopy

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/target"
)

// tries is how often a copy is taken before the database counts as damaged.
const tries = 3

// View calls read with a transaction over a copy of the database at path on the machine's root. A database that belongs
// neither to root nor to the caller is refused: bbolt trusts the pages of its file, and who can write them could
// lead it in circles.
func View(p target.Places, path string, read func(*bolt.Tx) error) error {
	owner, err := p.Owner(path)
	if err != nil {
		return err
	}
	if owner != 0 && owner != os.Getuid() {
		return fmt.Errorf("%s belongs to user %d and is not trusted enough to be read as a database", path, owner)
	}
	for range tries {
		var b []byte
		if b, err = p.ReadFile(path); err != nil {
			return err
		}
		var damaged bool
		if damaged, err = view(b, read); !damaged {
			return err
		}
	}
	return fmt.Errorf("%s: %w", path, err)
}

func view(b []byte, read func(*bolt.Tx) error) (damaged bool, err error) {
	// bbolt panics on pages that contradict themselves, and a page number beyond the file's end is a fault.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if x := recover(); x != nil {
			damaged, err = true, fmt.Errorf("the database is damaged: %v", x)
		}
	}()
	if len(b) == 0 {
		return true, errors.New("the database is empty")
	}
	fd, err := unix.MemfdCreate("sherd-database", unix.MFD_CLOEXEC)
	if err != nil {
		return false, err
	}
	f := os.NewFile(uintptr(fd), "sherd-database")
	defer f.Close()
	if _, err := f.Write(b); err != nil {
		return false, err
	}
	db, err := bolt.Open(fmt.Sprintf("/proc/self/fd/%d", fd), 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		return true, err
	}
	defer db.Close()
	return false, db.View(read)
}
