package investigate

import (
	"context"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/timestamp"
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/applog"
	"github.com/sherd-forensics/sherd/verdict"
)

// request is a request of a client as the application logged it. Time is when the runtime received the line, which the
// container can't forge; what the line says is the application's word, and whoever controls the application can write any.
type request struct {
	Time   int64
	Method string
	Path   string // as logged, raw
	Client string // address without port, "" if the line has none
	Status int
	// Claimed is true when the runtime stamped no time on the line, and Time is what the application wrote itself.
	Claimed bool
	Cite    verdict.Citation
	Port    int    // of the client, 0 if the line has none
	stated  int64  // the time that the line itself says, 0 if it says none
	form    string // how the line is written: see formOf
}

func (r *request) words() string {
	s := r.Method + " " + clip(r.Path, 120)
	if r.Client != "" {
		s += " from " + r.Client
	}
	return s
}

// The window around an event in which a logged request can have to do with it: requests are mostly logged when they
// are done, so just after what they did, but a job may start later.
const (
	windowBefore = int64(10 * time.Second)
	windowAfter  = int64(5 * time.Second)
	// near is the window in which a single request is taken for the cause even if it does not name the file.
	near = int64(2 * time.Second)
	// perAnchor bounds the requests kept around one event.
	perAnchor   = 64
	maxRequests = 20_000
)

type logSummary struct {
	lines  int
	any    bool // there are logs at all
	broken int
	skips  []parse.Skip // what could not be read as lines
	// routes counts the requests of the whole log by method and path, without the query.
	routes map[string]int
	// firsts are the first requests of the first routes.
	firsts []request
	// usual is what the log's requests have in common; began and last are the times of its first and last request.
	usual       census
	began, last int64
}

const (
	// maxRoutes bounds the routes that are counted: an attacker can log any number of different ones.
	maxRoutes = 100_000
	// rare is how often a route may have been served for a request on it to stand out.
	rare = 5
)

func (r *request) route() string {
	p, _, _ := strings.Cut(r.Path, "?")
	return r.Method + " " + p
}

// rareOnes keeps the requests on routes that were hardly ever served: one on a route that was served hundreds of times
// without harm does not stand out. When none is rare, all stay.
func (w *work) rareOnes(all []*request) []*request {
	var out []*request
	for _, r := range all {
		if w.logs.routes[r.route()] <= rare {
			out = append(out, r)
		}
	}
	if len(out) == 0 {
		return all
	}
	return out
}

// leads are findings worth a look into the logs: those that weigh, and settings and programs that changed when or where entry points and
// updates change them too, which a request may have asked for.
func leads(f *detect.Finding) bool {
	return weighs(f) || (f.Rule == "file-configuration-changed" || f.Rule == "file-program-replaced") && f.When != 0
}

// anchors are the times around which requests matter.
func (w *work) anchors() []int64 {
	var out []int64
	add := func(t int64) {
		if t != 0 {
			out = append(out, t)
		}
	}
	for i := range w.findings {
		if f := &w.findings[i]; leads(f) {
			add(f.When)
		}
	}
	for _, p := range w.foreign() {
		add(p.StartTime)
		add(p.Exe.Btime)
	}
	slices.Sort(out)
	out = slices.Compact(out)
	return out[:min(len(out), 1000)]
}

func (w *work) readLogs(ctx context.Context) error {
	anchors := w.anchors()
	w.logs.routes, w.logs.usual = map[string]int{}, newCensus()
	lead := slices.ContainsFunc(w.findings, func(f detect.Finding) bool { return leads(&f) })
	kept := make([]int, len(anchors))
	lines := newRequestReader(w.p.Manifest().Sealed)
	for l, err := range logLines(ctx, w.p, func(s parse.Skip) { w.logs.skips = append(w.logs.skips, s) }) {
		if w.logs.lines&0xfff == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err() // it is no fault of the log
			}
			w.logs.broken++
			continue
		}
		w.logs.any = true
		w.logs.lines++
		if !lead {
			continue
		}
		r, claimed, ok := lines.read(l.Text)
		if !ok {
			continue
		}
		r.Time, r.Cite, r.stated = l.Time, l.Cite, claimed
		if r.Time == 0 {
			if r.Time, r.Claimed = claimed, true; r.Time == 0 {
				continue
			}
		}
		r.form = formOf(l.Text)
		w.logs.usual.add(&r)
		if w.logs.began == 0 || r.Time < w.logs.began {
			w.logs.began = r.Time
		}
		w.logs.last = max(w.logs.last, r.Time)
		seen, known := w.logs.routes[r.route()]
		if known || len(w.logs.routes) < maxRoutes {
			w.logs.routes[r.route()] = seen + 1
		}
		if !known && len(w.logs.firsts) < 1000 {
			w.logs.firsts = append(w.logs.firsts, r)
		}
		i, _ := slices.BinarySearch(anchors, r.Time-windowAfter)
		if i == len(anchors) || anchors[i] > r.Time+windowBefore || kept[i] >= perAnchor && w.logs.routes[r.route()] > rare {
			continue
		}
		if len(w.requests) < maxRequests {
			w.requests = append(w.requests, r)
			kept[i]++
		}
	}
	slices.SortStableFunc(w.requests, func(a, b request) int {
		switch {
		case a.Time < b.Time:
			return -1
		case a.Time > b.Time:
			return 1
		}
		return strings.Compare(a.Path, b.Path)
	})
	return nil
}

// requestReader finds requests in lines, in whichever form the application logs them.
type requestReader struct {
	reader *applog.Reader
	rec    applog.Record
}

// newRequestReader takes times without a zone as UTC, which containers keep.
func newRequestReader(sealed int64) *requestReader {
	return &requestReader{reader: applog.NewReader(&timestamp.Resolver{Latest: time.Unix(0, sealed)})}
}

// read gives the request that a line logs, and the time that the line itself says, in nanoseconds UTC; 0 if it says none.
func (q *requestReader) read(line []byte) (r request, claimed int64, ok bool) {
	q.reader.Read(line, &q.rec, nil)
	claimed = q.rec.Time
	if !q.rec.IsRequest {
		return request{}, claimed, false
	}
	l := &q.rec.Request
	return request{Method: l.Method, Path: l.Path, Client: l.RemoteIP, Port: l.RemotePort, Status: l.Status}, claimed, true
}

var probe = regexp.MustCompile(`(?i)^/+(-/)?(health|healthz|healthcheck|livez?|liveness|readyz?|readiness|metrics|ping|status|favicon[.]ico|startupz?)(/|[?]|$)`)

// names reports whether a request, decoded as often as a careless application might, names a file.
func (r *request) names(file string) bool {
	base := path.Base(file)
	if len(base) < 2 || base == "/" || base == "." {
		return false
	}
	s := r.Path
	for range 3 {
		if namesBase(s, base) {
			return true
		}
		d, err := url.QueryUnescape(s)
		if err != nil || d == s {
			return false
		}
		s = d
	}
	return false
}

// namesBase looks for base as a whole word in s, so that "/images" does not name a file "image".
func namesBase(s, base string) bool {
	for off := 0; ; {
		i := strings.Index(s[off:], base)
		if i < 0 {
			return false
		}
		i += off
		end := i + len(base)
		if (i == 0 || !wordByte(s[i-1])) && (end == len(s) || !wordByte(s[end])) {
			return true
		}
		off = i + 1
	}
}

func wordByte(c byte) bool {
	return c == '_' || c == '-' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// traversal reports whether a request climbs out of a folder.
func (r *request) traversal() bool {
	s := r.Path
	for range 3 {
		if strings.Contains(s, "../") || strings.Contains(s, `..\`) {
			return true
		}
		d, err := url.QueryUnescape(s)
		if err != nil || d == s {
			return false
		}
		s = d
	}
	return false
}

// around are the requests near t that are no probes: [t-before, t+after], nearest first. The runtime's stamp of a request
// that was logged when it was done lies a little after what the request did.
func (w *work) around(t, before, after int64) []*request {
	var out []*request
	for i := range w.requests {
		r := &w.requests[i]
		if r.Time < t-before || r.Time > t+after || probe.MatchString(r.Path) {
			continue
		}
		out = append(out, r)
	}
	slices.SortStableFunc(out, func(a, b *request) int {
		switch x, y := abs(a.Time-t), abs(b.Time-t); {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	return out
}

func abs(n int64) int64 {
	if n < 0 {
		return -n
	}
	return n
}

func asTime(ns int64) time.Time { return time.Unix(0, ns).UTC() }

// escaped is a raw name as a machine can match it.
func escaped(s string) string { return record.Escape(s) }
