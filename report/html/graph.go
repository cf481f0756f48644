package html

import (
	"cmp"
	"fmt"
	"html/template"
	"slices"
	"strings"

	"github.com/sherd-forensics/sherd/internal/printable"
	"github.com/sherd-forensics/sherd/investigate"
	"github.com/sherd-forensics/sherd/investigate/graph"
)

// Columns of the picture, from entry to impact.
const (
	colFrom = iota
	colRequest
	colServed
	colCame
	colRan
	colReached
	columns
)

var columnNames = [columns]string{"from", "request", "served by", "came", "ran", "reached"}

// maxRows bounds the boxes of a column; lesser ones become one box that counts them.
const maxRows = 7

// box is one node of the picture, or several that are shown as one.
type box struct {
	node          int // of the graph, -1 for several
	col, row      int
	label, kind   string
	title         string
	foreign, path bool
	cite          int // number of its proof, 0 if it has none
	x, y          int
	order         float64
}

// line is one edge of the picture.
type line struct {
	from, to int // boxes, in the order of time
	words    string
	path     bool
	weak     bool // less than 0.7 sure
}

// drawing is a picture before it has measures.
type drawing struct {
	boxes []box
	lines []line
	words []claim // the same in words
}

// draw chooses what of a graph is worth showing.
func draw(r *investigate.Result, n *numbers) *drawing {
	g := r.Graph
	if g == nil || len(g.Edges) == 0 {
		return nil
	}
	onPath := map[int]bool{}
	for _, i := range g.Path {
		onPath[g.Edges[i].From], onPath[g.Edges[i].To] = true, true
	}
	var all []box
	for i := range g.Nodes {
		col, ok := columnOf(r, i, onPath[i])
		if !ok {
			continue
		}
		v := &g.Nodes[i]
		b := box{node: i, col: col, label: printable.Text(v.Label), kind: string(v.Kind), title: printable.Text(v.Label), foreign: v.Foreign, path: onPath[i]}
		if v.Container != "" && v.Kind != graph.Container {
			b.kind = middle(b.kind+" · "+printable.Text(v.Container), labelWide+4)
		}
		if v.Note != "" {
			b.title += " — " + printable.Clip(v.Note, 200)
		}
		switch v.Kind {
		case graph.Process:
			b.label = strings.TrimPrefix(b.label, "process ") // the box says so above
		case graph.Request:
			b.label = ending(b.label, labelWide)
		}
		if t := when(v.Time); t != "" {
			b.title += " — " + t
		}
		if c := n.of(v.Citations[:min(1, len(v.Citations))]); len(c) > 0 {
			b.cite = c[0]
		}
		all = append(all, b)
	}
	d := &drawing{}
	at := d.settle(all)
	d.connect(g, at, n)
	d.arrange()
	return d
}

// columnOf says where a node stands; ok is false for one that a picture is clearer without.
func columnOf(r *investigate.Result, i int, path bool) (col int, ok bool) {
	g := r.Graph
	v := &g.Nodes[i]
	has := func(rule string, to bool) bool {
		return slices.ContainsFunc(g.Edges, func(e graph.Edge) bool { return e.Rule == rule && (to && e.To == i || !to && e.From == i) })
	}
	switch v.Kind {
	case graph.Address:
		if has(graph.RequestFrom, false) || has(graph.ProcessAccepted, false) {
			return colFrom, true
		}
		return colReached, v.Foreign || path
	case graph.Request:
		return colRequest, true
	case graph.Process:
		if has(graph.RequestLogged, false) || !v.Foreign {
			return colServed, path || has(graph.RequestLogged, false) || has(graph.ProcessParent, false)
		}
		return colRan, true
	case graph.File:
		return colCame, v.Foreign || path
	case graph.Credential:
		return colReached, true
	case graph.Identity:
		return colReached, has(graph.IdentityCalled, true) || has(graph.IdentityCalled, false)
	case graph.Container:
		return colServed, has(graph.ContainerReached, true) || has(graph.ContainerReached, false)
	case graph.Image, graph.Host:
	}
	return 0, false
}

// settle fills the columns: what is on the path first, then what is the intruder's; what is beyond maxRows becomes one box. It maps the
// graph's nodes to boxes.
func (d *drawing) settle(all []box) map[int]int {
	at := map[int]int{}
	rank := func(b *box) int {
		switch {
		case b.path:
			return 0
		case b.foreign:
			return 1
		}
		return 2
	}
	for col := range columns {
		var of []box
		for _, b := range all {
			if b.col == col {
				of = append(of, b)
			}
		}
		slices.SortStableFunc(of, func(a, b box) int { return rank(&a) - rank(&b) })
		most := maxRows
		if len(of) > maxRows {
			most = maxRows - 1
		}
		rest := -1
		for k, b := range of {
			if k < most {
				at[b.node] = len(d.boxes)
				d.boxes = append(d.boxes, b)
				continue
			}
			if rest < 0 {
				rest = len(d.boxes)
				d.boxes = append(d.boxes, box{node: -1, col: col, kind: "more", foreign: b.foreign})
			}
			at[b.node] = rest
			m := &d.boxes[rest]
			m.label = fmt.Sprintf("%d more", len(of)-most)
			m.title = strings.TrimPrefix(printable.Clip(m.title+", "+b.title, 400), ", ")
		}
	}
	return at
}

// connect draws the edges between what is shown. Between two boxes one line is drawn, of the surest edge; all are told in words.
func (d *drawing) connect(g *graph.Graph, at map[int]int, n *numbers) {
	inPath := map[int]bool{}
	for _, i := range g.Path {
		inPath[i] = true
	}
	known := map[[2]int]int{}
	tell := func(i int) {
		e := &g.Edges[i]
		if e.Rule == graph.ProcessInContainer {
			return // the boxes say it
		}
		from, okF := at[e.From]
		to, okT := at[e.To]
		if !okF || !okT || from == to {
			return
		}
		words := printable.Text(g.Nodes[e.From].Label) + " " + string(e.Verb) + " " + printable.Text(g.Nodes[e.To].Label)
		if len(d.words) < 60 {
			d.words = append(d.words, claim{Statement: words, Time: when(e.Time), Rule: e.Rule, Confidence: fmt.Sprintf("%.2f", e.Confidence), Cites: n.of(e.Citations[:min(4, len(e.Citations))])})
		}
		if r, _ := graph.RuleOf(e.Rule); r.Backward {
			from, to = to, from
		}
		key := [2]int{from, to}
		if _, ok := known[[2]int{to, from}]; ok {
			return // the other way round is drawn already
		}
		if k, ok := known[key]; ok {
			d.lines[k].path = d.lines[k].path || inPath[i]
			d.lines[k].weak = d.lines[k].weak && e.Confidence < 0.7
			d.lines[k].words += "; " + words
			return
		}
		known[key] = len(d.lines)
		d.lines = append(d.lines, line{from: from, to: to, words: words, path: inPath[i], weak: e.Confidence < 0.7})
	}
	for _, i := range g.Path {
		tell(i)
	}
	for i := range g.Edges {
		if !inPath[i] {
			tell(i)
		}
	}
}

// arrange orders the boxes of each column by what they are joined to on the left, so that few lines cross; what is on the path stays on top.
func (d *drawing) arrange() {
	for col := range columns {
		var of []int
		for i := range d.boxes {
			if d.boxes[i].col == col {
				of = append(of, i)
			}
		}
		for _, i := range of {
			sum, count := 0.0, 0
			for _, l := range d.lines {
				if l.to == i && d.boxes[l.from].col < col {
					sum, count = sum+float64(d.boxes[l.from].row), count+1
				}
			}
			b := &d.boxes[i]
			b.order = 100
			if count > 0 {
				b.order = sum / float64(count)
			}
			if b.path {
				b.order -= 1000
			}
			if b.node < 0 {
				b.order = 1000
			}
		}
		slices.SortStableFunc(of, func(a, b int) int { return cmp.Compare(d.boxes[a].order, d.boxes[b].order) })
		first := 0
		if d.passes(col) {
			first = 1 // the way in runs above
		}
		for row, i := range of {
			d.boxes[i].row = first + row
		}
	}
}

// passes reports whether the way in runs over a column without a stop in it.
func (d *drawing) passes(col int) bool {
	if slices.ContainsFunc(d.boxes, func(b box) bool { return b.col == col && b.path }) {
		return false
	}
	return slices.ContainsFunc(d.lines, func(l line) bool {
		a, b := d.boxes[l.from].col, d.boxes[l.to].col
		return l.path && min(a, b) < col && max(a, b) > col
	})
}

// Measures of the picture, in SVG units.
const (
	boxWidth, boxHeight   = 152, 46
	gapAcross, gapDown    = 58, 18
	tallWidth             = 352 // of the picture for narrow screens
	tallGap               = 40
	labelWide, labelRoomy = 19, 19 // characters that fit
)

// wide lays the columns side by side; tall one below the other, two boxes in a row.
func (d *drawing) wide() template.HTML {
	used := d.usedColumns()
	width, height := 16, 0
	for k, col := range used {
		x := 8 + k*(boxWidth+gapAcross)
		width = x + boxWidth + 8
		for i := range d.boxes {
			if b := &d.boxes[i]; b.col == col {
				b.x, b.y = x, 26+b.row*(boxHeight+gapDown)
				height = max(height, b.y+boxHeight+10)
			}
		}
	}
	var heads strings.Builder
	for k, col := range used {
		fmt.Fprintf(&heads, `<text class="head" x="%d" y="14">%s</text>`, 8+k*(boxWidth+gapAcross), columnNames[col])
	}
	return d.svg("wide", width, height, heads.String(), func(a, b *box) string {
		switch {
		case a.col == b.col:
			x := a.x + boxWidth
			y1, y2 := a.y+boxHeight/2, b.y+boxHeight/2
			return fmt.Sprintf("M%d %d C%d %d %d %d %d %d", x, y1, x+34, y1, x+34, y2, x+2, y2)
		case a.x < b.x:
			x1, y1, x2, y2 := a.x+boxWidth, a.y+boxHeight/2, b.x-2, b.y+boxHeight/2
			return fmt.Sprintf("M%d %d C%d %d %d %d %d %d", x1, y1, x1+gapAcross/2, y1, x2-gapAcross/2, y2, x2, y2)
		}
		x1, y1, x2, y2 := a.x, a.y+boxHeight*3/4, b.x+boxWidth+2, b.y+boxHeight*3/4
		return fmt.Sprintf("M%d %d C%d %d %d %d %d %d", x1, y1, x1-gapAcross/2, y1, x2+gapAcross/2, y2, x2, y2)
	})
}

func (d *drawing) tall() template.HTML {
	y := 4
	const wide = (tallWidth - 32) / 2
	var heads strings.Builder
	for _, col := range d.usedColumns() {
		fmt.Fprintf(&heads, `<text class="head" x="8" y="%d">%s</text>`, y+12, columnNames[col])
		y += 20
		rows := 0
		for i := range d.boxes {
			if b := &d.boxes[i]; b.col == col {
				row := b.row
				if d.passes(col) {
					row-- // below, lines run beside
				}
				b.x, b.y = 12+(row%2)*(wide+8), y+(row/2)*(boxHeight+8)
				rows = max(rows, row/2+1)
			}
		}
		y += rows*(boxHeight+8) + tallGap - 20
	}
	return d.svg("tall", tallWidth, y, heads.String(), func(a, b *box) string {
		ax, bx := a.x+wide/2, b.x+wide/2
		switch far := b.y-a.y > 2*boxHeight+tallGap || a.y > b.y; {
		case far && a.x > tallWidth/2 && b.x > tallWidth/2: // along the right edge
			return fmt.Sprintf("M%d %d C%d %d %d %d %d %d", a.x+wide, a.y+boxHeight/2, tallWidth+4, a.y+boxHeight/2, tallWidth+4, b.y+boxHeight/2, b.x+wide+2, b.y+boxHeight/2)
		case far && a.x < tallWidth/2 && b.x < tallWidth/2: // along the left edge
			return fmt.Sprintf("M%d %d C%d %d %d %d %d %d", a.x, a.y+boxHeight/2, -8, a.y+boxHeight/2, -8, b.y+boxHeight/2, b.x-2, b.y+boxHeight/2)
		case a.y < b.y:
			return fmt.Sprintf("M%d %d C%d %d %d %d %d %d", ax, a.y+boxHeight, ax, a.y+boxHeight+tallGap/2, bx, b.y-tallGap/2, bx, b.y-2)
		case a.y > b.y:
			return fmt.Sprintf("M%d %d C%d %d %d %d %d %d", ax, a.y, ax, a.y-tallGap/2, bx, b.y+boxHeight+tallGap/2, bx, b.y+boxHeight+2)
		}
		if ax < bx {
			return fmt.Sprintf("M%d %d L%d %d", a.x+wide, a.y+boxHeight/2, b.x-2, b.y+boxHeight/2)
		}
		return fmt.Sprintf("M%d %d L%d %d", a.x, a.y+boxHeight/2, b.x+wide+2, b.y+boxHeight/2)
	})
}

func (d *drawing) usedColumns() []int {
	var out []int
	for col := range columns {
		if slices.ContainsFunc(d.boxes, func(b box) bool { return b.col == col }) {
			out = append(out, col)
		}
	}
	return out
}

// svg writes the picture. Everything in it is a number, a constant, or passes HTMLEscapeString.
func (d *drawing) svg(name string, width, height int, heads string, curve func(a, b *box) string) template.HTML {
	esc := template.HTMLEscapeString
	wide, fits := boxWidth, labelWide
	if name == "tall" {
		wide, fits = (tallWidth-32)/2, labelRoomy
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="graph %s" viewBox="0 0 %d %d" role="group" aria-labelledby="gt-%s gd-%s"><title id="gt-%s">From entry to impact</title><desc id="gd-%s">`+
		`What took part and what led to what; the same in words stands below.</desc>`, name, width, height, name, name, name, name)
	for _, m := range []string{"on", "off"} {
		fmt.Fprintf(&b, `<marker id="arrow-%s-%s" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" markerUnits="userSpaceOnUse" orient="auto"><path class="arrow %s" d="M0 0 L8 4 L0 8 z"/></marker>`, m, name, m)
	}
	b.WriteString(heads)
	// Lines of the path last, so that nothing covers them.
	for _, path := range []bool{false, true} {
		for _, l := range d.lines {
			if l.path != path {
				continue
			}
			class, arrow := "edge", "off"
			if l.weak {
				class += " weak"
			}
			if path {
				class, arrow = class+" on", "on"
			}
			fmt.Fprintf(&b, `<path class="%s" marker-end="url(#arrow-%s-%s)" d="%s"><title>%s</title></path>`, class, arrow, name, curve(&d.boxes[l.from], &d.boxes[l.to]), esc(l.words))
		}
	}
	for i := range d.boxes {
		v := &d.boxes[i]
		class := "node"
		if v.foreign {
			class += " foreign"
		}
		if v.path {
			class += " on"
		}
		inner := fmt.Sprintf(`<g class="%s" transform="translate(%d %d)"><title>%s</title><rect width="%d" height="%d" rx="5"/><text class="kind" x="9" y="16">%s</text><text class="label" x="9" y="34">%s</text></g>`,
			class, v.x, v.y, esc(v.title), wide, boxHeight, esc(v.kind), esc(middle(v.label, fits)))
		if v.cite > 0 {
			inner = fmt.Sprintf(`<a class="cite" href="#p%d">%s</a>`, v.cite, inner)
		}
		b.WriteString(inner)
	}
	b.WriteString("</svg>")
	return template.HTML(b.String())
}

// ending cuts the end off: a request's method and route stand at its beginning.
func ending(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}

// middle cuts the middle out of a text that is too long, since beginning and end tell most of a path.
func middle(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	head := n / 3
	return string(r[:head]) + "…" + string(r[len(r)-(n-head-1):])
}
