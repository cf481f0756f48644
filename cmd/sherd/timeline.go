package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sherd-forensics/sherd/cmd/internal/console"
	"github.com/sherd-forensics/sherd/detect/ruleset"
	"github.com/sherd-forensics/sherd/internal/printable"
	"github.com/sherd-forensics/sherd/lake"
	"github.com/sherd-forensics/sherd/lake/query"
)

// timelineFlags say what of the events is shown, and how.
type timelineFlags struct {
	query     string
	format    string
	output    string
	limit     int
	newest    bool
	from      string
	facets    []string
	top       int
	histogram bool
	buckets   int
	count     bool
	pid       int
	coverage  bool
	cite      bool
	wide      bool
	sigma     []string
}

// defaultPage is how many rows a table has unless --limit says otherwise.
const defaultPage = 100

func newTimeline(a *app) *cobra.Command {
	f := &timelineFlags{}
	c := &cobra.Command{
		Use:   "timeline EVIDENCE|FILE|FOLDER... [QUERY]",
		Short: "search the events of packages and loose logs",
		Long: `Timeline shows what happened, from everything that bears a time: files, processes, sockets, the image and the runtime, and every log
in a package or among the files and folders named. The first arguments that exist are the sources, the rest is the query. The
index of events is built at the first question and kept in the cache folder (SHERD_LAKES names another).

Queries: words (anywhere), "quoted phrases", field:value, wildcards, field:/regex/, ranges (size:>1MB, time:[2026-11-01 TO 2026-11-02],
time:last 2h), around:TIME±5m, src_ip:10.0.0.0/8, AND OR NOT and parentheses. docs/query.md has the grammar.`,
		Example: `  sherd timeline case7.sherd
  sherd timeline case7.sherd 'kind:file.created path:/usr/*'
  sherd timeline case7.sherd around:2026-11-24T03:02:11Z±5m --cite
  sherd timeline /var/log 'sshd "Failed password" time:last 2h' --newest
  sherd timeline case7.sherd /var/log/audit error --facets kind,container,src_ip --histogram
  sherd timeline case7.sherd --follow-pid 4711
  sherd timeline case7.sherd --sigma sigma/rules/linux/auditd 'time:last 7d'
  sherd timeline case7.sherd 'NOT kind:log.line' --format jsonl -o events.jsonl`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("a package, file or folder is missing: %s", strings.TrimSpace(cmd.UseLine()))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.timeline(cmd.Context(), args, f, cmd.ArgsLenAtDash())
		},
	}
	fl := c.Flags()
	fl.StringVar(&f.query, "query", "", "the query, instead of the last arguments")
	fl.StringVar(&f.format, "format", "table", "table, jsonl, csv or parquet")
	fl.StringVarP(&f.output, "output", "o", "", "write to `FILE` instead of standard output")
	fl.IntVarP(&f.limit, "limit", "n", 0, "show at most `N` events (default 100 in a table, all otherwise)")
	fl.BoolVar(&f.newest, "newest", false, "the newest first")
	fl.StringVar(&f.from, "from", "", "go on behind this `PLACE`, which the last page named")
	fl.StringSliceVar(&f.facets, "facets", nil, "count the values of these `FIELDS`, instead of showing events")
	fl.IntVar(&f.top, "top", 10, "how many values of a field --facets shows")
	fl.BoolVar(&f.histogram, "histogram", false, "count events by time, instead of showing them")
	fl.IntVar(&f.buckets, "buckets", 24, "how many parts the time of --histogram has")
	fl.BoolVar(&f.count, "count", false, "only say how many events match")
	fl.IntVar(&f.pid, "follow-pid", 0, "only events of process `PID`, its ancestors and its descendants")
	fl.BoolVar(&f.coverage, "coverage", false, "say what was read, by which parser, and what was skipped and why")
	fl.BoolVar(&f.cite, "cite", false, "show for each event which bytes prove it")
	fl.StringArrayVar(&f.sigma, "sigma", nil, "only events that match a Sigma rule of `FILE|DIR` (repeatable)")
	fl.BoolVar(&f.wide, "wide", false, "don't cut messages at the terminal's width")
	a.identityFlag(c)
	a.revealFlag(c)
	return c
}

// split tells sources from the query: sources are what exists.
func (f *timelineFlags) split(args []string, dash int) (sources []string, text string, err error) {
	n := 0
	for n < len(args) && (dash < 0 || n < dash) {
		if _, err := os.Stat(args[n]); err != nil {
			break
		}
		n++
	}
	if n == 0 || dash > 0 && n < dash {
		_, err := os.Stat(args[n])
		return nil, "", fmt.Errorf("reading %s: %w", printable.Text(args[n]), err)
	}
	rest := strings.Join(args[n:], " ")
	switch {
	case f.query != "" && rest != "":
		return nil, "", usagef("%q exists neither as a file nor as a folder, and the query is in --query already", printable.Text(args[n]))
	case f.query != "":
		rest = f.query
	}
	return args[:n], rest, nil
}

func (a *app) timeline(ctx context.Context, args []string, f *timelineFlags, dash int) error {
	if !slices.Contains([]string{"table", "jsonl", "csv", "parquet"}, f.format) {
		return usagef("--format %s: known are table, jsonl, csv and parquet; `sherd export` has those of other tools", f.format)
	}
	if f.limit < 0 || f.top < 1 || f.buckets < 1 || f.buckets > 10_000 || f.top > 100_000 {
		return usagef("--limit, --top and --buckets are numbers from 1 on; --buckets ends at 10,000 and --top at 100,000")
	}
	sources, text, err := f.split(args, dash)
	if err != nil {
		return err
	}
	q, err := a.query(text)
	if err != nil {
		return err
	}
	if len(f.sigma) > 0 {
		if q, err = a.withSigma(q, f.sigma); err != nil {
			return err
		}
	}
	place, err := parsePlace(f.from)
	if err != nil {
		return err
	}
	zone, err := a.zone()
	if err != nil {
		return err
	}
	return a.withTimeline(ctx, sources, func(t *timeline) error {
		v := &view{app: a, flags: f, t: t, text: text, query: q, from: place, zone: zone}
		if f.pid != 0 {
			if err := v.follow(ctx); err != nil {
				return err
			}
		}
		return v.show(ctx)
	})
}

// withSigma narrows a query to events that match rules.
func (a *app) withSigma(q *query.Query, paths []string) (*query.Query, error) {
	set := ruleset.Empty()
	if err := set.Load(paths...); err != nil {
		return nil, err
	}
	if n := len(set.Refused); n > 0 {
		a.note("%s can't be loaded: `sherd rules check` says why", console.Plural(n, "rule"))
	}
	rules, correlations := set.Sigma.Query()
	if len(correlations) > 0 {
		for i := range correlations {
			correlations[i] = strconv.Quote(correlations[i])
		}
		a.note("the timeline shows what correlations rest on, `sherd investigate --rules` asks them: correlations %s", printable.Clip(strings.Join(correlations, ", "), 300))
	}
	if rules == nil {
		return nil, fmt.Errorf("--sigma: there is no Sigma rule that looks at single events in %s", printable.Text(strings.Join(paths, ", ")))
	}
	if q != nil && q.Root != nil {
		rules.Root = &query.And{Nodes: []query.Node{rules.Root, q.Root}}
	}
	return rules, nil
}

// query reads a query, and points at what is wrong in it.
func (a *app) query(text string) (*query.Query, error) {
	zone, err := a.zone()
	if err != nil {
		return nil, err
	}
	q, err := query.Parse(text, query.Options{Now: time.Now(), Zone: zone})
	var bad *query.Error
	if errors.As(err, &bad) {
		return nil, &usageError{fmt.Errorf("the query is not understood: %w\n    %s\n    %s^", err, printable.Text(text), strings.Repeat(" ", shownBefore(text, bad.Column)))}
	}
	return q, err
}

// shownBefore is how many columns of a terminal the runes before column (from 1) take as they are printed.
func shownBefore(text string, column int) int {
	runes := []rune(text)
	return len([]rune(printable.Text(string(runes[:min(max(column-1, 0), len(runes))]))))
}

// parsePlace reads what the end of a page names: TIME,ROW.
func parsePlace(s string) (*lake.Position, error) {
	if s == "" {
		return nil, nil
	}
	at, row, ok := strings.Cut(s, ",")
	t, err1 := strconv.ParseInt(at, 10, 64)
	r, err2 := strconv.ParseInt(row, 10, 64)
	if !ok || err1 != nil || err2 != nil {
		return nil, usagef("--from %s: it takes what the last page named, two numbers with a comma", printable.Text(s))
	}
	return &lake.Position{Time: t, Row: r}, nil
}

// maxFollowed bounds the processes of one family.
const maxFollowed = 2000

// follow narrows the query to a process, its ancestors and its descendants, as the events tell them. A number may be the host's or the
// container's.
func (v *view) follow(ctx context.Context) error {
	type process struct {
		pid, ppid int
	}
	parents, children := map[int][]int{}, map[int][]int{}
	starts, err := v.query2("pid:>0")
	if err != nil {
		return err
	}
	seen := map[process]bool{}
	var wanted []int
	err = v.t.Scan(ctx, starts, func(r *lake.Row) error {
		p := process{r.PID, r.PPID}
		if !seen[p] && len(seen) < 1_000_000 {
			seen[p] = true
			parents[p.pid] = append(parents[p.pid], p.ppid)
			children[p.ppid] = append(children[p.ppid], p.pid)
		}
		if (r.PID == v.flags.pid || containerPID(r.Attributes) == v.flags.pid) && !slices.Contains(wanted, r.PID) {
			wanted = append(wanted, r.PID)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(wanted) == 0 {
		return fmt.Errorf("no event has a process %d; `sherd timeline … --facets pid` lists those that are there", v.flags.pid)
	}
	family := map[int]bool{}
	var up, down func(int)
	up = func(pid int) {
		for _, p := range parents[pid] {
			if p > 0 && !family[p] && len(family) < maxFollowed {
				family[p] = true
				up(p)
			}
		}
	}
	down = func(pid int) {
		for _, p := range children[pid] {
			if !family[p] && len(family) < maxFollowed {
				family[p] = true
				down(p)
			}
		}
	}
	for _, pid := range wanted {
		family[pid] = true
		up(pid)
		down(pid)
	}
	var b strings.Builder
	for _, pid := range sorted(family) {
		if b.Len() > 0 {
			b.WriteString(" OR ")
		}
		fmt.Fprintf(&b, "pid:%d", pid)
	}
	text := b.String()
	if v.text != "" {
		text = "(" + text + ") AND (" + v.text + ")"
	}
	v.query, err = v.query2(text)
	return err
}

func (v *view) query2(text string) (*query.Query, error) { return v.app.query(text) }

func sorted(set map[int]bool) []int {
	var out []int
	for n := range set {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}
