// Package report shows a verdict to people (Text) and to programs (JSON). Everything in it that came from evidence has
// passed internal/printable, so that no file name can move a cursor.
package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/sherd-forensics/sherd/investigate"
	"github.com/sherd-forensics/sherd/verdict"
)

// Options say how text is shown.
type Options struct {
	Width   int // columns; 0 means 80, less than 60 is taken as 60
	Colour  bool
	Zone    *time.Location // of times; nil means UTC
	Verbose bool           // findings, all gaps and the rules' answers too
}

// JSON writes a verdict as one indented JSON object: the same verdict gives the same bytes.
func JSON(w io.Writer, v *verdict.Verdict) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(visible(b.Bytes()))
	return err
}

// visible writes as \uXXXX what JSON allows in a string as it is but a terminal obeys: the controls above ASCII and those that
// reorder or hide text. They can stand in strings only, so the document means the same.
func visible(doc []byte) []byte {
	var out bytes.Buffer
	out.Grow(len(doc))
	for len(doc) > 0 {
		r, n := utf8.DecodeRune(doc)
		if r >= 0x7f && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == 0x2028 || r == 0x2029) {
			for _, u := range utf16.AppendRune(nil, r) {
				fmt.Fprintf(&out, `\u%04x`, u)
			}
		} else {
			out.Write(doc[:n])
		}
		doc = doc[n:]
	}
	return out.Bytes()
}

// Proofs are a result's citations, each once, in the order of their numbers: the first is [1].
func Proofs(r *investigate.Result) []verdict.Citation {
	var out []verdict.Citation
	seen := map[verdict.Citation]bool{}
	add := func(cs []verdict.Citation) {
		for _, c := range cs {
			if !seen[c] {
				seen[c] = true
				out = append(out, c)
			}
		}
	}
	v := &r.Verdict
	if v.RootCause != nil {
		add(v.RootCause.Citations)
	}
	for i := range v.Scope {
		add(v.Scope[i].Citations)
	}
	for i := range v.Impact {
		add(v.Impact[i].Citations)
	}
	for i := range r.NotFound {
		add(r.NotFound[i].Citations)
	}
	for i := range v.Story {
		add(v.Story[i].Citations)
	}
	for i := range v.Findings {
		add(v.Findings[i].Citations)
	}
	reasons := func(of []verdict.Evidence) {
		for i := range of {
			add(of[i].Citations)
		}
	}
	if v.RootCause != nil {
		reasons(v.RootCause.For)
		reasons(v.RootCause.Against)
	}
	for i := range v.Candidates {
		add(v.Candidates[i].Citations)
		reasons(v.Candidates[i].For)
		reasons(v.Candidates[i].Against)
	}
	return out
}

// Numbers gives each citation its number in Proofs.
func Numbers(r *investigate.Result) map[verdict.Citation]int {
	out := map[verdict.Citation]int{}
	for i, c := range Proofs(r) {
		out[c] = i + 1
	}
	return out
}

// numbersOf are the sorted numbers of some citations.
func numbersOf(index map[verdict.Citation]int, cs []verdict.Citation) []int {
	var out []int
	for _, c := range cs {
		if n, ok := index[c]; ok && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}
