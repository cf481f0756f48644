package report

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/mattn/go-runewidth"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/printable"
	"github.com/sherd-forensics/sherd/investigate"
	"github.com/sherd-forensics/sherd/verdict"
)

// Bounds of what is shown without Verbose. What is cut is counted.
const (
	shownGaps   = 6
	shownScope  = 16
	shownImpact = 12
	shownProofs = 40
	labelWidth  = 14
)

// cells measures text without asking the environment how wide ambiguous characters are, so that output depends on the verdict alone.
var cells = &runewidth.Condition{StrictEmojiNeutral: true}

type printer struct {
	out    bytes.Buffer
	o      Options
	number map[verdict.Citation]int
	used   int // the highest number shown
}

// newPrinter fills in what o leaves open.
func newPrinter(o Options) *printer {
	if o.Width == 0 {
		o.Width = 80
	}
	o.Width = max(o.Width, 60)
	if o.Zone == nil {
		o.Zone = time.UTC
	}
	return &printer{o: o}
}

// Text writes the verdict, on one container or over several, for a person at a terminal: the word first, then root cause, scope, impact, story, what was not
// seen, what to do, and where the proof lies.
func Text(w io.Writer, r *investigate.Result, o Options) error {
	p := newPrinter(o)
	p.number = Numbers(r)
	v := &r.Verdict
	p.header(r)
	p.word(v)
	p.members(r)
	p.rootCause(v)
	p.reasons(v)
	p.scope(v)
	p.impact(r)
	p.story(v)
	if v.Verdict != verdict.Compromised || o.Verbose {
		p.findings(v)
	}
	p.gaps(v)
	p.next(v)
	if o.Verbose {
		p.rules(r)
	}
	p.proof(r)
	_, err := w.Write(p.out.Bytes())
	return err
}

// members lists the containers of a verdict over several with what was judged of each, which reached which, and what they have in common.
func (p *printer) members(r *investigate.Result) {
	if len(r.Members) == 0 {
		return
	}
	line := func(label, words string, cites []verdict.Citation) {
		p.wrap(pad(label, labelWidth), strings.Repeat(" ", labelWidth+2), words, cites)
	}
	label := "Containers"
	for i := range r.Members {
		m := &r.Members[i]
		words := fmt.Sprintf("%s  %s %.2f  %s", text(m.Name), m.Verdict, m.Confidence, m.Role)
		if m.Role != investigate.RoleAlone {
			if m.First != 0 {
				words += "  " + p.clock(detect.Time(m.First), false)
			} else {
				words += "  at a time that the evidence does not give"
			}
		}
		line(label, words, nil)
		label = ""
	}
	label = "Moved"
	for _, m := range r.Moves {
		line(label, "from "+text(r.Members[m.From].Name)+" to "+text(r.Members[m.To].Name)+": "+text(m.Why), m.Citations)
		label = ""
	}
	label = "In common"
	for _, l := range r.Shared {
		var names []string
		for _, i := range l.In {
			names = append(names, text(r.Members[i].Name))
		}
		what := l.Type + " " + l.Value
		if l.Type == verdict.EntityFile {
			what = "sha256 " + l.Value
		}
		line(label, text(what)+"  in "+strings.Join(names, ", "), nil)
		label = ""
	}
}

func text(s string) string { return printable.Text(s) }

func (p *printer) header(r *investigate.Result) {
	v, h := &r.Verdict, &r.Header
	t := &v.Target
	parts := []string{}
	add := func(s string) {
		if s != "" {
			parts = append(parts, s)
		}
	}
	name := t.Name
	if name == "" {
		name = t.ID
	}
	if t.Namespace != "" && t.Pod != "" {
		name = t.Namespace + "/" + t.Pod + "/" + name
	}
	add(printable.Clip(name, 80))
	image := t.Image
	if d := strings.TrimPrefix(t.ImageDigest, "sha256:"); len(d) >= 12 && !strings.Contains(image, "@") {
		image += "@sha256:" + d[:12] + "…"
	}
	add(printable.Clip(image, 120))
	add(text(t.Runtime))
	if !t.Started.IsZero() && !t.Collected.IsZero() && t.Collected.After(t.Started) && t.State == "running" {
		add("up " + age(t.Collected.Sub(t.Started)))
	} else {
		add(text(t.State))
	}
	if h.Distroless != nil {
		word := "not distroless"
		if h.Distroless.Distroless {
			word = "distroless"
		}
		if h.Distroless.Reason != "" {
			word += " (" + printable.Clip(h.Distroless.Reason, 60) + ")"
		}
		add(word)
	}
	p.wrap("● ", "  ", strings.Join(parts, "  "), nil)
	layer := "writable layer"
	if h.NoImage {
		layer = "files"
	}
	counts := fmt.Sprintf("sockets %d  processes %d  memory %s  %s %s in %s  logs %s", h.Sockets, h.Processes,
		size(h.Memory), layer, size(h.LayerBytes), plural(h.LayerFiles, "file"), size(h.LogBytes))
	p.wrap("  ", "  ", counts, nil)
	if t.Evidence != "" {
		line := "→ " + text(t.Evidence) + "   " + size(h.PackageSize)
		if len(t.SHA256) == 64 {
			line += "   sha256 " + t.SHA256[:8] + "…" + t.SHA256[60:]
		}
		if h.Truncated {
			line += "   CUT SHORT"
		}
		p.wrap("  ", "    ", line, nil)
	}
	p.out.WriteByte('\n')
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%s %ss", humanize.Comma(int64(n)), what)
}

func size(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

func age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh %dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd %dh", int(d.Hours())/24, int(d.Hours())%24)
}

var colours = map[verdict.Judgement]string{
	verdict.Compromised: "\x1b[1;31m", verdict.Suspicious: "\x1b[1;33m", verdict.Clean: "\x1b[1;32m", verdict.Inconclusive: "\x1b[1;36m",
}

// word is the first line that matters.
func (p *printer) word(v *verdict.Verdict) {
	word := strings.ToUpper(string(v.Verdict))
	if p.o.Colour {
		word = colours[v.Verdict] + word + "\x1b[0m"
	}
	fmt.Fprintf(&p.out, "%s   confidence %.2f\n", word, v.Confidence)
	lead := ""
	switch v.Verdict {
	case verdict.Suspicious:
		lead = "Something here is not explained, but it does not prove an intrusion."
	case verdict.Clean:
		lead = "Nothing was found that the image and its configuration don't explain."
	case verdict.Inconclusive:
		lead = "Nothing was found in what was collected, but too little was collected to call it clean."
	case verdict.Compromised:
	}
	if lead != "" {
		p.wrap("", "", lead, nil)
	}
	p.out.WriteByte('\n')
}

// section writes a labelled paragraph: the label stands in the first columns, the text beside it.
func (p *printer) section(label, s string, cites []verdict.Citation) {
	p.wrap(pad(label, labelWidth), strings.Repeat(" ", labelWidth), s, cites)
}

func pad(s string, n int) string {
	if w := cells.StringWidth(s); w < n {
		return s + strings.Repeat(" ", n-w)
	}
	return s + " "
}

func (p *printer) rootCause(v *verdict.Verdict) {
	switch rc := v.RootCause; {
	case rc != nil:
		s := ""
		if t := p.clock(rc.Time, false); t != "" {
			s = t + "  "
		}
		s += rc.Statement + "."
		if rc.Technique != "" {
			s += "  " + rc.Technique
		}
		s += fmt.Sprintf("  (confidence %.2f)", rc.Confidence)
		p.section("Root cause", s, rc.Citations)
	case v.Verdict == verdict.Compromised || v.Verdict == verdict.Suspicious:
		why := "the evidence does not say"
		for _, g := range v.Gaps {
			if g.What == "how they got in" {
				why = g.Why
			}
		}
		p.section("Root cause", "not established: "+why, nil)
	}
}

// reasons tells what speaks for and against the root cause, and the other candidates.
func (p *printer) reasons(v *verdict.Verdict) {
	if !p.o.Verbose {
		return
	}
	each := func(label string, of []verdict.Evidence) {
		for _, e := range of {
			p.wrap(pad(label, labelWidth), strings.Repeat(" ", labelWidth+2), text(e.Statement), e.Citations)
			label = ""
		}
	}
	if rc := v.RootCause; rc != nil {
		each("  for it", rc.For)
		each("  against", rc.Against)
	}
	for _, c := range v.Candidates {
		p.wrap(pad("  candidate", labelWidth), strings.Repeat(" ", labelWidth+2), fmt.Sprintf("weight %.2f  %s, logged %s", c.Weight, text(c.Statement), p.clock(c.Time, false)), c.Citations)
		each("    for it", c.For)
		each("    against", c.Against)
	}
}

func (p *printer) scope(v *verdict.Verdict) {
	label, n := "Scope", 0
	for i := range v.Scope {
		e := &v.Scope[i]
		if n++; n > shownScope && !p.o.Verbose {
			continue
		}
		s := pad(e.Type, 11)
		value := text(e.Value)
		if e.Type == verdict.EntityContainer && !strings.Contains(value, "/") { // an id, and not a name of a cluster's
			value = printable.Clip(value, 16)
		}
		if e.Type == verdict.EntityProcess {
			value = fmt.Sprintf("%d  %s", e.PID, value)
		}
		s += value
		if e.SHA256 != "" {
			s += "  sha256 " + e.SHA256[:min(8, len(e.SHA256))] + "…"
		}
		if e.Why != "" {
			s += "  " + text(e.Why)
		}
		if p.o.Verbose && e.Role != "" {
			s += "  (" + e.Role + ")"
		}
		p.wrap(pad(label, labelWidth), strings.Repeat(" ", labelWidth+2), s, e.Citations)
		label = ""
	}
	p.more(n, shownScope)
}

func (p *printer) more(n, shown int) {
	if n > shown && !p.o.Verbose {
		p.section("", fmt.Sprintf("… and %d more (-v shows them)", n-shown), nil)
	}
}

func (p *printer) impact(r *investigate.Result) {
	label, n := "Impact", 0
	for _, i := range r.Verdict.Impact {
		if n++; n > shownImpact && !p.o.Verbose {
			continue
		}
		s := pad(i.Type, 13) + " " + text(i.Statement)
		if i.Technique != "" && p.o.Verbose {
			s += "  " + i.Technique
		}
		p.wrap(pad(label, labelWidth), strings.Repeat(" ", labelWidth+2), s, i.Citations)
		label = ""
	}
	p.more(n, shownImpact)
	for _, i := range r.NotFound {
		p.section(label, text(i.Statement), i.Citations)
		label = ""
	}
}

func (p *printer) story(v *verdict.Verdict) {
	label, day := "Story", ""
	for i := range v.Story {
		s := &v.Story[i]
		if d := p.day(s.Time); d != day {
			day = d
			p.section(label, d, nil)
			label = ""
		}
		indent := strings.Repeat(" ", labelWidth+14)
		p.wrap(pad(label, labelWidth)+pad(p.clock(s.Time, true), 14), indent, text(s.Statement), s.Citations)
		label = ""
	}
}

func (p *printer) findings(v *verdict.Verdict) {
	label, info := "Findings", 0
	for i := range v.Findings {
		f := &v.Findings[i]
		if f.Severity.Rank() < verdict.Medium.Rank() && !p.o.Verbose {
			info++
			continue
		}
		s := pad(string(f.Severity), 9) + text(f.Statement)
		if f.Technique != "" {
			s += "  " + f.Technique
		}
		if p.o.Verbose {
			s += "  " + f.Rule
		}
		p.wrap(pad(label, labelWidth), strings.Repeat(" ", labelWidth+2), s, f.Citations)
		label = ""
	}
	if info > 0 {
		words := plural(info, "note") + " that don't weigh (-v shows them)"
		if info == 1 {
			words = "1 note that doesn't weigh (-v shows it)"
		}
		p.section(label, words, nil)
	}
}

func (p *printer) gaps(v *verdict.Verdict) {
	label, n := "Not seen", 0
	for _, g := range v.Gaps {
		if g.What == "how they got in" && v.RootCause == nil && !p.o.Verbose {
			continue // told as the root cause
		}
		if n++; n > shownGaps && !p.o.Verbose {
			continue
		}
		s := text(g.What) + ": " + text(g.Why)
		if p.o.Verbose && g.Consequence != "" {
			s += "; " + text(g.Consequence)
		}
		p.wrap(pad(label, labelWidth), strings.Repeat(" ", labelWidth+2), s, nil)
		label = ""
	}
	p.more(n, shownGaps)
}

func (p *printer) next(v *verdict.Verdict) {
	label := "Next"
	for _, s := range v.Next {
		p.wrap(pad(label, labelWidth), strings.Repeat(" ", labelWidth+2), text(s), nil)
		label = ""
	}
}

func (p *printer) rules(r *investigate.Result) {
	label := "Rules"
	for i := range r.Answers {
		a := &r.Answers[i]
		s := pad(string(a.State()), 7) + a.Rule.ID
		if a.State() == detect.Blind || a.State() == detect.Hit && len(a.Blind) > 0 {
			s += "  blind for " + text(a.Blind[0].What) + ": " + text(a.Blind[0].Why)
		}
		p.wrap(pad(label, labelWidth), strings.Repeat(" ", labelWidth+9), s, nil)
		label = ""
	}
}

// proof lists the places behind the numbers that were shown.
func (p *printer) proof(r *investigate.Result) {
	label := "Proof"
	proofs := Proofs(r)
	n := min(p.used, len(proofs))
	for i, c := range proofs[:n] {
		if i >= shownProofs && !p.o.Verbose {
			p.section("", fmt.Sprintf("… up to [%d] (-v shows them)", n), nil)
			break
		}
		s := fmt.Sprintf("[%d] ", i+1)
		if file := evidenceOf(r, c.Evidence); file != "" {
			s += text(file) + "  "
		}
		s += text(record.Escape(c.Artifact))
		if c.Offset != 0 || c.Length != 0 {
			s += fmt.Sprintf(" +%s (%s)", humanize.Comma(c.Offset), size(c.Length))
		}
		p.wrap(pad(label, labelWidth), strings.Repeat(" ", labelWidth+4), s, nil)
		label = ""
	}
	if n > 0 && len(r.Members) > 0 {
		p.wrap(strings.Repeat(" ", labelWidth), strings.Repeat(" ", labelWidth), "sherd show FILE ARTIFACT --offset N --length N shows the bytes; numbers count for each file's own report", nil)
	} else if n > 0 {
		file := r.Verdict.Target.Evidence
		if file == "" {
			file = "FILE"
		}
		p.wrap(strings.Repeat(" ", labelWidth), strings.Repeat(" ", labelWidth), "sherd show "+text(file)+" N shows the bytes behind number N", nil)
	}
}

// evidenceOf is the file name of the package with an id among several, "" where there is but one.
func evidenceOf(r *investigate.Result, id string) string {
	for i := range r.Members {
		if m := &r.Members[i]; m.EvidenceID == id {
			return cmp.Or(m.Evidence, m.Name)
		}
	}
	return ""
}

// clock shows a time of day with milliseconds, or with its date.
func (p *printer) clock(s string, short bool) string {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return ""
	}
	t = t.In(p.o.Zone)
	layout := "15:04:05.000"
	if !short {
		layout = "2006-01-02 15:04:05.000"
		if p.o.Zone == time.UTC {
			return t.Format(layout) + "Z"
		}
		return t.Format(layout + " MST")
	}
	return t.Format(layout)
}

func (p *printer) day(s string) string {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return ""
	}
	t = t.In(p.o.Zone)
	if p.o.Zone == time.UTC {
		return t.Format("2006-01-02") + " (UTC)"
	}
	return t.Format("2006-01-02 (MST)")
}

// wrap writes s after first, broken at spaces to the width, further lines after indent, with its numbers at the end. s
// must be fit to be shown.
func (p *printer) wrap(first, indent, s string, cites []verdict.Citation) {
	const most = 6
	nums := numbersOf(p.number, cites)
	var tail strings.Builder
	for i, n := range nums {
		if i == most {
			tail.WriteString("…")
			break
		}
		fmt.Fprintf(&tail, "[%d]", n)
		p.used = max(p.used, n)
	}
	words := strings.Split(text(s), " ")
	if tail.Len() > 0 {
		words = append(words, "", tail.String())
	}
	line, used, gap, fresh := first, cells.StringWidth(first), 0, true
	for _, w := range words {
		if w == "" {
			gap++ // two spaces in a row set things apart: kept within a line, dropped at its end
			continue
		}
		wide := cells.StringWidth(w)
		if !fresh && used+1+gap+wide > p.o.Width {
			p.out.WriteString(strings.TrimRight(line, " ") + "\n")
			line, used, gap, fresh = indent, cells.StringWidth(indent), 0, true
		}
		if !fresh {
			line += strings.Repeat(" ", gap+1)
			used += gap + 1
		}
		// A word wider than the line, such as a path, is broken.
		for used+wide > p.o.Width && wide > p.o.Width-cells.StringWidth(indent) {
			head := cells.Truncate(w, max(p.o.Width-used, 1), "")
			if head == "" {
				break
			}
			p.out.WriteString(line + head + "\n")
			w = w[len(head):]
			line, used = indent, cells.StringWidth(indent)
			wide = cells.StringWidth(w)
		}
		line += w
		used, gap, fresh = used+wide, 0, false
	}
	p.out.WriteString(strings.TrimRight(line, " ") + "\n")
}
