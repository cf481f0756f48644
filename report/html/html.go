// Package html writes an investigation as one self-contained page: no network, no external asset, and every citation
// opens the bytes behind it. All that comes from evidence passes html/template's contextual escaping after
// printable.Text; the page's policy forbids any script but its own, by hash.
package html

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // the page's template, style and script
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/internal/printable"
	"github.com/sherd-forensics/sherd/internal/redact"
	"github.com/sherd-forensics/sherd/investigate"
	"github.com/sherd-forensics/sherd/verdict"
)

//go:embed page.tmpl
var pageTemplate string

//go:embed page.css
var pageStyle string

//go:embed page.js
var pageScript string

// proofBytes is how much of a citation is shown in the page; `sherd show` has the rest.
const proofBytes = 1024

// page is what the template is given: words only, already cut to size.
type page struct {
	Title, Word, Confidence, Sentence, Evidence, EvidenceID, SHA256, Zone string
	Judgement                                                             verdict.Judgement
	TargetWords                                                           []string
	RootCause                                                             *claim
	NoRootCause                                                           string
	Scope                                                                 []entity
	Impact, Story, Findings                                               []claim
	Next                                                                  []string
	Gaps                                                                  []verdict.Gap
	Timeline, Graph, GraphTall                                            template.HTML
	GraphWords                                                            []claim
	GraphPath                                                             bool
	Reasons                                                               []reason
	Candidates                                                            []candidate
	Members                                                               []member
	Moves                                                                 []claim
	Events                                                                []eventRow
	EventsCut, DriftCut, NoDrift                                          string
	Processes                                                             []processRow
	Drift                                                                 []driftRow
	Proofs                                                                []proof
	Style                                                                 template.CSS
	Script                                                                template.JS
	ScriptHash                                                            string
}

type claim struct {
	Type, Statement, Technique, Time, Confidence, Rule, Severity string
	Cites                                                        []int
}

// reason speaks for or against the root cause.
type reason struct {
	Against bool
	claim
}

type candidate struct {
	claim
	Weight  string
	Reasons []reason
}

// member is one of several containers.
type member struct {
	Name, Evidence, Word, Confidence, Role, First string
	Judgement                                     verdict.Judgement
}

type entity struct {
	Type, Value, SHA256, Role, Why string
	PID                            int
	Cites                          []int
}

type eventRow struct {
	MS               int64
	Time, Kind, Text string
	Marked           bool
	Cites            []int
}

type processRow struct {
	Indent, PID, HostPID                int
	Branch, Foreign                     bool
	Comm, Cmdline, Started, Exe, Origin string
	Cites                               []int
}

type driftRow struct {
	Kind, Path, Note, Mode, Size, Time, Layer string
	Marked                                    bool
	Cites                                     []int
}

type proof struct {
	N                                                               int
	Artifact, Offset, Length, SHA256, Hex, Text, Cut, Problem, Hint string
	File                                                            string // of several packages, the one's name
}

// Write renders the investigation r, of one package or of several. Secrets in the bytes behind
// citations are hidden unless the investigation reveals them.
func Write(w io.Writer, r *investigate.Result, ps ...*evidence.Package) error {
	t, err := template.New("page").Parse(pageTemplate)
	if err != nil {
		return fmt.Errorf("the page's template: %w", err)
	}
	pg, err := build(r, ps)
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(pageScript))
	pg.ScriptHash = "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
	// Style and script are ours, embedded at build time; nothing of the evidence is in them.
	pg.Style, pg.Script = template.CSS(pageStyle), template.JS(pageScript)
	var b bytes.Buffer
	if err := t.Execute(&b, pg); err != nil {
		return fmt.Errorf("rendering the page: %w", err)
	}
	_, err = w.Write(b.Bytes())
	return err
}

// bytesOf reads what a citation points at, for the page's proof section. Secrets in it are hidden unless reveal is set.
func bytesOf(p *evidence.Package, n int, c verdict.Citation, reveal bool) proof {
	out := proof{
		N: n, Artifact: printable.Text(c.Artifact), Offset: fmt.Sprint(c.Offset), SHA256: c.SHA256,
		Length: fmt.Sprintf("%d B", c.Length),
	}
	if p == nil {
		out.Problem = "its package was not given to this report"
		return out
	}
	a, err := p.Open(c.Artifact)
	if err != nil {
		out.Problem = "not readable: " + printable.Text(err.Error())
		return out
	}
	size := min(c.Length, proofBytes)
	if c.Length == 0 {
		size = min(a.Size()-c.Offset, proofBytes)
	}
	if size <= 0 {
		out.Cut = "no bytes: the fact is the entry itself"
		return out
	}
	buf := make([]byte, size)
	k, err := a.ReadAt(buf, c.Offset)
	if err != nil && !errors.Is(err, io.EOF) {
		out.Problem = "not readable: " + printable.Text(err.Error())
		return out
	}
	buf = buf[:k]
	var masked []bool
	hidden := 0
	if !reveal {
		buf, masked, hidden = hide(a, c.Offset, buf)
	}
	out.Hex = hexdump(buf, c.Offset, masked)
	if isText(buf) {
		out.Text = text(buf)
	}
	if c.Length > int64(k) {
		out.Cut = fmt.Sprintf("the first %d of %d bytes", k, c.Length)
	}
	if hidden > 0 {
		if out.Cut != "" {
			out.Cut += "; "
		}
		out.Cut += "secrets are hidden: sherd show has the bytes"
	}
	return out
}

// around is how much before and behind a citation is looked at to know whether it lies in a secret.
const around = 16 << 10

// hide replaces the bytes of secrets in b, which stands at an offset of an artifact, by stars, and says which those are and whether
// there are any.
func hide(r io.ReaderAt, offset int64, b []byte) (out []byte, masked []bool, n int) {
	from := max(0, offset-around)
	whole := make([]byte, offset-from+int64(len(b))+around)
	k, err := r.ReadAt(whole, from)
	if err != nil && !errors.Is(err, io.EOF) || int64(k) < offset-from+int64(len(b)) {
		whole, k, from = b, len(b), offset // what is shown could be read; judge by it alone
	}
	out, masked = bytes.Clone(b), make([]bool, len(b))
	for _, s := range redact.Spans(whole[:k]) {
		for i := max(s.From, int(offset-from)); i < min(s.To, int(offset-from)+len(b)); i++ {
			at := i - int(offset-from)
			out[at], masked[at] = '*', true
			n = 1
		}
	}
	return out, masked, n
}

// isText reports whether most of b reads as text.
func isText(b []byte) bool {
	odd := 0
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 || r < 0x20 && r != '\n' && r != '\t' && r != '\r' && r != 0 {
			odd++
		}
		i += n
	}
	return odd*20 <= len(b)
}

// text keeps line breaks, which printable.Text escapes; a NUL, which separates arguments and variables, breaks a line too.
func text(b []byte) string {
	lines := strings.FieldsFunc(strings.ToValidUTF8(string(b), "\ufffd"), func(r rune) bool { return r == '\n' || r == 0 })
	for i, l := range lines {
		lines[i] = printable.Text(strings.ReplaceAll(strings.TrimSuffix(l, "\r"), "\t", "    "))
	}
	return strings.Join(lines, "\n")
}

// hexdump writes bytes in hex and text; those that are masked show stars in both.
func hexdump(b []byte, offset int64, masked []bool) string {
	var out strings.Builder
	for i := 0; i < len(b); i += 16 {
		row := b[i:min(i+16, len(b))]
		h := hex.EncodeToString(row)
		fmt.Fprintf(&out, "%08x  ", offset+int64(i))
		for j := range 16 {
			if j == 8 {
				out.WriteByte(' ')
			}
			if j < len(row) && i+j < len(masked) && masked[i+j] {
				out.WriteString("** ")
			} else if j < len(row) {
				out.WriteString(h[2*j:2*j+2] + " ")
			} else {
				out.WriteString("   ")
			}
		}
		out.WriteString(" |")
		for _, c := range row {
			if c < 0x20 || c > 0x7e {
				c = '.'
			}
			out.WriteByte(c)
		}
		out.WriteString("|\n")
	}
	return out.String()
}
