package investigate

import (
	"cmp"
	"context"
	"crypto/md5"  //nolint:gosec // lists of indicators name files by it; nothing is proven with it
	"crypto/sha1" //nolint:gosec // likewise
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"strings"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/detect/indicator"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/inventory"
	"github.com/sherd-forensics/sherd/verdict"
)

// indicatorRule compares the evidence with lists of indicators; it is asked only when there are any.
var indicatorRule = detect.Rule{
	ID: "indicator-match", Title: "The evidence holds a value of a list of indicators", Severity: verdict.High, Technique: "",
	Rationale:   "Somebody saw this hash, address or name in another intrusion.",
	FalseAlarms: "Lists err and age. What runs, lies in the file system or is connected is graded high, what stands in an environment medium, what memory or a log holds low: whatever a client sends passes through both.",
	Needs:       nil,
}

const (
	maxMatches = 1000            // all in all
	maxDigest  = int64(64 << 20) // bytes of a file whose other digests are made
	window     = 1 << 20         // of memory that is looked at in one piece
	overlap    = 4096            // longer than any value that is looked for
)

// matcher looks for indicators and notes each once in each place.
type matcher struct {
	w    *work
	set  *indicator.Set
	a    *detect.Answer
	seen map[string]bool
}

func (m *matcher) hit(i *indicator.Indicator, place string, sev verdict.Severity, f detect.Finding) {
	key := string(i.Kind) + i.Value + "\x00" + place
	if m.seen[key] || len(m.seen) >= maxMatches {
		return
	}
	m.seen[key] = true
	f.Severity = sev
	f.Statement += ": " + clip(i.String(), 300) + fmt.Sprintf(", listed in %s, entry %d", clip(i.List, 120), i.Line)
	m.a.Add(f)
}

// indicators asks indicatorRule.
func (w *work) indicators(ctx context.Context, set *indicator.Set) error {
	if set == nil || set.Len() == 0 {
		return nil
	}
	m := &matcher{w: w, set: set, a: &detect.Answer{Rule: &indicatorRule}, seen: map[string]bool{}}
	for _, step := range []func(context.Context) error{m.files, m.processes, m.sockets, m.logs} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if len(m.seen) >= maxMatches {
		w.gap("more matches of indicators", fmt.Sprintf("only the first %d are told", maxMatches), "the evidence holds more of the listed values")
	}
	for _, s := range set.Skips {
		w.gap(fmt.Sprintf("%d entries of the list %s, the first entry %d", s.Count, clip(s.List, 120), s.Line), s.Reason, "they were not looked for")
	}
	w.answers = append(w.answers, *m.a)
	w.r.Answers = w.answers
	w.collectFindings()
	return nil
}

func (m *matcher) files(ctx context.Context) error {
	others := m.set.Has(indicator.MD5) || m.set.Has(indicator.SHA1)
	for r, err := range inventory.Read(m.w.p) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil || r.Type != record.TypeFile {
			continue // rows that can't be read are a gap of the inventory
		}
		path := string(r.Path)
		i := m.set.Hash(r.SHA256)
		if i == nil && r.Tree != record.TreeImage {
			i = m.set.File(path)
		}
		raw, err := record.Unescape(r.Artifact)
		if i == nil && others && err == nil && raw != "" {
			i = m.digests(raw)
		}
		if i == nil {
			continue
		}
		f := detect.Finding{Path: path, SHA256: r.SHA256, When: cmp.Or(r.Btime, r.Ctime)}
		f.Statement = "the file " + clip(path, 160) + " is listed"
		f.Citations = []verdict.Citation{r.Cite}
		sev := verdict.High
		if r.Layer != record.WritableLayer && r.Mount == "" {
			f.Statement = "the image's file " + clip(path, 160) + " is listed"
		}
		if i.Kind == indicator.Name || i.Kind == indicator.Path {
			sev = verdict.Medium // a name is anybody's
		}
		m.hit(i, "file "+path, sev, f)
	}
	return nil
}

// digests makes the digests of a kept file that the inventory does not hold.
func (m *matcher) digests(artifact string) *indicator.Indicator {
	a, err := m.w.p.Open(artifact)
	if err != nil || a.Size() > maxDigest {
		return nil
	}
	sums := []hash.Hash{md5.New(), sha1.New()} //nolint:gosec // see above
	if _, err := io.Copy(io.MultiWriter(sums[0], sums[1]), io.NewSectionReader(a, 0, a.Size())); err != nil {
		return nil
	}
	for _, s := range sums {
		if i := m.set.Hash(hex.EncodeToString(s.Sum(nil))); i != nil {
			return i
		}
	}
	return nil
}

func (m *matcher) processes(ctx context.Context) error {
	for k := range m.w.f.Processes {
		p := &m.w.f.Processes[k]
		if i := m.set.Hash(p.Exe.SHA256); i != nil {
			f := detect.Finding{PID: p.PID, Path: string(p.Exe.Path), SHA256: p.Exe.SHA256, When: p.StartTime}
			f.Statement, f.Citations = "the program of "+detect.Describe(p)+" is listed", []verdict.Citation{p.Cite}
			m.hit(i, "process "+fmt.Sprint(p.PID), verdict.High, f)
		}
		for _, part := range []struct {
			name string
			sev  verdict.Severity
		}{{"cmdline", verdict.High}, {"environ", verdict.Medium}, {"core", verdict.Low}} {
			if err := m.artifact(ctx, p, p.Dir+"/"+part.name, part.name, part.sev); err != nil {
				return err
			}
		}
	}
	return nil
}

// artifact looks through bytes of a process, piece by piece.
func (m *matcher) artifact(ctx context.Context, p *detect.Process, path, what string, sev verdict.Severity) error {
	e, ok := m.w.p.Artifact(path)
	if !ok || e.SHA256 == "" {
		return nil
	}
	a, err := m.w.p.Open(path)
	if err != nil {
		m.a.Blind = append(m.a.Blind, detect.Blindness{What: path, Why: err.Error()})
		return nil //nolint:nilerr // it is told
	}
	words := map[string]string{"cmdline": "the command line of ", "environ": "the environment of ", "core": "the memory of "}[what]
	buf := make([]byte, min(window, a.Size()))
	for off := int64(0); off < a.Size(); off += window - overlap {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		n, err := a.ReadAt(buf[:min(int64(len(buf)), a.Size()-off)], off)
		if n == 0 && err != nil {
			m.a.Blind = append(m.a.Blind, detect.Blindness{What: path, Why: err.Error()})
			return nil //nolint:nilerr // it is told
		}
		m.set.Text(buf[:n], func(x indicator.Match) bool {
			f := detect.Finding{PID: p.PID, Path: string(p.Exe.Path), SHA256: p.Exe.SHA256}
			f.Statement = words + detect.Describe(p) + " holds a listed value"
			f.Citations = []verdict.Citation{{Artifact: path, Offset: off + int64(x.Offset), Length: int64(x.Length), SHA256: e.SHA256}, p.Cite}
			m.hit(x.Indicator, path, sev, f)
			return true
		})
		if int64(n) >= a.Size()-off {
			break
		}
	}
	return nil
}

func (m *matcher) sockets(context.Context) error {
	for k := range m.w.f.Sockets {
		s := &m.w.f.Sockets[k]
		if !detect.Remote(s) {
			continue
		}
		i := m.set.Address(s.RemoteIP)
		if i == nil {
			continue
		}
		f := detect.Finding{Peer: detect.Peer(s.RemoteIP, s.RemotePort)}
		f.Statement, f.Citations = "a connection with "+f.Peer+" ("+s.State+") is listed", []verdict.Citation{s.Cite}
		if owners := m.w.f.Owners(s); len(owners) > 0 {
			f.PID, f.Statement = owners[0].PID, detect.Describe(owners[0])+" has a connection with "+f.Peer+", which is listed"
			f.Citations = append(f.Citations, owners[0].Cite)
		}
		sev := verdict.High
		if m.w.f.Inbound(s) {
			sev = verdict.Low // a client of the server's
		}
		m.hit(i, "socket "+f.Peer, sev, f)
	}
	return nil
}

func (m *matcher) logs(ctx context.Context) error {
	for l, err := range logLines(ctx, m.w.p, func(parse.Skip) {}) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			continue // told where requests are read
		}
		m.set.Text(l.Text, func(x indicator.Match) bool {
			f := detect.Finding{When: l.Time}
			f.Statement, f.Citations = "a line of the log holds a listed value", []verdict.Citation{l.Cite}
			m.hit(x.Indicator, "log "+strings.SplitN(l.Cite.Artifact, ".", 2)[0], verdict.Low, f)
			return true
		})
	}
	return nil
}
