package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/sherd-forensics/sherd/detect/indicator"
)

// indicators looks for the entries of a long list in as many bytes as a process's memory has.
func (b *bench) indicators() error {
	dir, err := os.MkdirTemp("", "sherd-bench-indicators-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	text, list := filepath.Join(dir, "text"), filepath.Join(dir, "list")
	if err := errors.Join(makeText(text, b.size/2), makeList(list, 100_000)); err != nil {
		return err
	}
	cs := []*contestant{
		{name: "sherd: whole domains and addresses", make: func() *exec.Cmd { return self("child-indicators", text, list) }},
		{name: "grep -aoFf", make: func() *exec.Cmd { return quiet("grep", "-aoFf", list, text) }},
	}
	if _, err := exec.LookPath("rg"); err == nil {
		cs = append(cs, &contestant{name: "rg -aoFf", make: func() *exec.Cmd { return quiet("rg", "-aoFf", list, text) }})
	}
	return b.run(fmt.Sprintf("100,000 indicators in %d MiB of memory-like text", b.size/2>>20), cs)
}

// needles is how many times the text holds a value of the list.
const needles = 50

// makeText writes lines as services keep them in memory, with binary between, and a few entries of the list.
func makeText(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	every := size / needles
	for n, i, next := int64(0), 0, every/2; n < size; i++ {
		k, err := fmt.Fprintf(w, `{"time":"2026-11-24T03:%02d:11Z","remote":"10.0.%d.%d:51234","host":"shop-%d.example.org","path":"/cart?item=%d"}`+"\x00\x01\xff\n", i%60, i%250, i%199, i%977, i)
		if err != nil {
			return err
		}
		n += int64(k)
		if n > next {
			if k, err = fmt.Fprintf(w, "dial tcp: lookup host-%d.bad.example: no such host\n", i%100_000); err != nil {
				return err
			}
			n, next = n+int64(k), next+every
		}
	}
	return errors.Join(w.Flush(), f.Close())
}

func makeList(path string, n int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	for i := range n {
		if _, err := fmt.Fprintf(w, "host-%d.bad.example\n", i); err != nil {
			return err
		}
	}
	return errors.Join(w.Flush(), f.Close())
}

// childIndicators reads a file in pieces, as a process's memory is read out of a package.
func childIndicators(text, list string) error {
	s := &indicator.Set{}
	if err := s.Load(list); err != nil {
		return err
	}
	f, err := os.Open(text)
	if err != nil {
		return err
	}
	defer f.Close()
	const window, overlap = 4 << 20, 4 << 10
	buf, hits := make([]byte, window), 0
	for off := int64(0); ; off += window - overlap {
		n, err := f.ReadAt(buf, off)
		s.Text(buf[:n], func(indicator.Match) bool { hits++; return true })
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if hits < needles-1 {
		return fmt.Errorf("found %d of about %d", hits, needles)
	}
	return nil
}
