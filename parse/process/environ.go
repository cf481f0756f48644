package process

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/verdict"
)

// Bounds of one environment. A process can have anything of its memory shown as it (PR_SET_MM of prctl(2)).
const (
	maxEnviron = 4 << 20 // bytes
	maxVars    = 65_536
)

// Var is one variable of an environment.
type Var struct {
	// Name and Value are raw bytes. An entry without "=", which no ordinary program leaves, is all Name.
	Name, Value string
	// Cite covers "NAME=value", without the zero byte that ends it.
	Cite verdict.Citation
}

// Environ gives the environment of a process as process/<pid>/environ shows it (proc_pid_environ(5)): in its order, names that
// occur twice twice, empty entries left out. An error beside variables says that they are not all or may be cut; one
// that wraps *evidence.MissingError, that none was collected. Variables of an artifact that was altered are not given.
func Environ(p *evidence.Package, pid int) ([]Var, error) {
	path := dir(pid) + "/environ"
	a, err := p.Open(path)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(a, maxEnviron))
	if err != nil {
		return nil, err
	}
	// The content is checked against the manifest only when it is read to its end.
	rest, err := io.Copy(io.Discard, a)
	if err != nil {
		return nil, err
	}
	vars, more := environ(b, verdict.Citation{Artifact: path, SHA256: a.Entry().SHA256})
	switch {
	case rest > 0:
		err = fmt.Errorf("%s: only the first %d of %d bytes were read", path, len(b), a.Size())
	case more:
		err = fmt.Errorf("%s: only the first %d variables were read", path, len(vars))
	case len(a.Entry().Errors) > 0:
		err = fmt.Errorf("%s is incomplete: %w", path, errors.New(a.Entry().Errors[0]))
	}
	return vars, err
}

// environ splits b; more is true when there are variables beyond the limit. Cite is the whole artifact's.
func environ(b []byte, cite verdict.Citation) (vars []Var, more bool) {
	for off := 0; off < len(b); {
		n := bytes.IndexByte(b[off:], 0)
		if n < 0 {
			n = len(b) - off
		}
		if n > 0 {
			if len(vars) == maxVars {
				return vars, true
			}
			name, value, _ := strings.Cut(string(b[off:off+n]), "=")
			cite.Offset, cite.Length = int64(off), int64(n)
			vars = append(vars, Var{name, value, cite})
		}
		off += n + 1
	}
	return vars, false
}
