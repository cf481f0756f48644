package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sherd-forensics/sherd/cmd/internal/console"
	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/detect/core"
	"github.com/sherd-forensics/sherd/detect/mention"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/printable"
	"github.com/sherd-forensics/sherd/internal/redact"
)

type stringFlags struct {
	pids         []int
	kinds        []string
	asJSON       bool
	reveal       bool
	limit        int
	withPrograms bool
}

func newStrings(a *app) *cobra.Command {
	f := &stringFlags{}
	c := &cobra.Command{
		Use:   "strings EVIDENCE",
		Short: "list URLs, addresses, keys, tokens and wallets in the memory of processes",
		Long: `Strings looks through the memory of the processes in a package and lists what it names: URLs, addresses (IPv4 and IPv6), private
keys, tokens and wallets, each once for each process, with how often it stands there and the first place: mapping, address, and the offset in the artifact, which
"sherd show" takes. Checksums are verified where there are any. Memory holds what anybody sent, so that a value there proves no more than that it was there.

Keys and tokens are described, not printed: kind, first letters, length, and the start of their SHA-256. --reveal prints them.`,
		Example: `  sherd strings case7.sherd
  sherd strings case7.sherd --pid 13 --kind url,address
  sherd strings case7.sherd --kind token --json | jq .subject`,
		Args: exactly(1, "the package"),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, k := range f.kinds {
				if !slices.Contains(mention.Kinds(), mention.Kind(k)) {
					return usagef("--kind %s: the kinds are %s", printable.Text(k), joinKinds())
				}
			}
			if f.limit < 1 {
				return usagef("--limit must be at least 1")
			}
			p, err := a.open(args[0])
			if err != nil {
				return err
			}
			defer p.Close()
			return a.strings(cmd.Context(), p, f)
		},
	}
	c.Flags().IntSliceVar(&f.pids, "pid", nil, "only the process of this `NUMBER`, the container's or the host's (repeatable)")
	c.Flags().StringSliceVar(&f.kinds, "kind", nil, "only these `KINDS`: "+joinKinds())
	c.Flags().BoolVar(&f.asJSON, "json", false, "one JSON object a line")
	c.Flags().BoolVar(&f.reveal, "reveal", false, "print keys, tokens and passwords as they are")
	c.Flags().IntVar(&f.limit, "limit", 10_000, "list at most `N` different values of each process")
	c.Flags().BoolVar(&f.withPrograms, "programs", false, "look through the programs that were kept, too")
	a.identityFlag(c)
	return c
}

func joinKinds() string {
	var out []string
	for _, k := range mention.Kinds() {
		out = append(out, string(k))
	}
	return strings.Join(out, ",")
}

// stringRow is one value of one process.
type stringRow struct {
	PID      int    `json:"pid"` // as the container sees it, or the host where it does not say
	HostPID  int    `json:"host_pid"`
	Process  string `json:"process"`
	Kind     string `json:"kind"`
	Value    string `json:"value"`
	Form     string `json:"form,omitempty"`
	Host     string `json:"host,omitempty"`
	Port     int    `json:"port,omitempty"`
	Subject  string `json:"subject,omitempty"`
	Count    int    `json:"count"`
	Checked  bool   `json:"checked"` // it has a form that chance hardly makes
	Wide     bool   `json:"wide,omitempty"`
	Mapping  string `json:"mapping"`
	Address  string `json:"address"`
	Artifact string `json:"artifact"`
	Offset   int64  `json:"offset"`
	Length   int    `json:"length"`
	Redacted bool   `json:"redacted,omitempty"`
}

// memories calls use for each process of a package whose number is among pids, all of them if there are none. It says what could not
// be looked at, and fails if there was nothing to look at.
func (a *app) memories(ctx context.Context, p *evidence.Package, pids []int, use func(*detect.Process, *core.Image, *memoryProgress) error) error {
	facts, err := detect.Load(ctx, p)
	if err != nil {
		return err
	}
	bar := &memoryProgress{begin: time.Now()}
	line := a.progress(bar.String)
	defer line.Done()
	asked, read := 0, 0
	for i := range facts.Processes {
		proc := &facts.Processes[i]
		if len(pids) > 0 && !slices.Contains(pids, proc.PID) && !slices.Contains(pids, proc.ContainerPID) {
			continue
		}
		asked++
		maps := make([]record.Mapping, len(proc.Maps))
		for k := range proc.Maps {
			maps[k] = proc.Maps[k].Mapping
		}
		m, err := core.Open(p, proc.Dir, maps)
		if err != nil {
			a.note("%s: %s", detect.Describe(proc), printable.Text(err.Error()))
			continue
		}
		read++
		bar.total.Add(m.Bytes)
		line.Stage("memory of " + detect.Describe(proc))
		if err := use(proc, m, bar); err != nil {
			if ctx.Err() != nil {
				return err
			}
			a.note("%s: %s; what was read before is given", detect.Describe(proc), printable.Text(err.Error()))
		}
		bar.settle()
	}
	switch {
	case asked == 0 && len(pids) > 0:
		return fmt.Errorf("the package holds no process %s", strings.Trim(fmt.Sprint(pids), "[]"))
	case read == 0:
		return errors.New("the package holds no memory of processes; `sherd investigate` says under “Not seen” why")
	}
	return nil
}

func insidePID(p *detect.Process) int {
	if p.ContainerPID != 0 {
		return p.ContainerPID
	}
	return p.PID
}

func (a *app) strings(ctx context.Context, p *evidence.Package, f *stringFlags) error {
	var rows []stringRow
	cut := 0
	err := a.memories(ctx, p, f.pids, func(proc *detect.Process, m *core.Image, bar *memoryProgress) error {
		at := map[string]int{}
		scan := func(m *core.Image) error {
			return mention.Scan(ctx, m, func(x mention.Placed) bool {
				if len(f.kinds) > 0 && !slices.Contains(f.kinds, string(x.Kind)) {
					return true
				}
				id := x.ID()
				if i, ok := at[id]; ok {
					rows[i].Count++
					return true
				}
				if len(at) >= f.limit {
					cut++
					return true
				}
				at[id] = len(rows)
				rows = append(rows, rowOf(proc, m, &x, f.reveal))
				return true
			}, bar.done)
		}
		if err := scan(m); err != nil || !f.withPrograms || proc.Exe.Artifact == "" {
			return err
		}
		art, err := p.Open(proc.Exe.Artifact)
		if err != nil {
			return err
		}
		return scan(core.File(proc.Exe.Artifact, art, art.Size()))
	})
	if err != nil {
		return err
	}
	if cut > 0 {
		a.note("%d more are not listed: --limit raises how many are, --pid and --kind narrow it", cut)
	}
	if f.asJSON {
		e := json.NewEncoder(a.out)
		e.SetEscapeHTML(false)
		for i := range rows {
			if err := e.Encode(&rows[i]); err != nil {
				return err
			}
		}
		return nil
	}
	if len(rows) == 0 {
		a.note("nothing of these kinds stands in the memory that was kept")
		return nil
	}
	out := make([][]string, len(rows))
	for i := range rows {
		r := &rows[i]
		kind := r.Kind
		if r.Kind == string(mention.Wallet) {
			kind += " " + r.Form
		}
		if !r.Checked {
			kind += "?"
		}
		out[i] = []string{fmt.Sprint(r.PID), kind, fmt.Sprint(r.Count), r.Mapping, r.Address, fmt.Sprintf("%s +%d", r.Artifact, r.Offset), r.Value}
	}
	width := console.Width(a.out)
	if !console.IsTerminal(a.out) {
		width = 4000
	}
	console.Table(a.out, width, []string{"PID", "KIND", "TIMES", "MAPPING", "ADDRESS", "ARTIFACT", "VALUE"}, out)
	return nil
}

func rowOf(proc *detect.Process, m *core.Image, x *mention.Placed, reveal bool) stringRow {
	r := stringRow{
		PID: insidePID(proc), HostPID: proc.PID, Process: printable.Text(string(proc.Comm)), Kind: string(x.Kind), Value: printable.Clip(x.Value, 400), Form: x.Form,
		Host: printable.Text(x.Host), Port: x.Port, Subject: printable.Text(x.Subject), Count: 1, Checked: x.Sure, Wide: x.Wide,
		Address: fmt.Sprintf("%#x", x.Addr), Artifact: record.Escape(m.Artifact), Offset: x.At, Length: x.Length,
	}
	switch {
	case x.Mapping < 0:
		r.Mapping, r.Address = "(program)", ""
	default:
		r.Mapping = printable.Clip(string(m.Maps[x.Mapping].Path), 80)
		if r.Mapping == "" {
			r.Mapping = "(anonymous)"
		}
	}
	hidden := x.Secret() || redact.Text(x.Raw) != x.Raw
	if hidden && reveal {
		r.Value = printable.Text(x.Raw)
	}
	r.Redacted = hidden && !reveal
	return r
}
