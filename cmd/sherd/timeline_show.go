package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/mattn/go-runewidth"

	"github.com/sherd-forensics/sherd/cmd/internal/console"
	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/internal/printable"
	"github.com/sherd-forensics/sherd/lake"
	"github.com/sherd-forensics/sherd/lake/query"
	"github.com/sherd-forensics/sherd/report/export"
)

// view is one answer.
type view struct {
	app   *app
	flags *timelineFlags
	t     *timeline
	text  string
	query *query.Query
	from  *lake.Position
	zone  *time.Location // of the times that are shown
}

// show writes what was asked for.
func (v *view) show(ctx context.Context) error {
	f := v.flags
	if f.output != "" {
		return writeAside(f.output, func(w io.Writer) error { return v.write(ctx, w) })
	}
	if f.format == "parquet" && console.IsTerminal(v.app.out) {
		return usagef("Parquet is not for a terminal: name a file with -o")
	}
	w := bufio.NewWriter(v.app.out)
	return errors.Join(v.write(ctx, w), w.Flush())
}

func (v *view) write(ctx context.Context, w io.Writer) error {
	f := v.flags
	done := false
	if f.coverage {
		v.coverage(w)
		done = true
	}
	if f.count {
		n, err := v.t.Count(ctx, v.query)
		if err != nil {
			return err
		}
		fmt.Fprintln(w, n)
		done = true
	}
	if f.histogram {
		if err := v.histogram(ctx, w); err != nil {
			return err
		}
		done = true
	}
	if len(f.facets) > 0 {
		if done {
			fmt.Fprintln(w)
		}
		if err := v.facets(ctx, w); err != nil {
			return err
		}
		done = true
	}
	switch {
	case done:
		return nil
	case f.format == "table":
		return v.table(ctx, w)
	}
	return v.rows(ctx, w)
}

// clock shows a time in the zone of --tz, to the millisecond; a time that is not known is a dash.
func (v *view) clock(ns int64) string {
	if ns == 0 {
		return "-"
	}
	t := time.Unix(0, ns).In(v.zone)
	if v.zone == time.UTC {
		return t.Format("2006-01-02 15:04:05.000Z")
	}
	return t.Format("2006-01-02 15:04:05.000Z07:00")
}

// alone reports whether all rows are of one container: then its name says nothing.
func alone(rows []lake.Row) bool {
	for i := range rows {
		if rows[i].Container != rows[0].Container || rows[i].Pod != rows[0].Pod || rows[i].EvidenceID != rows[0].EvidenceID {
			return false
		}
	}
	return true
}

// who says whose doing an event is, as shortly as can be.
func who(r *lake.Row, alone bool) string {
	var b strings.Builder
	name := r.Container
	if r.Pod != "" {
		name = r.Pod
	}
	if alone {
		name = ""
	}
	b.WriteString(name)
	if r.Process != "" || r.PID != 0 {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(r.Process)
		if r.PID != 0 {
			fmt.Fprintf(&b, "[%d]", r.PID)
		}
	}
	if b.Len() == 0 {
		b.WriteString(cmp.Or(r.User, r.Identity, r.SrcIP))
	}
	return b.String()
}

// Widths of columns in a table.
const (
	kindWidth = 17
	whoWidth  = 24
)

func (v *view) table(ctx context.Context, w io.Writer) error {
	f := v.flags
	limit := f.limit
	if limit == 0 {
		limit = defaultPage
	}
	page, err := v.t.Page(ctx, lake.PageRequest{Query: v.query, From: v.from, Backward: f.newest, Limit: limit})
	if err != nil {
		return err
	}
	if len(page.Rows) == 0 {
		return v.nothing(ctx)
	}
	kinds, whos, times := 0, 0, 0
	one := alone(page.Rows)
	narrow, width := whoWidth, console.TableWidth(v.app.out)
	if f.wide || f.output != "" {
		width = console.Unbounded
	}
	if width < 120 {
		narrow = whoWidth / 2
	}
	for i := range page.Rows {
		r := &page.Rows[i]
		kinds = max(kinds, min(runewidth.StringWidth(string(r.Kind)), kindWidth))
		whos = max(whos, min(runewidth.StringWidth(printable.Text(who(r, one))), narrow))
		times = max(times, len(v.clock(r.Time)))
	}
	colour := console.Colour(v.app.out) && f.output == ""
	for i := range page.Rows {
		r := &page.Rows[i]
		head := runewidth.FillRight(v.clock(r.Time), times) + "  " + fit(printable.Text(string(r.Kind)), kinds) + "  "
		if whos > 0 {
			head += fit(printable.Text(who(r, one)), whos) + "  "
		}
		room := max(width-runewidth.StringWidth(head), 20)
		message := runewidth.Truncate(printable.Text(r.Message), room, "…")
		more := ""
		if room -= runewidth.StringWidth(message); room > 8 {
			more = runewidth.Truncate(fields(r), room, "…")
		}
		if colour {
			head = "\x1b[2m" + head[:times] + "\x1b[0m" + head[times:]
			more = "\x1b[2m" + more + "\x1b[0m"
		}
		fmt.Fprintln(w, head+message+more)
		if f.cite || v.app.verbose {
			fmt.Fprintf(w, "    %s\n", v.citation(r))
		}
	}
	if !page.More {
		return nil
	}
	last := page.Rows[len(page.Rows)-1]
	total, err := v.t.Count(ctx, v.query)
	if err != nil {
		return err
	}
	v.app.note("%s of %s; the next: --from %d,%d", humanize.Comma(int64(len(page.Rows))), console.Plural(int(total), "event"), last.Time, last.Row)
	return nil
}

// ofWriter are the attributes by which a log's reader says how it read a line; they tell nothing of what happened.
var ofWriter = map[string]bool{"form": true, "level": true, "format": true, "stream": true, "caller": true, "time_assumed": true, "app_pid": true, "logger": true, "thread": true}

// fields are what an application wrote beside the message of its line, as it would write them.
func fields(r *lake.Row) string {
	if r.Kind != event.LogLine || len(r.Attributes) == 0 {
		return ""
	}
	d := json.NewDecoder(bytes.NewReader(r.Attributes))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return ""
	}
	var b strings.Builder
	for d.More() && b.Len() < 1024 {
		var value json.RawMessage
		key, err := d.Token()
		if err != nil || d.Decode(&value) != nil {
			break
		}
		name, _ := key.(string)
		if ofWriter[name] {
			continue
		}
		text := string(value)
		var s string
		if json.Unmarshal(value, &s) == nil && !strings.ContainsAny(s, " \"=") {
			text = s
		}
		b.WriteString("  " + printable.Text(name) + "=" + printable.Text(text))
	}
	return b.String()
}

// nothing explains an empty answer.
func (v *view) nothing(ctx context.Context) error {
	total, err := v.t.Count(ctx, nil)
	if err != nil {
		return err
	}
	if total == 0 {
		v.app.note("there are no events: --coverage says what was read, and why not more")
		return nil
	}
	v.app.note("none of %s matches", console.Plural(int(total), "event"))
	for _, h := range v.query.Hints() {
		v.app.note("%s", printable.Text(h))
	}
	return nil
}

func fit(s string, width int) string {
	return runewidth.FillRight(runewidth.Truncate(s, width, "…"), width)
}

// citation names the bytes behind an event, and the command that shows them.
func (v *view) citation(r *lake.Row) string {
	cite := fmt.Sprintf("%s +%d (%d B)", printable.Text(r.Artifact), r.Offset, r.Length)
	flags := ""
	if r.Length > 0 {
		flags = fmt.Sprintf(" --offset %d --length %d", r.Offset, r.Length)
	}
	if strings.HasPrefix(string(r.Attributes), `{"compression":`) {
		flags += " --decompress"
	}
	if p := v.t.packages[r.EvidenceID]; p != nil {
		return cite + "   sherd show " + quoted(p.Path()) + " " + quoted(r.Artifact) + flags
	}
	return cite + "   sherd show " + quoted(r.Artifact) + flags
}

// quoted makes a word of a command that can be pasted into a shell; what can't be printed is escaped, and shown for the eye alone.
func quoted(s string) string {
	p := printable.Text(s)
	if strings.Trim(p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./+,:@%=") == "" && p != "" {
		return p
	}
	return "'" + strings.ReplaceAll(p, "'", `'\''`) + "'"
}

// blocks are eighths of a character.
var blocks = []string{"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"}

func bar(n, most int64, width int) string {
	if most == 0 {
		return ""
	}
	eighths := int(float64(n) / float64(most) * float64(width) * 8)
	if n > 0 {
		eighths = max(eighths, 1)
	}
	return strings.Repeat("█", eighths/8) + blocks[eighths%8]
}

func (v *view) histogram(ctx context.Context, w io.Writer) error {
	buckets, err := v.t.Histogram(ctx, v.query, v.flags.buckets)
	if err != nil {
		return err
	}
	if len(buckets) == 0 {
		return v.nothing(ctx)
	}
	most, digits := int64(0), 0
	for _, b := range buckets {
		most = max(most, b.Count)
		digits = max(digits, len(humanize.Comma(b.Count)))
	}
	room := max(min(console.Width(v.app.out), 120)-len(v.clock(buckets[0].Start))-digits-4, 10)
	for _, b := range buckets {
		fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf("%s  %*s  %s", v.clock(b.Start), digits, humanize.Comma(b.Count), bar(b.Count, most, room)), " "))
	}
	return nil
}

func (v *view) facets(ctx context.Context, w io.Writer) error {
	found, err := v.t.Facets(ctx, v.query, v.flags.facets, v.flags.top)
	if err != nil {
		return err
	}
	for i, f := range found {
		if i > 0 {
			fmt.Fprintln(w)
		}
		head := fmt.Sprintf("%s: %s", printable.Text(f.Column), console.Plural(int(f.Distinct), "value"))
		if f.Missing > 0 {
			head += fmt.Sprintf(", %s without", console.Plural(int(f.Missing), "event"))
		}
		fmt.Fprintln(w, head)
		digits := 0
		for _, x := range f.Values {
			digits = max(digits, len(humanize.Comma(x.Count)))
		}
		room := max(min(console.Width(v.app.out), 120)-digits-20, 20)
		for _, x := range f.Values {
			fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf("  %*s  %s  %s", digits, humanize.Comma(x.Count), runewidth.FillRight(bar(x.Count, f.Values[0].Count, 12), 12),
				runewidth.Truncate(printable.Text(x.Value), room, "…")), " "))
		}
	}
	return nil
}

// coverage tells what was read and what was not.
func (v *view) coverage(w io.Writer) {
	for _, l := range v.t.lakes {
		if l.Report == nil {
			continue
		}
		var rows [][]string
		for _, a := range l.Report.Artifacts {
			n, parser := humanize.Comma(a.Events), a.Parser
			if a.Parser == "" {
				n, parser = "-", "not read"
			}
			rows = append(rows, []string{a.Artifact, parser, n, a.Why})
		}
		console.Table(w, max(console.TableWidth(v.app.out), 100), []string{"ARTIFACT", "PARSER", "EVENTS", ""}, rows)
		if len(l.Report.Skips) == 0 {
			continue
		}
		fmt.Fprintln(w)
		rows = rows[:0]
		for _, s := range l.Report.Skips {
			rows = append(rows, []string{s.Artifact, fmt.Sprintf("+%d", s.Offset), humanize.Comma(s.Count), console.Bytes(s.Bytes), s.Reason})
		}
		console.Table(w, max(console.TableWidth(v.app.out), 100), []string{"SKIPPED IN", "FIRST AT", "TIMES", "BYTES", "WHY"}, rows)
	}
}

// containerPID is the process's number in its container, 0 if the attributes don't say.
func containerPID(attributes json.RawMessage) int {
	var a struct {
		PID int `json:"container_pid"`
	}
	if len(attributes) == 0 || json.Unmarshal(attributes, &a) != nil {
		return 0
	}
	return a.PID
}

// rows writes whole events for other programs.
func (v *view) rows(ctx context.Context, w io.Writer) error {
	write, end, err := v.rowWriter(w)
	if err != nil {
		return err
	}
	f := v.flags
	if f.limit > 0 || f.newest || f.from != "" {
		err = v.pages(ctx, write)
	} else {
		err = v.t.Scan(ctx, v.query, write)
	}
	if err != nil {
		if f.output == "" { // what was written can't be taken back
			err = errors.Join(err, errBegun)
		}
		return err
	}
	return end()
}

// pages writes up to --limit events in either order.
func (v *view) pages(ctx context.Context, write func(*lake.Row) error) error {
	const most = 1000
	left := v.flags.limit
	if left == 0 {
		left = math.MaxInt
	}
	from := v.from
	for left > 0 {
		page, err := v.t.Page(ctx, lake.PageRequest{Query: v.query, From: from, Backward: v.flags.newest, Limit: min(left, most)})
		if err != nil {
			return err
		}
		for i := range page.Rows {
			if err := write(&page.Rows[i]); err != nil {
				return err
			}
		}
		left -= len(page.Rows)
		if !page.More || len(page.Rows) == 0 {
			return nil
		}
		last := page.Rows[len(page.Rows)-1]
		from = &lake.Position{Time: last.Time, Row: last.Row}
	}
	return nil
}

func (v *view) rowWriter(w io.Writer) (write func(*lake.Row) error, end func() error, err error) {
	if v.flags.format == "parquet" {
		p := lake.NewFileWriter(w)
		return func(r *lake.Row) error { return p.Write(&r.Event) }, p.Close, nil
	}
	e, err := export.New(v.flags.format, w, export.Meta{Tool: tool})
	if err != nil {
		return nil, nil, err
	}
	return func(r *lake.Row) error { return e.Write(&r.Event) }, e.Close, nil
}
