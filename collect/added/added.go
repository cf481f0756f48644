// Package added takes files and folders that the user names beside the container: logs of the node, an export of the cluster's
// audit log, another tool's findings. They lie in the package under added/, with the path that they had.
//
// They are read as everything else is: through descriptors, regular files only, without touching access times. A symbolic link that
// the user names is followed, for it is the user's wish; one that is met below a folder is not.
package added

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/safefs"
)

const (
	kind = "added"
	// Prefix is where the files lie in the package.
	Prefix = "added/"
	// maxFiles and maxDepth bound what one folder can lead to.
	maxFiles = 500_000
	maxDepth = 64
	// defaultMaxFile bounds one file: of a larger one the end is kept, as logs grow there.
	defaultMaxFile = 64 << 30
)

// Options bound what is taken. Zero values mean the defaults.
type Options struct {
	MaxFile int64 // of one file, in bytes: 64 GiB
}

type collector struct {
	ctx     context.Context
	w       *evidence.Writer
	o       Options
	seen    map[string]bool
	files   int
	partial bool
}

// Collect takes the files and folders at paths. Its error means that the package could not be written or that ctx ended; what could
// not be read is in the package's coverage.
func Collect(ctx context.Context, w *evidence.Writer, paths []string, o Options) error {
	if len(paths) == 0 {
		return nil
	}
	if o.MaxFile == 0 {
		o.MaxFile = defaultMaxFile
	}
	c := &collector{ctx: ctx, w: w, o: o, seen: map[string]bool{}}
	for _, p := range paths {
		if err := c.path(p); err != nil {
			return err
		}
	}
	if c.partial {
		w.Status(kind, "partial")
	} else {
		w.Status(kind, "complete")
	}
	return nil
}

func (c *collector) miss(what, why string) {
	c.partial = true
	c.w.Miss(record.Miss{What: what, Kind: kind, Reason: why, Count: 1})
}

func (c *collector) path(p string) error {
	abs, err := filepath.Abs(p)
	if err == nil {
		abs, err = filepath.EvalSymlinks(abs)
	}
	if err != nil {
		c.miss(p, err.Error())
		return nil
	}
	parent, base := filepath.Split(abs)
	root, err := safefs.Open(parent, safefs.Options{})
	if err != nil {
		c.miss(abs, err.Error())
		return nil
	}
	defer root.Close()
	st, err := root.Lstat(base)
	switch {
	case base == "":
		return c.folder(root, "", "/", 0)
	case err != nil:
		c.miss(abs, err.Error())
		return nil
	case st.IsDir():
		return c.folder(root, base, abs, 0)
	}
	return c.file(root, base, abs)
}

// folder takes everything below rel, which is at path on this machine.
func (c *collector) folder(root *safefs.Root, rel, path string, depth int) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	if depth > maxDepth {
		c.miss(path, fmt.Sprintf("it lies more than %d folders deep", maxDepth))
		return nil
	}
	var names []string
	enough := errors.New("enough")
	err := root.ReadDir(orHere(rel), func(e safefs.Entry) error {
		if len(names) >= maxFiles {
			return enough
		}
		names = append(names, e.Name)
		return nil
	})
	if err != nil {
		c.miss(path, err.Error())
		if !errors.Is(err, enough) {
			return nil
		}
	}
	slices.Sort(names)
	for _, name := range names {
		below, full := filepath.Join(rel, name), filepath.Join(path, name)
		st, err := root.Lstat(below)
		switch {
		case err != nil:
			c.miss(full, err.Error())
		case st.IsDir():
			err = c.folder(root, below, full, depth+1)
			if err != nil {
				return err
			}
		case st.IsSymlink():
			c.miss(full, "a symbolic link below a folder is not followed: name what it points to")
		default:
			if err := c.file(root, below, full); err != nil {
				return err
			}
		}
	}
	return nil
}

func orHere(rel string) string {
	if rel == "" {
		return "."
	}
	return rel
}

// file takes one regular file. Its error ends the capture.
func (c *collector) file(root *safefs.Root, rel, path string) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	if c.seen[path] {
		return nil // named twice, or inside a folder that was named too
	}
	c.seen[path] = true
	if c.files++; c.files > maxFiles {
		if c.files == maxFiles+1 {
			c.miss("further files", fmt.Sprintf("more than %d were named", maxFiles))
		}
		return nil
	}
	f, err := root.Open(rel)
	if err != nil {
		c.miss(path, err.Error())
		return nil
	}
	defer f.Close()
	st := f.Stat()
	m := evidence.Meta{Path: Prefix + strings.TrimPrefix(path, "/"), Origin: path, Mode: int64(st.Perm()), UID: int(st.UID), GID: int(st.GID), Mtime: st.Mtime, Atime: st.Atime,
		Ctime: st.Ctime, Btime: st.Btime}
	size, skip := st.Size, int64(0)
	if size > c.o.MaxFile {
		skip, size = size-c.o.MaxFile, c.o.MaxFile
		m.Origin = fmt.Sprintf("%s from byte %d", path, skip)
		c.miss(path, fmt.Sprintf("it has %d bytes: the first %d are left out", st.Size, skip))
	}
	e, err := c.w.Stream(m, size, func(w io.Writer) error {
		_, err := io.Copy(w, io.NewSectionReader(f, skip, size))
		return err
	})
	if err != nil {
		return err
	}
	if len(e.Errors) > 0 {
		c.miss(path, strings.Join(e.Errors, "; "))
	}
	return nil
}
