// Package console is how the programs speak to a person: where colour is fit, how wide the terminal is, a
// line of progress that rewrites itself, and tables whose columns line up.
package console

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/dustin/go-humanize"
	"github.com/mattn/go-runewidth"
	"golang.org/x/term"

	"github.com/sherd-forensics/sherd/internal/printable"
)

// DefaultWidth is assumed where output is not a terminal.
const DefaultWidth = 80

// IsTerminal reports whether w is a terminal.
func IsTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Colour reports whether colours may be written to w: only to a terminal, and not where NO_COLOR is set (no-color.org).
func Colour(w any) bool {
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && IsTerminal(w)
}

// Width is the terminal's width in columns, or what COLUMNS says, or DefaultWidth.
func Width(w any) int {
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n >= 40 && n <= 10000 && !IsTerminal(w) {
		return n
	}
	if f, ok := w.(*os.File); ok {
		if n, _, err := term.GetSize(int(f.Fd())); err == nil && n >= 40 {
			return n
		}
	}
	return DefaultWidth
}

// Unbounded is a width that nothing is cut at.
const Unbounded = 1<<31 - 1

// TableWidth is how wide a table on w may be: the terminal's width, what COLUMNS says, and in a pipe, where nothing is to fit, Unbounded.
func TableWidth(w any) int {
	if !IsTerminal(w) && os.Getenv("COLUMNS") == "" {
		return Unbounded
	}
	return Width(w)
}

// Bytes is a size for people, in binary units.
func Bytes(n int64) string {
	if n < 0 {
		return "?"
	}
	return humanize.IBytes(uint64(n))
}

// Duration is a length of time for people: "2.9 s", "4 min", "3d 4h".
func Duration(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd %dh", int(d.Hours())/24, int(d.Hours())%24)
}

// Progress is one line on a terminal that says what is going on. On anything but a terminal it is silent.
type Progress struct {
	mu    sync.Mutex
	out   io.Writer
	stage string
	tail  func() string
	stop  chan struct{}
	done  chan struct{}
	shown bool
}

// delay is how long work may take before a line of progress appears.
const delay = 700 * time.Millisecond

// NewProgress starts a line on out. tail is asked for figures each time the line is drawn; may be nil.
func NewProgress(out io.Writer, tail func() string) *Progress {
	p := &Progress{out: out, tail: tail, stop: make(chan struct{}), done: make(chan struct{})}
	if !IsTerminal(out) {
		close(p.done)
		return p
	}
	go p.draw(time.Now())
	return p
}

// Stage names what is being done now.
func (p *Progress) Stage(name string) {
	p.mu.Lock()
	p.stage = name
	p.mu.Unlock()
}

func (p *Progress) draw(begin time.Time) {
	defer close(p.done)
	t := time.NewTicker(150 * time.Millisecond)
	defer t.Stop()
	spin := []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")
	for i := 0; ; i++ {
		select {
		case <-p.stop:
			if p.shown {
				fmt.Fprint(p.out, "\r\x1b[K")
			}
			return
		case <-t.C:
		}
		if time.Since(begin) < delay {
			continue
		}
		p.mu.Lock()
		line := fmt.Sprintf("%c %s  %s", spin[i%len(spin)], p.stage, Duration(time.Since(begin)))
		p.mu.Unlock()
		if p.tail != nil {
			line += "  " + p.tail()
		}
		p.shown = true
		fmt.Fprint(p.out, "\r\x1b[K"+runewidth.Truncate(line, Width(p.out)-1, "…"))
	}
}

// Done takes the line away.
func (p *Progress) Done() {
	select {
	case <-p.done:
		return
	default:
	}
	close(p.stop)
	<-p.done
}

// Table writes rows under a header with aligned columns. Cells are escaped. The last column is cut at width; if that
// does not suffice, the widest other column is narrowed.
func Table(w io.Writer, width int, header []string, rows [][]string) {
	cols := make([]int, len(header))
	cells := make([][]string, 0, len(rows)+1)
	for _, r := range append([][]string{header}, rows...) {
		line := make([]string, len(header))
		for i := range header {
			if i < len(r) {
				line[i] = printable.Text(r[i])
			}
			cols[i] = max(cols[i], runewidth.StringWidth(line[i]))
		}
		cells = append(cells, line)
	}
	narrow(cols, width)
	for _, line := range cells {
		var b strings.Builder
		for i, c := range line {
			c = runewidth.Truncate(c, cols[i], "…")
			b.WriteString(c)
			if i < len(line)-1 {
				b.WriteString(strings.Repeat(" ", cols[i]-runewidth.StringWidth(c)+2))
			}
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}

// narrow takes columns from the widest until all fit. The first column names the row and is what people copy: it keeps its
// width unless it alone is wider than half the terminal.
func narrow(cols []int, width int) {
	for {
		sum, widest := 2*(len(cols)-1), -1
		for i, c := range cols {
			sum += c
			if i == 0 && c <= width/2 {
				continue
			}
			if widest < 0 || c > cols[widest] {
				widest = i
			}
		}
		if sum <= width || widest < 0 || cols[widest] <= 6 {
			return
		}
		cols[widest]--
	}
}

// Plural gives "1 file" or "3 files".
func Plural(n int, one string) string {
	many := one + "s"
	if strings.HasSuffix(one, "s") || strings.HasSuffix(one, "ch") {
		many = one + "es"
	} else if strings.HasSuffix(one, "y") && utf8.RuneCountInString(one) > 1 && !strings.ContainsAny(one[len(one)-2:len(one)-1], "aeiou") {
		many = one[:len(one)-1] + "ies"
	}
	if n == 1 {
		return "1 " + one
	}
	return humanize.Comma(int64(n)) + " " + many
}
