package investigate

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/verdict"
)

func itoa(n int) string { return strconv.Itoa(n) }

func modeWords(r *detect.File) string {
	if r == nil || r.Type != record.TypeFile {
		return ""
	}
	return fmt.Sprintf(", mode %04o, %s", r.Mode, bytesWords(uint64(max(r.Size, 0))))
}

// maxGaps bounds the gaps that are listed one by one.
const maxGaps = 60

// consequences say what a missing kind of evidence means for the verdict.
var consequences = map[string]string{
	"network":    "connections and listeners may exist that are not judged here",
	"process":    "a process may run something that is not judged here",
	"memory":     "code that exists in memory alone could not be seen there",
	"filesystem": "files may have been added or changed that are not judged here",
	"volumes":    "what lies on these mounts is not judged here",
	"logs":       "what the application logged there is not part of the story",
	"context":    "the host's side of the story is incomplete",
	"target":     "what image and runtime asked for is known in part only",
}

// coverageGaps tells what was not seen: what the capture missed, what rules could not be asked, and what a snapshot can't show.
func (w *work) coverageGaps() {
	if w.p.Truncated() {
		w.gap("the end of the package", "it is cut short", "whatever followed is not judged, and the package can't be verified as a whole")
	}
	said := map[string]bool{}
	for _, kind := range []string{"process", "memory", "network", "filesystem", "volumes", "logs", "context", "target"} {
		switch s := w.f.Coverage.Collected[kind]; s {
		case "complete", "partial":
		case "skipped":
			said[kind] = true
			w.gap(kindNames[kind], "left out by choice", consequences[kind])
		case "":
			if w.said(kind) {
				continue // an older collector, or one kind's work done by another
			}
			fallthrough
		default:
			why := "it could not be collected"
			for _, m := range w.f.Coverage.Missed {
				if m.Kind == kind && !m.Partial {
					why = clip(m.Reason, 200)
					break
				}
			}
			if s == "" {
				why = "the package says nothing about it"
			}
			said[kind] = true
			w.gap(kindNames[kind], why, consequences[kind])
		}
	}
	w.missedGaps(said)
	w.blindGaps()
	if n := w.f.Files.Dropped; n > 0 {
		w.gap(itoa(n)+" changed data files", "there are more changes than are listed", "none of them is a program or a file that steers others")
	}
	if w.logs.broken > 0 {
		w.gap(itoa(w.logs.broken)+" log lines", "they could not be read", consequences["logs"])
	}
	for _, s := range w.logs.skips {
		w.gap(fmt.Sprintf("%d places in %s, the first at byte %d", s.Count, clip(s.Artifact, 160), s.Offset), s.Reason, consequences["logs"])
	}
	if len(w.gaps) > maxGaps {
		rest := len(w.gaps) - maxGaps
		w.gaps = append(w.gaps[:maxGaps:maxGaps], verdict.Gap{What: fmt.Sprintf("%d more gaps", rest), Why: "they are in the package's coverage.json", Consequence: "see there"})
	}
}

// said reports whether the package holds artifacts of a kind although its coverage does not speak of it.
func (w *work) said(kind string) bool {
	folder := map[string]string{"context": "host/", "logs": "logs/", "target": "target/", "volumes": "volumes/"}[kind]
	return folder != "" && len(w.p.Artifacts(folder)) > 0
}

var kindNames = map[string]string{
	"network": "the network", "process": "the processes", "memory": "memory", "filesystem": "the files of container and image", "volumes": "the volumes",
	"logs": "the logs", "context": "the host's context", "target": "the runtime's records",
}

// missedGaps tells the coverage's entries, what was missed against the will first.
func (w *work) missedGaps(said map[string]bool) {
	missed := slices.Clone(w.f.Coverage.Missed)
	slices.SortStableFunc(missed, func(a, b record.Miss) int {
		switch {
		case a.Deliberate == b.Deliberate:
			return 0
		case b.Deliberate:
			return -1
		}
		return 1
	})
	for _, m := range missed {
		if said[m.Kind] && !m.Partial {
			continue // the kind as a whole is missing, and said so above
		}
		what := clip(m.What, 160)
		if m.Count > 1 {
			what += fmt.Sprintf(" (%d times)", m.Count)
		}
		why := clip(m.Reason, 240)
		if m.Partial {
			why += " (a part was kept)"
		}
		w.gap(what, why, consequences[m.Kind])
	}
	if n := w.f.Coverage.Dropped; n > 0 {
		w.gap(fmt.Sprintf("%d more things", n), "the coverage list is full", "they are counted, not named")
	}
}

// blindGaps tells which questions could not be asked, one gap for each reason.
func (w *work) blindGaps() {
	type key struct{ what, why string }
	var order []key
	rules := map[key][]string{}
	for i := range w.answers {
		a := &w.answers[i]
		for _, b := range a.Blind {
			k := key{b.What, b.Why}
			if rules[k] == nil {
				order = append(order, k)
			}
			rules[k] = append(rules[k], a.Rule.ID)
		}
	}
	for _, k := range order {
		ids := rules[k]
		text := ids[0]
		if len(ids) > 1 {
			text = fmt.Sprintf("%s and %d more", ids[0], len(ids)-1)
		}
		w.gap(clip(k.what, 160), clip(k.why, 240), "rules that could not be asked, or not wholly: "+text)
	}
}

// podURL is a container of a cluster, as it can be typed again.
var podURL = regexp.MustCompile(`^k8s://[a-z0-9./-]{3,300}$`)

// next is advice, most urgent first.
func (w *work) next() {
	v := &w.r.Verdict
	add := func(s string) {
		if !slices.Contains(v.Next, s) {
			v.Next = append(v.Next, s)
		}
	}
	switch v.Verdict {
	case verdict.Inconclusive:
		add("collect again with what is missing (see Not seen), best as root and while the container runs")
		return
	case verdict.Clean:
		return
	case verdict.Compromised, verdict.Suspicious:
	}
	name := clip(w.f.Container.Name, 60)
	if p := w.f.Container.Pod; p != nil && p.Name != "" {
		name = strings.TrimSuffix(clip(p.Namespace+"/"+p.Name, 120)+"/"+clip(p.Container, 63), "/")
	}
	if name == "" {
		name = "the container"
	}
	if v.Verdict == verdict.Compromised {
		how := ""
		if podURL.MatchString(w.f.Container.URL) {
			how = " (sherd isolate " + w.f.Container.URL + " --detach --deny-network --keep)"
		}
		add("isolate " + name + " from the network, keep it for now: its memory goes with it" + how)
	} else {
		add("look at the findings above: explain each of them, or treat " + name + " as compromised")
	}
	var creds, peers, files, around []string
	var source string
	for i := range v.Scope {
		e := &v.Scope[i]
		switch {
		case e.Type == verdict.EntityCredential && slices.Contains(w.tokenPaths(), e.Value):
			// The pod's own is advised on below.
		case e.Type == verdict.EntityCredential:
			creds = append(creds, clip(e.Value, 60))
		case e.Type == verdict.EntityAddress && e.Role == "peer":
			peers = append(peers, e.Value)
		case e.Type == verdict.EntityAddress && e.Role == "source":
			source = e.Value
		case e.Type == verdict.EntityContainer && strings.Contains(e.Value, "/") && (e.Role == "started" || e.Role == "entered"):
			around = append(around, clip(e.Value, 120))
		case e.Type == verdict.EntityContainer && (e.Role == "outsider" || e.Role == "started"):
			around = append(around, "the container "+e.Value[:min(len(e.Value), 12)])
		case e.Type == verdict.EntityFile && e.SHA256 != "" && e.Role == "foreign":
			files = append(files, e.SHA256[:12]+"…")
		}
	}
	if len(creds) > 0 {
		add("rotate " + list(creds, 6))
	}
	if len(peers) > 0 {
		add("block " + list(peers, 6) + " and look for other containers that talk to it")
	}
	if len(around) > 0 {
		add("collect and investigate " + list(around, 4) + " too, and ask who started it")
	}
	w.clusterNext(add)
	if source != "" {
		add("look for other requests from " + source)
	}
	if len(files) > 0 {
		add("search other machines for sha256 " + list(uniqueStrings(files), 4))
	}
	if v.RootCause != nil {
		add("close the way in (" + w.entry + ") before the image is deployed again")
	}
}
