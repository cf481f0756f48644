package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/sherd-forensics/sherd/detect/carve"
	"github.com/sherd-forensics/sherd/detect/core"
	"github.com/sherd-forensics/sherd/detect/mention"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/target"
)

// classes are what an examiner would have grep look for: URLs, addresses, private keys, the commonest tokens, wallets.
const classes = `(https?|wss?|tcp|stratum\+tcp|mongodb|postgres|redis)://[a-zA-Z0-9./?=_%:&@-]+|\b([0-9]{1,3}\.){3}[0-9]{1,3}(:[0-9]{1,5})?\b|-----BEGIN [A-Z ]*PRIVATE KEY-----` +
	`|\b(AKIA|ASIA)[A-Z0-9]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}\b|\bxox[bpars]-[A-Za-z0-9-]{24,}|\beyJ[A-Za-z0-9_-]+\.eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*` +
	`|\b[13][1-9A-HJ-NP-Za-km-z]{25,34}\b|\bbc1[a-z0-9]{39,59}\b|\b0x[0-9a-fA-F]{40}\b|\b[48][1-9A-HJ-NP-Za-km-z]{94}\b`

// memory looks through a core for what says where a program talks to and what it holds.
func (b *bench) memory() error {
	dir, err := os.MkdirTemp("", "sherd-bench-memory-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	raw, sealed := filepath.Join(dir, "core"), filepath.Join(dir, "memory.sherd")
	if err := self("child-memory-make", fmt.Sprint(b.size), raw, sealed).Run(); err != nil {
		return fmt.Errorf("making the memory: %w", err)
	}
	cs := []*contestant{
		{name: "sherd: a package's core, decompressed on the way", make: func() *exec.Cmd { return self("child-memory", "package", sealed) }},
		{name: "sherd: a file", make: func() *exec.Cmd { return self("child-memory", "file", raw) }},
	}
	// Without a locale grep takes bytes as they are, which is what makes it fast.
	pipe := func(s string) func() *exec.Cmd {
		return func() *exec.Cmd {
			c := exec.Command("sh", "-c", s+" | wc -l >/dev/null", raw, classes) // grep stops at its first hit where it writes to /dev/null itself
			c.Env = append(os.Environ(), "LC_ALL=C")
			return c
		}
	}
	if _, err := exec.LookPath("strings"); err == nil {
		cs = append(cs, &contestant{name: "strings -a | grep -oE, a file", make: pipe(`strings -a "$0" | grep -oE -e "$1"`)})
	}
	cs = append(cs, &contestant{name: "grep -aoE, a file", make: pipe(`grep -aoE -e "$1" "$0"`)})
	if err := b.run(fmt.Sprintf("URLs, addresses, keys, tokens and wallets in %d MiB of a service's memory", b.size>>20), cs); err != nil {
		return err
	}
	return b.run(fmt.Sprintf("programs in %d MiB of a service's memory", b.size>>20), []*contestant{
		{name: "sherd: a package's core, decompressed on the way", make: func() *exec.Cmd { return self("child-memory", "carve", sealed) }},
		{name: "grep -abo ELF, a file (places only)", make: pipe(`grep -aboP "\x7fELF" "$0"`)},
	})
}

const memoryNeedles = 200

// memoryMap is the one mapping of the made-up process.
func memoryMap(size int64) []record.Mapping {
	const start = 0x7f0000000000
	return []record.Mapping{{Start: start, End: start + uint64(size), Perms: "rw-p", Path: "[heap]", Segments: []record.Segment{{Addr: start, Length: size}}}}
}

func makeMemory(size int64, raw, sealed string) error {
	mem := make([]byte, size)
	fillHeap(mem)
	exe, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	copy(mem[size/2+1234:], exe)
	for i := range memoryNeedles {
		at := int64(i)*(size/2/memoryNeedles) + 77 // in the half before the program
		copy(mem[at:], fmt.Sprintf(" https://host-%d.example.net/x/%d ", i, i))
	}
	if err := os.WriteFile(raw, mem, 0o600); err != nil {
		return err
	}
	out, err := os.Create(sealed)
	if err != nil {
		return err
	}
	defer out.Close()
	w, err := evidence.NewWriter(out, evidence.WriterOptions{Tool: "bench", Target: &target.Container{URL: "bench://memory", Name: "bench"}})
	if err != nil {
		return err
	}
	fill := func(o io.Writer) error { _, err := o.Write(mem); return err }
	if _, err := w.Stream(evidence.Meta{Path: "process/1/core", Origin: "bench"}, size, fill); err != nil {
		return err
	}
	_, err = w.Close()
	return err
}

// childMemory looks for mentions or programs in a package's core or in a file.
func childMemory(how, path string) error {
	var m *core.Image
	if how == "file" {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		st, err := f.Stat()
		if err != nil {
			return err
		}
		m = core.File(path, f, st.Size())
	} else {
		p, err := evidence.Open(path, evidence.OpenOptions{})
		if err != nil {
			return err
		}
		defer p.Close()
		e, _ := p.Artifact("process/1/core")
		if m, err = core.Open(p, "process/1", memoryMap(e.Size)); err != nil {
			return err
		}
	}
	if how == "carve" {
		found, err := carve.Find(context.Background(), m, carve.Anonymous, nil)
		if err == nil && (len(found) == 0 || !found[0].Complete()) {
			err = fmt.Errorf("found %d programs", len(found))
		}
		return err
	}
	urls := 0
	err := mention.Scan(context.Background(), m, func(x mention.Placed) bool {
		if x.Kind == mention.URL {
			urls++
		}
		return true
	}, nil)
	if err == nil && urls < memoryNeedles-2 {
		err = fmt.Errorf("found %d of about %d URLs", urls, memoryNeedles)
	}
	return err
}
