package memory

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// Bounds of what one process's list of mappings may cost us. The kernel's default limit is 65,530 mappings.
const (
	maxMappings  = 1 << 18
	maxPathBytes = 8 << 20 // of all distinct paths together
	maxMapsLine  = 64 << 10
)

type perms uint8

const (
	permRead perms = 1 << iota
	permWrite
	permExec
	permShared
)

func (p perms) String() string {
	b := []byte("---p")
	for i, c := range "rwx" {
		if p&(1<<i) != 0 {
			b[i] = byte(c)
		}
	}
	if p&permShared != 0 {
		b[3] = 's'
	}
	return string(b)
}

// kind says what a mapping shows.
type kind uint8

const (
	kindAnon    kind = iota // memory of the process alone, and the vdso
	kindFile                // a file that can be had by its name
	kindOrphan              // shared anonymous memory, a memfd, a deleted file: its contents are nowhere else
	kindDevice              // a device's memory, or the kernel's own data pages
	kindUnknown             // a file that could not be looked at; taken for a file
)

// mapping is one line of /proc/PID/maps. It is kept small, since there can be many: sizes are in pages.
type mapping struct {
	start, end   uint64
	offset       uint64
	inode        uint64
	major, minor uint32
	path         int32 // index into maps.paths
	perms        perms
	kind         kind
	why          left
	first, count int32 // its pieces in the plan

	present, anon, swapped, dumped, unreadable uint32
}

// maps is a process's list of mappings in order of address.
type maps struct {
	list  []mapping
	paths []string
	// cut says that there were more mappings, or longer paths, than we keep.
	cut, cutPaths bool
}

func (m *maps) path(p *mapping) string { return m.paths[p.path] }

// find gives the mapping that holds addr, or nil.
func (m *maps) find(addr uint64) *mapping {
	lo, hi := 0, len(m.list)
	for lo < hi {
		mid := (lo + hi) / 2
		if m.list[mid].end <= addr {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(m.list) && m.list[lo].start <= addr {
		return &m.list[lo]
	}
	return nil
}

// parseMaps reads the format of proc_pid_maps(5). Lines that are out of order or make no sense are an error, beside what
// was read before them.
func parseMaps(r io.Reader) (*maps, error) {
	m := &maps{paths: []string{""}}
	index := map[string]int32{"": 0}
	room := maxPathBytes
	br := bufio.NewReaderSize(r, maxMapsLine)
	for n := 1; ; n++ {
		line, err := br.ReadSlice('\n')
		if len(line) == 0 && errors.Is(err, io.EOF) {
			return m, nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return m, fmt.Errorf("line %d of maps: %w", n, err)
		}
		if len(m.list) == maxMappings {
			m.cut = true
			return m, nil
		}
		p, path, ok := parseMapsLine(bytes.TrimSuffix(line, []byte("\n")))
		if !ok || len(m.list) > 0 && p.start < m.list[len(m.list)-1].end {
			return m, fmt.Errorf("line %d of maps can't be read: %q", n, line[:min(len(line), 100)])
		}
		i, known := index[string(path)]
		if !known && len(path) > room {
			m.cutPaths = true
		} else if !known {
			i = int32(len(m.paths))
			s := string(path)
			m.paths = append(m.paths, s)
			index[s] = i
			room -= len(path)
		}
		p.path = i
		m.list = append(m.list, p)
	}
}

func parseMapsLine(line []byte) (p mapping, path []byte, ok bool) {
	field := func(sep byte) string {
		head, tail, found := bytes.Cut(line, []byte{sep})
		ok = ok && found
		line = tail
		return string(head)
	}
	num := func(s string, base, bits int) uint64 {
		v, err := strconv.ParseUint(s, base, bits)
		ok = ok && err == nil
		return v
	}
	ok = true
	p.start = num(field('-'), 16, 64)
	p.end = num(field(' '), 16, 64)
	fl := field(' ')
	p.offset = num(field(' '), 16, 64)
	p.major = uint32(num(field(':'), 16, 32))
	p.minor = uint32(num(field(' '), 16, 32))
	ino, rest, _ := bytes.Cut(line, []byte{' '})
	p.inode = num(string(ino), 10, 64)
	path = bytes.TrimLeft(rest, " ")
	if !ok || len(fl) != 4 || p.start >= p.end || (p.start|p.end)&0xfff != 0 || p.offset > math.MaxInt64 {
		return p, nil, false
	}
	for i, c := range "rwx" {
		if fl[i] == byte(c) {
			p.perms |= 1 << i
		}
	}
	if fl[3] == 's' {
		p.perms |= permShared
	}
	return p, path, true
}

const deletedSuffix = " (deleted)"

// kindByName judges a mapping by what maps prints alone. Files need a second look, see files.classify.
func kindByName(p *mapping, path string) kind {
	switch {
	case strings.HasPrefix(path, "[vvar") || path == "[vsyscall]":
		return kindDevice
	case strings.HasPrefix(path, "[anon_shmem:"):
		return kindOrphan
	case p.inode == 0 && !strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "anon_inode:"):
		return kindAnon
	case strings.HasPrefix(path, "anon_inode:"):
		return kindDevice
	case strings.HasSuffix(path, deletedSuffix):
		return kindOrphan
	}
	return kindFile
}
