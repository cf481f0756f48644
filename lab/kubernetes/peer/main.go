// Peer is what a user would bring into a cluster for want of anything better, small: it waits, packs a folder into a tar, and writes bytes that
// don't compress. The benchmark compares with it.
package main

import (
	"archive/tar"
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "tar":
		return pack(args[1], os.Stdout)
	case len(args) == 2 && args[0] == "random":
		return random(os.Stdout, args[1])
	case len(args) == 3 && args[0] == "keep":
		f, err := os.Create(args[1])
		if err != nil {
			return err
		}
		if err := random(f, args[2]); err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM, syscall.SIGINT)
	<-c
	return nil
}

func random(w io.Writer, mib string) error {
	n, err := strconv.ParseInt(mib, 10, 64)
	if err != nil {
		return err
	}
	_, err = io.CopyN(w, rand.NewChaCha8([32]byte{1}), n<<20)
	return err
}

// pack writes what is below dir that is a file, a folder or a link.
func pack(dir string, w io.Writer) error {
	out := bufio.NewWriterSize(w, 1<<20)
	t := tar.NewWriter(out)
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // what can't be read is left out, as tar does
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		if rel == "proc" || rel == "sys" || rel == "dev" {
			return filepath.SkipDir
		}
		info, err := d.Info()
		if err != nil || !info.Mode().IsRegular() && !info.IsDir() {
			return nil
		}
		h, err := tar.FileInfoHeader(info, "")
		if err != nil {
			return nil
		}
		h.Name = rel
		if err := t.WriteHeader(h); err != nil || info.IsDir() {
			return err
		}
		f, err := os.Open(p)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.CopyN(t, f, h.Size)
		return err
	})
	if err == nil {
		err = t.Close()
	}
	if err == nil {
		err = out.Flush()
	}
	return err
}
