package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/verdict"
)

// Thread is one line of process/<pid>/threads.jsonl and where it stands.
type Thread struct {
	record.Thread
	Cite verdict.Citation
}

// Threads gives the threads of a process; none for one with a single thread. Errors are as with Read.
func Threads(p *evidence.Package, pid int) iter.Seq2[Thread, error] {
	return func(yield func(Thread, error) bool) {
		for l, err := range part(p, dir(pid)+"/threads.jsonl", parseThread) {
			if !yield(Thread{l.v, l.cite}, err) {
				return
			}
		}
	}
}

// Mapped is one line of process/<pid>/mapped.jsonl and where it stands.
type Mapped struct {
	record.Mapped
	Cite verdict.Citation
}

// Code gives the files that a process has mapped as code and that are neither its executable nor the image's. Errors are as with Read.
func Code(p *evidence.Package, pid int) iter.Seq2[Mapped, error] {
	return func(yield func(Mapped, error) bool) {
		for l, err := range part(p, dir(pid)+"/mapped.jsonl", parseMapped) {
			if !yield(Mapped{l.v, l.cite}, err) {
				return
			}
		}
	}
}

type cited[T any] struct {
	v    T
	cite verdict.Citation
}

// part reads the lines of an artifact that a process need not have.
func part[T any](p *evidence.Package, path string, parse func([]byte) (T, error)) iter.Seq2[cited[T], error] {
	return func(yield func(cited[T], error) bool) {
		if _, ok := p.Artifact(path); !ok {
			return
		}
		for l, err := range p.Lines(path) {
			if err != nil {
				yield(cited[T]{}, fmt.Errorf("reading %s: %w", path, err))
				return
			}
			v, err := parse(l.Data)
			if err != nil {
				err = &LineError{Artifact: l.Artifact, Offset: l.Offset, Err: err}
			}
			if !yield(cited[T]{v, verdict.Citation{Artifact: l.Artifact, Offset: l.Offset, Length: l.Length, SHA256: l.SHA256}}, err) {
				return
			}
		}
	}
}

func parseThread(line []byte) (record.Thread, error) {
	var t record.Thread
	if err := object(line, &t); err != nil {
		return record.Thread{}, err
	}
	if t.TID <= 0 || t.StartTime < 0 {
		return record.Thread{}, fmt.Errorf("thread %d, started at %d", t.TID, t.StartTime)
	}
	return t, nil
}

func parseMapped(line []byte) (record.Mapped, error) {
	var m record.Mapped
	if err := object(line, &m); err != nil {
		return record.Mapped{}, err
	}
	switch {
	case m.Start >= m.End:
		return record.Mapped{}, fmt.Errorf("mapping %x-%x", m.Start, m.End)
	case !origins[m.Origin]:
		return record.Mapped{}, fmt.Errorf("unknown origin %.40q", m.Origin)
	case m.SHA256 != "" && !isHash(m.SHA256):
		return record.Mapped{}, errors.New("malformed sha256")
	}
	return m, nil
}

func object(line []byte, v any) error {
	if len(line) > maxLine {
		return fmt.Errorf("a line of %d bytes, over the limit of %d", len(line), maxLine)
	}
	if len(line) == 0 || line[0] != '{' {
		return errors.New("not a JSON object")
	}
	return json.Unmarshal(line, v)
}

// Node is a process and its children, in order of pid.
type Node struct {
	Row
	Children []*Node
}

// Tree arranges rows by parent: its roots are the processes whose parent is not among the rows. Parents are those of the capture,
// when orphans had been handed on already. Of several rows with one pid (the number was used again) the last one is the parent. A
// circle, which no kernel shows but a forged row may, is cut at its lowest pid.
func Tree(rows []Row) []*Node {
	nodes := make([]*Node, len(rows))
	byPID := map[int]*Node{}
	for i := range rows {
		nodes[i] = &Node{Row: rows[i]}
	}
	slices.SortStableFunc(nodes, func(a, b *Node) int { return a.PID - b.PID })
	for _, n := range nodes {
		byPID[n.PID] = n
	}
	parent := func(n *Node) *Node {
		if up := byPID[n.PPID]; up != n {
			return up
		}
		return nil
	}
	cut := circles(nodes, parent)
	var roots []*Node
	for _, n := range nodes {
		if up := parent(n); up != nil && !cut[n] {
			up.Children = append(up.Children, n)
		} else {
			roots = append(roots, n)
		}
	}
	return roots
}

// circles gives the process of the lowest pid of each circle of parents.
func circles(nodes []*Node, parent func(*Node) *Node) map[*Node]bool {
	cut := map[*Node]bool{}
	walk := map[*Node]int{} // in which walk upwards a process was met
	for i, n := range nodes {
		at := n
		for at != nil && walk[at] == 0 {
			walk[at] = i + 1
			at = parent(at)
		}
		if at == nil || walk[at] != i+1 {
			continue
		}
		lowest := at
		for x := parent(at); x != at; x = parent(x) {
			if x.PID < lowest.PID {
				lowest = x
			}
		}
		cut[lowest] = true
	}
	return cut
}
