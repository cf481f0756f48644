package html

import (
	"fmt"
	"html/template"
	"strings"
	"time"
)

// The picture's measures, in SVG units.
const (
	picWidth   = 1040
	laneHeight = 26
	picLeft    = 110
	picRight   = 1020
	picTop     = 14
)

// dot is one event in the picture.
type dot struct {
	MS     int64 // milliseconds since the epoch
	Lane   string
	Label  string
	Marked bool
}

// picture draws dots on one lane per kind of event, in the order in which the lanes first occur. It is empty without dots.
// Everything in it is a number or passes HTMLEscapeString.
func picture(dots []dot) template.HTML {
	if len(dots) == 0 {
		return ""
	}
	t0, t1 := dots[0].MS, dots[0].MS
	var lanes []string
	index := map[string]int{}
	for _, d := range dots {
		t0, t1 = min(t0, d.MS), max(t1, d.MS)
		if _, ok := index[d.Lane]; !ok {
			index[d.Lane] = len(lanes)
			lanes = append(lanes, d.Lane)
		}
	}
	if t1 == t0 {
		t0, t1 = t0-500, t1+500
	}
	bottom := picTop + laneHeight*len(lanes)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %d %d" role="img" aria-label="Events over time" data-t0="%d" data-t1="%d" data-x0="%d" data-x1="%d">`,
		picWidth, bottom+26, t0, t1, picLeft, picRight)
	for i, l := range lanes {
		y := picTop + laneHeight*i + laneHeight/2
		fmt.Fprintf(&b, `<line class="lane" x1="%d" x2="%d" y1="%d" y2="%d"/><text x="10" y="%d">%s</text>`,
			picLeft, picRight, y, y, y+4, template.HTMLEscapeString(l))
	}
	const ticks = 4
	for i := range ticks {
		at := t0 + (t1-t0)*int64(i)/(ticks-1)
		x := picLeft + (picRight-picLeft)*i/(ticks-1)
		anchor := "middle"
		switch i {
		case 0:
			anchor = "start"
		case ticks - 1:
			anchor = "end"
		}
		layout := "2006-01-02 15:04:05Z"
		if t1-t0 < 60_000 {
			layout = "2006-01-02 15:04:05.000Z"
		}
		fmt.Fprintf(&b, `<text class="tick" x="%d" y="%d" text-anchor="%s">%s</text>`, x, bottom+18, anchor, time.UnixMilli(at).UTC().Format(layout))
	}
	// Marked dots last, so that nothing covers them.
	for _, marked := range []bool{false, true} {
		for _, d := range dots {
			if d.Marked != marked {
				continue
			}
			x := float64(picLeft) + float64(d.MS-t0)/float64(t1-t0)*float64(picRight-picLeft)
			class, r := "d", 4
			if marked {
				class, r = "d m", 6
			}
			fmt.Fprintf(&b, `<circle class="%s" data-t="%d" cx="%.1f" cy="%d" r="%d"><title>%s</title></circle>`,
				class, d.MS, x, picTop+laneHeight*index[d.Lane]+laneHeight/2, r, template.HTMLEscapeString(d.Label))
		}
	}
	fmt.Fprintf(&b, `<rect class="brush" x="0" y="%d" width="0" height="%d"/></svg>`, picTop, bottom-picTop)
	return template.HTML(b.String())
}
