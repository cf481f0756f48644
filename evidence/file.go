package evidence

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/internal/printable"
)

// File is where a package is written: PATH.partial until Commit, so that under PATH there is only ever a whole package, and none is
// ever overwritten.
type File struct {
	f    *os.File
	path string
	n    int64
	done bool
}

// PartialPath is where a package lies until it is whole.
func PartialPath(path string) string { return path + ".partial" }

// CreateFile begins a package's file with mode 0600. It refuses a path that exists.
func CreateFile(path string) (*File, error) {
	switch _, err := os.Lstat(path); {
	case err == nil:
		return nil, fmt.Errorf("%s exists and is not overwritten: name another file", printable.Text(path))
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	partial := PartialPath(path)
	f, err := os.OpenFile(partial, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%s exists: it is left from a capture that did not finish, or one is running; it can be read up to its last whole frame. Move it away, or name another file",
			printable.Text(partial))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s can't be made: its directory does not exist", printable.Text(path))
	}
	if err != nil {
		return nil, err
	}
	return &File{f: f, path: path}, nil
}

// Write implements io.Writer.
func (f *File) Write(b []byte) (int, error) {
	n, err := f.f.Write(b)
	f.n += int64(n)
	return n, err
}

// Commit puts the whole package under its name, safe on the disk. When it fails, the error says where the bytes are.
func (f *File) Commit() error {
	if f.done {
		return errors.New("the file is closed")
	}
	f.done = true
	partial := PartialPath(f.path)
	err := errors.Join(f.f.Sync(), f.f.Close())
	if err == nil {
		err = renameNew(partial, f.path)
	}
	if err != nil {
		return fmt.Errorf("the package is whole, but lies in %s: %w", printable.Text(partial), err)
	}
	if err := syncDir(filepath.Dir(f.path)); err != nil {
		return fmt.Errorf("%s is written, but its name may not be on the disk yet: %w", printable.Text(f.path), err)
	}
	return nil
}

// Abort ends a capture that failed. What was written stays, and the error names it; it is nil when nothing was.
func (f *File) Abort() error {
	if f.done {
		return nil
	}
	f.done = true
	partial := PartialPath(f.path)
	if f.n == 0 {
		return errors.Join(f.f.Close(), os.Remove(partial))
	}
	err := fmt.Errorf("what was taken until then, %d bytes, is kept in %s and can be read up to its last whole frame", f.n, printable.Text(partial))
	// A full disk may refuse to sync; the bytes that it took stay readable all the same.
	return errors.Join(err, f.f.Sync(), f.f.Close())
}

// renameNew renames and never replaces. Where the file system can't do that in one step, a hard link can.
func renameNew(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
		if err != nil {
			return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
		}
		return nil
	}
	if err := os.Link(from, to); err == nil {
		return os.Remove(from)
	} else if errors.Is(err, fs.ErrExist) {
		return err
	}
	if _, err := os.Lstat(to); err == nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: unix.EEXIST}
	}
	return os.Rename(from, to)
}
