package investigate

import (
	"fmt"
	"strings"
	"time"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/verdict"
)

// Rules about evidence that contradicts itself. None of them accuses by itself: each has an honest explanation, so their findings are low.
var (
	logFormRule = detect.Rule{
		ID: "log-line-of-another-form", Title: "A logged request is not in the form of the others", Severity: verdict.Low, Technique: "T1565.001",
		Rationale:   "A logger keeps to one form: how it writes a time, in which order its fields come, how they are set apart. A line of another form beside what was found was likely written by something else, to mislead.",
		FalseAlarms: "Applications with two loggers, or just updated: such lines are many, and a form that more than five lines have is not strange. Fields that come and go don't count.",
	}
	logTimeRule = detect.Rule{
		ID: "log-time-contradicts", Title: "A logged request states another time than the runtime stamped on it", Severity: verdict.Low, Technique: "T1565.001",
		Rationale:   "The runtime stamps a line when it receives it, which nobody in the container can forge. Where all lines are received as they are written, one that states another time was made up or held back.",
		FalseAlarms: "Zones and clocks that are off shift all lines alike, and buffers hold many back: only a log whose lines keep to within 2 s can show one that doesn't.",
	}
	fileTimeRule = detect.Rule{
		ID: "file-times-contradict", Title: "A foreign file says that it is older than its birth", Severity: verdict.Low, Technique: "T1070.006",
		Rationale:   "The file system keeps when a file was born and last changed, and lets programs set only when it was modified. A time of modification long before the birth, or after the last change, was set.",
		FalseAlarms: "Copying and unpacking with times kept does the same: only files that another finding which weighs is about are looked at, and the finding is low.",
		Needs:       []detect.Fact{detect.Inventory},
	}
)

// contradictions asks the rules above.
func (w *work) contradictions() {
	w.answers = append(w.answers, w.strangeLines(), w.offTimes(), w.setTimes())
	w.r.Answers = w.answers
	w.collectFindings()
}

// besideFindings are the requests at the moments of what weighs, each once.
func (w *work) besideFindings() []*request {
	var out []*request
	seen := map[verdict.Citation]bool{}
	for _, a := range w.arrivals(weighs) {
		for _, r := range w.around(a.time, near, near) {
			if !seen[r.Cite] {
				seen[r.Cite] = true
				out = append(out, r)
			}
		}
	}
	return out
}

func (w *work) strangeLines() detect.Answer {
	a := detect.Answer{Rule: &logFormRule}
	u := &w.logs.usual
	for _, r := range w.besideFindings() {
		if u.strange(r) {
			a.Add(detect.Finding{When: r.Time, Finding: verdict.Finding{Citations: []verdict.Citation{r.Cite},
				Statement: fmt.Sprintf("%s is logged in a form that %s of %d of this log has; %d are in another", r.words(), plural(u.forms[r.form], "request"), u.total, u.most)}})
		}
	}
	return a
}

func (w *work) offTimes() detect.Answer {
	a := detect.Answer{Rule: &logTimeRule}
	for _, r := range w.besideFindings() {
		if w.logs.usual.offTime(r) {
			a.Add(detect.Finding{When: r.Time, Finding: verdict.Finding{Citations: []verdict.Citation{r.Cite},
				Statement: fmt.Sprintf("%s states %s, %s off the time at which the runtime received the line", r.words(), detect.Time(r.stated), span(r.stated-r.Time))}})
		}
	}
	return a
}

// setTimes looks at the files of findings that weigh.
func (w *work) setTimes() detect.Answer {
	a := detect.Answer{Rule: &fileTimeRule}
	if why, missing := w.f.Missing[detect.Inventory]; missing {
		a.Blind = append(a.Blind, detect.Blindness{What: "times of files", Why: why})
		return a
	}
	const day = int64(24 * time.Hour)
	tell := func(r *detect.File) {
		if r == nil || r.Btime == 0 || r.Mtime == 0 || r.Type != "file" || !w.marksFile(string(r.Path)) {
			return
		}
		words := ""
		switch {
		case r.Mtime < r.Btime-day:
			words = fmt.Sprintf("was modified %s before it was born here", span(r.Btime-r.Mtime))
		case r.Ctime != 0 && r.Mtime > r.Ctime+int64(time.Second):
			words = fmt.Sprintf("was modified %s after its last change", span(r.Mtime-r.Ctime))
		default:
			return
		}
		a.Add(detect.Finding{Path: string(r.Path), SHA256: r.SHA256, When: r.Btime, Finding: verdict.Finding{Citations: []verdict.Citation{r.Cite},
			Statement: clip(string(r.Path), 160) + " says that it " + words + ": its time was set"}})
	}
	for i := range w.f.Files.Changes {
		tell(w.f.Files.Changes[i].After)
	}
	for i := range w.f.Files.Mounted {
		tell(&w.f.Files.Mounted[i])
	}
	return a
}

// touched counts the files that came or changed since the first foreign thing did, in words; "" if none did or that is not known.
func (w *work) touched() (words string, cites []verdict.Citation) {
	if len(w.comings) == 0 {
		return "", nil
	}
	since := w.comings[0].time - int64(time.Second)
	added, changed, deleted := 0, 0, 0
	for i := range w.f.Files.Changes {
		c := &w.f.Files.Changes[i]
		if c.Runtime || detect.ChangedAt(c) < since {
			continue
		}
		switch {
		case strings.HasPrefix(string(c.Kind), "added"):
			added++
		case strings.HasPrefix(string(c.Kind), "deleted"):
			deleted++
		default:
			changed++
		}
		if len(cites) < 8 {
			cites = append(cites, driftRow(c).Citations...)
		}
	}
	if added+changed+deleted == 0 {
		return "", nil
	}
	return fmt.Sprintf("at most %s, %d changed and %d deleted since %s", plural(added, "file")+" added", changed, deleted, w.comings[0].words), cites
}
