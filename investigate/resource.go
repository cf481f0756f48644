package investigate

import (
	"fmt"
	"strings"
	"time"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/verdict"
)

// A foreign program that has computed for minBurned, with at least burnedShare of one processor over its whole life, does nothing else of
// note: implants, shells and scanners wait most of the time. Who speaks with a pool need not have computed as long.
const (
	minBurned   = int64(2 * time.Second)
	burnedShare = 0.25
)

// resource tells of processor time that was taken, in quantities.
func (w *work) resource() {
	miners := map[int]*detect.Finding{}
	for i := range w.findings {
		if f := &w.findings[i]; f.Rule == "network-mining-protocol" && weighs(f) {
			miners[f.PID] = f
		}
	}
	var total int64
	var all []verdict.Citation
	for _, p := range w.foreign() {
		if w.f.Foreign(p) {
			total, all = total+p.CPUTime, append(all, p.Cite)
		}
		age := w.f.Host.Realtime - p.StartTime
		known := w.f.Host.Realtime != 0 && p.StartTime != 0 && age > 0
		m := miners[p.PID]
		burned := known && w.f.Foreign(p) && p.CPUTime >= minBurned && float64(p.CPUTime) >= burnedShare*float64(age)
		if m == nil && !burned {
			continue
		}
		cites := []verdict.Citation{p.Cite}
		words := detect.Describe(p)
		if m != nil {
			cites = m.Citations
			words += " mines"
			if m.Peer != "" {
				words += " with " + m.Peer
			}
			words += " and"
		}
		words += " used "
		if !w.f.Foreign(p) {
			words += "at most " // the image's own work is in it
		}
		words += span(p.CPUTime) + " of processor time"
		if known {
			words += fmt.Sprintf(" in %s, %.0f %% of one processor", span(age), 100*float64(p.CPUTime)/float64(age))
		}
		if ns, c, ok := w.groupTime(); ok {
			words += "; all of the container used " + span(ns)
			cites = append(cites[:len(cites):len(cites)], c)
		}
		w.effect(verdict.ImpactResource, "T1496", words, cites)
	}
	if hours := float64(total) / float64(time.Hour); len(all) > 1 && hours >= 0.1 {
		w.effect(verdict.ImpactResource, "T1496", fmt.Sprintf("at least %.1f processor hours were used by %d foreign processes that still ran", hours, len(all)), all[:min(len(all), 16)])
	}
}

// groupTime is the processor time that the container's control group has used in all, in nanoseconds: cpuacct.usage of the first version,
// cpu.stat of the second.
func (w *work) groupTime() (ns int64, cite verdict.Citation, ok bool) {
	for _, e := range w.p.Artifacts("host/cgroup/") {
		var scale int64
		field := ""
		switch {
		case strings.HasSuffix(e.Path, "/cpuacct.usage"):
			scale = 1
		case strings.HasSuffix(e.Path, "/cpu.stat"):
			scale, field = 1000, "usage_usec"
		default:
			continue
		}
		for line := range strings.Lines(string(w.f.Read(e.Path, 0, 4096))) {
			line, named := strings.CutPrefix(strings.TrimSpace(line), field)
			if !named {
				continue
			}
			var n int64
			if _, err := fmt.Sscan(line, &n); err != nil || n <= 0 || n > 1<<62/scale {
				continue
			}
			if c, ok := w.f.Cite(e.Path, 0, e.Size); ok {
				return n * scale, c, true
			}
		}
	}
	return 0, verdict.Citation{}, false
}
