package investigate

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/parse/inventory"
	"github.com/sherd-forensics/sherd/verdict"
)

// Bounds of what is told.
const (
	maxStory    = 30
	maxTimeline = 400
)

// story merges what happened into one list in order of time: the timeline has it all, the story what weighs.
func (w *work) story() {
	var all []Event
	add := func(e Event) {
		if e.Time != 0 {
			e.Citations = unique(e.Citations)
			all = append(all, e)
		}
	}
	w.containerEvents(add)
	w.processEvents(add)
	w.aroundEvents(add)
	w.fileEvents(add)
	w.requestEvents(add)
	w.connectionEvents(add)
	w.callEvents(add)
	w.runEvents(add)
	slices.SortStableFunc(all, func(a, b Event) int {
		return cmp.Or(cmp.Compare(a.Time, b.Time), cmp.Compare(rank(a.Kind), rank(b.Kind)), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Text, b.Text))
	})
	all = slices.CompactFunc(all, func(a, b Event) bool { return a.Time == b.Time && a.Kind == b.Kind && a.Text == b.Text })
	w.r.TimelineTotal = len(all)
	w.r.Timeline = bounded(all, maxTimeline)
	if !w.bad() {
		return
	}
	var told []Event
	for _, e := range all {
		if e.Marked || e.Kind == event.ContainerStarted {
			told = append(told, e)
		}
	}
	if len(told) > maxStory {
		w.gap("the rest of the story", "it is told up to its limit; what came last is left out", "the timeline has more")
		told = told[:maxStory]
	}
	for _, e := range told {
		w.r.Verdict.Story = append(w.r.Verdict.Story, verdict.Step{Time: detect.Time(e.Time), Statement: e.Text, Citations: e.Citations})
	}
}

// rank orders what happened at the same moment by what can cause what: a file is there before it runs.
func rank(k event.Kind) int {
	switch k {
	case event.FileCreated, event.FileModified:
		return 0
	case event.ProcessStarted:
		return 1
	}
	return 2
}

// bounded keeps what is marked first, then what lies earliest.
func bounded(all []Event, n int) []Event {
	if len(all) <= n {
		return all
	}
	marked := 0
	for _, e := range all {
		if e.Marked {
			marked++
		}
	}
	room := max(n-marked, 0)
	var out []Event
	for _, e := range all {
		switch {
		case len(out) == n:
			return out
		case e.Marked:
			out = append(out, e)
		case room > 0:
			room--
			out = append(out, e)
		}
	}
	return out
}

func (w *work) containerEvents(add func(Event)) {
	c := &w.f.Container
	if cite, ok := w.containerCite(); ok && w.f.Started != 0 && !c.Started.IsZero() {
		add(Event{Time: w.f.Started, TimeKind: event.Started, Kind: event.ContainerStarted, Text: "the container starts", Citations: []verdict.Citation{cite}})
	}
}

func (w *work) processEvents(add func(Event)) {
	init := w.f.Init()
	for i := range w.f.Processes {
		p := &w.f.Processes[i]
		text := detect.Describe(p) + " starts, running " + clip(detect.ExeName(p), 120)
		cites := []verdict.Citation{p.Cite}
		if parent := w.f.Process(p.PPID); parent != nil {
			text += ", child of " + detect.Describe(parent)
			cites = append(cites, parent.Cite)
		}
		foreign := w.f.Foreign(p) || w.victim(p.PID) && p != init
		add(Event{Time: w.startOf(p), TimeKind: event.Started, Kind: event.ProcessStarted, Text: text, Marked: foreign, Citations: cites})
		if w.f.Foreign(p) && p.Exe.Btime != 0 && p.Exe.Origin != record.ExeMemfd {
			if _, still := w.f.Files.ByPath[string(p.Exe.Path)]; !still || p.Exe.Deleted || p.Exe.Origin == record.ExeDeleted {
				add(Event{Time: p.Exe.Btime, TimeKind: event.Created, Kind: event.FileCreated, Marked: true, Citations: []verdict.Citation{p.Cite},
					Text: clip(string(p.Exe.Path), 120) + " created, the program of " + detect.Describe(p)})
				add(Event{Time: p.Exe.Ctime, TimeKind: event.Changed, Kind: event.FileDeleted, Marked: true, Citations: []verdict.Citation{p.Cite},
					Text: clip(string(p.Exe.Path), 120) + " deleted, or last changed before that"})
			}
		}
	}
}

// startOf is when a process started. The kernel tells it in ticks of 10 ms, cut off; a program's file can't be younger than
// the process that runs it, so a birth within that tick narrows it.
func (w *work) startOf(p *detect.Process) int64 {
	const tick = int64(20 * time.Millisecond) // one of the clock, one of the time of boot
	born := p.Exe.Btime
	if born == 0 {
		born = w.f.Files.ByPath[string(p.Exe.Path)].Btime
	}
	if w.f.Foreign(p) && born > p.StartTime && born <= p.StartTime+tick {
		return born
	}
	return p.StartTime
}

func (w *work) fileEvents(add func(Event)) {
	marked := map[string]bool{}
	for i := range w.findings {
		if f := &w.findings[i]; f.Path != "" && weighs(f) && strings.HasPrefix(f.Rule, "file-") {
			marked[f.Path] = true
		}
	}
	for i := range w.f.Files.Changes {
		c := &w.f.Files.Changes[i]
		if c.Runtime {
			continue
		}
		at := detect.ChangedAt(c)
		e := Event{Time: at, TimeKind: event.Created, Kind: event.FileCreated, Marked: marked[c.Path], Citations: driftRow(c).Citations}
		switch c.Kind {
		case inventory.Deleted:
			e.TimeKind, e.Kind, e.Text = event.Changed, event.FileDeleted, clip(c.Path, 120)+" deleted"
		case inventory.Added:
			e.Text = clip(c.Path, 120) + " created" + modeWords(c.After)
		default:
			e.TimeKind, e.Kind, e.Text = event.Modified, event.FileModified, clip(c.Path, 120)+" "+string(c.Kind)+modeWords(c.After)
		}
		add(e)
	}
	for i := range w.f.Files.Mounted {
		r := &w.f.Files.Mounted[i]
		if marked[string(r.Path)] {
			add(Event{Time: firstOf(r.Btime, r.Ctime), TimeKind: event.Created, Kind: event.FileCreated, Marked: true, Citations: []verdict.Citation{r.Cite},
				Text: clip(string(r.Path), 120) + " created" + modeWords(r)})
		}
	}
}

func firstOf(ns ...int64) int64 {
	for _, n := range ns {
		if n != 0 {
			return n
		}
	}
	return 0
}

func (w *work) requestEvents(add func(Event)) {
	rc := w.r.Verdict.RootCause
	if rc == nil && w.bad() {
		for _, r := range w.standingOut() {
			add(Event{Time: r.Time, TimeKind: event.Logged, Kind: event.LogLine, Marked: true, Citations: []verdict.Citation{r.Cite},
				Text: "logged: " + r.words() + answered(r) + " (hardly ever served)"})
		}
	}
	for i := range w.requests {
		r := &w.requests[i]
		add(Event{Time: r.Time, TimeKind: event.Logged, Kind: event.LogLine, Text: "logged: " + r.words() + answered(r), Marked: rc != nil && slices.Contains(rc.Citations, r.Cite), Citations: []verdict.Citation{r.Cite}})
	}
}

func answered(r *request) string {
	if r.Status == 0 {
		return ""
	}
	return ", answered " + itoa(r.Status)
}

func (w *work) connectionEvents(add func(Event)) {
	for _, x := range w.peers() {
		s := x.sockets[0]
		at := firstOf(s.Observed, w.f.Host.Realtime)
		text := detect.Describe(x.processes[0]) + " is connected with " + x.value
		if x.counted > 0 {
			text += "; " + bytesWords(x.out) + " out, " + bytesWords(x.in) + " in"
		}
		add(Event{Time: at, TimeKind: event.Observed, Kind: event.NetConnected, Text: text + " (as the capture saw it)", Marked: true, Citations: []verdict.Citation{s.Cite, x.processes[0].Cite}})
	}
}
