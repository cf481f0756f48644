// Package socket reads network/sockets.jsonl of an evidence package: which sockets the container's network namespaces held,
// who held them, and what they had carried. The format is docs/evidence-format.md's; the rows are record.Socket, which
// come from sock_diag(7) and the tables of /proc/<pid>/net (proc_net_tcp.rst of the kernel's documentation).
//
// What it proves: that the kernel listed this socket at that moment, between these addresses, held by these descriptors; and, for
// TCP, how many bytes of payload had gone each way since it was opened, exactly as the kernel counts them.
//
// What it does not prove: who opened it, for descriptors are inherited and passed on; what was said; or that nothing else was
// connected before: a closed connection leaves at most TIME_WAIT, or a tracked flow in network/conntrack.jsonl. The kernel does not
// keep when a socket was opened, so its events say when it was seen and when it last carried data. A remote address may
// be a proxy's or a translated one.
package socket

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"

	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	formats "github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/verdict"
)

// Path is the artifact of the rows.
const Path = "network/sockets.jsonl"

// maxLine bounds one row: a filter of 4,096 instructions and some hundred owners.
const maxLine = 1 << 20

// Row is one socket and where its line stands.
type Row struct {
	record.Socket
	Cite verdict.Citation
}

// LineError is a line that is not what it should be. Reading goes on after it.
type LineError = formats.LineError

// Read gives the rows in the order in which they were written. A malformed line is yielded as a *LineError, beside a zero
// Row, and the next one follows; any other error is the last.
func Read(p *evidence.Package) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		for l, err := range p.Lines(Path) {
			if err != nil {
				yield(Row{}, fmt.Errorf("reading %s: %w", Path, err))
				return
			}
			s, err := parse(l.Data)
			if err != nil {
				if !yield(Row{}, &LineError{Artifact: l.Artifact, Offset: l.Offset, Err: err}) {
					return
				}
				continue
			}
			if !yield(Row{s, verdict.Citation{Artifact: l.Artifact, Offset: l.Offset, Length: l.Length, SHA256: l.SHA256}}, nil) {
				return
			}
		}
	}
}

var families = map[string]bool{"inet": true, "inet6": true, "unix": true, "packet": true, "netlink": true, "vsock": true}

// parse reads one line. Fields of later versions are ignored.
func parse(b []byte) (record.Socket, error) {
	var s record.Socket
	if len(b) > maxLine {
		return s, fmt.Errorf("a line of %d bytes, over the limit of %d", len(b), maxLine)
	}
	if err := json.Unmarshal(bytes.TrimSuffix(b, []byte("\n")), &s); err != nil {
		return record.Socket{}, err
	}
	switch {
	case !families[s.Family]:
		return record.Socket{}, fmt.Errorf("family %q is none that is known", s.Family)
	case s.Protocol == "":
		return record.Socket{}, errors.New("no protocol")
	case s.Family != "netlink" && s.Family != "vsock" && (s.LocalPort < 0 || s.LocalPort > 65535 || s.RemotePort < 0 || s.RemotePort > 65535):
		return record.Socket{}, errors.New("a port out of range")
	}
	return s, nil
}
