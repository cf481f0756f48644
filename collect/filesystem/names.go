package filesystem

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sherd-forensics/sherd/internal/safefs"
)

const (
	// nameBudget is how many bytes of names are held of one directory at a time. A directory with more of them is read
	// several times, each time for the smallest names that are still due: slow, but it can't exhaust memory.
	nameBudget = 2 << 20
	// nameCost is what a name costs beside its bytes.
	nameCost = 16
	// maxScan bounds the entries of one directory: one that never ends is no directory.
	maxScan = 20_000_000
)

var errEndless = fmt.Errorf("more than %d entries in one directory", maxScan)

// names gives the names in one directory in ascending order of their bytes, whatever the directory's size.
type names struct {
	dir    *safefs.Dir
	budget int
	buf    []string
	pos    int
	more   bool   // names above the last of buf were left for another pass
	last   string // the greatest name given so far
	began  bool
	err    error
}

// peek gives the next name; false at the end or after an error, which is in err.
func (n *names) peek() (string, bool) {
	if n.pos == len(n.buf) && (!n.began || n.more) && n.err == nil {
		n.fill()
	}
	if n.pos >= len(n.buf) {
		return "", false
	}
	return n.buf[n.pos], true
}

func (n *names) next() {
	n.last = n.buf[n.pos]
	n.buf[n.pos] = ""
	n.pos++
}

func (n *names) fill() {
	n.buf, n.pos, n.more = n.buf[:0], 0, false
	held, seen, bound := 0, 0, ""
	err := n.dir.Entries(func(e safefs.Entry) error {
		if seen++; seen > maxScan {
			return errEndless
		}
		if n.began && e.Name <= n.last || n.more && e.Name > bound {
			return nil
		}
		n.buf = append(n.buf, e.Name)
		if held += len(e.Name) + nameCost; held > 2*n.budget {
			held = n.cut()
			bound = n.buf[len(n.buf)-1]
		}
		return nil
	})
	n.began = true
	if held > n.budget {
		n.cut()
	} else {
		slices.Sort(n.buf)
	}
	n.buf = slices.Compact(n.buf) // a directory that changes while it is listed may give a name twice
	if err != nil {
		n.err = err
		n.more = false
	}
}

// cut keeps the smallest names that fit the budget.
func (n *names) cut() int {
	slices.Sort(n.buf)
	held := 0
	for i, s := range n.buf {
		if held += len(s) + nameCost; held > n.budget && i > 0 {
			clear(n.buf[i:])
			n.buf = n.buf[:i]
			n.more = true
			return held - len(s) - nameCost
		}
	}
	return held
}

// merged walks several directories at once in ascending order of names; present has the indexes of those that have the name.
func merged(all []*names, fn func(name string, present []int) error) error {
	var present []int
	for {
		least, found := "", false
		for _, n := range all {
			if n == nil {
				continue
			}
			if s, ok := n.peek(); ok && (!found || s < least) {
				least, found = s, true
			}
		}
		if !found {
			return nil
		}
		present = present[:0]
		for i, n := range all {
			if n == nil {
				continue
			}
			if s, ok := n.peek(); ok && s == least {
				present = append(present, i)
				n.next()
			}
		}
		if err := fn(strings.Clone(least), present); err != nil {
			return err
		}
	}
}

// gone reports whether an error only says that the thing is no longer there or no longer what it was.
func gone(err error) bool {
	return errors.Is(err, errNoEntry) || errors.Is(err, errNotDir)
}
