package detect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/parse/inventory"
	"github.com/sherd-forensics/sherd/verdict"
)

// Bounds on what evidence can make Load hold in memory.
const (
	maxProcesses = 100_000
	maxSockets   = 500_000
	maxMappings  = 65_536 // of one process; the kernel's own default limit is 65,530
	maxEnviron   = 4 << 20
	maxDocument  = 16 << 20
	maxChanges   = 50_000
	maxMounted   = 20_000
	maxImage     = 500_000
	maxLogs      = 5_000
)

// Load reads what the rules need from a package. Its error means that ctx ended; what the package lacks or garbles is in
// Facts.Missing.
func Load(ctx context.Context, p *evidence.Package) (*Facts, error) {
	f := &Facts{Missing: map[Fact]string{}, Coverage: p.Coverage()}
	f.Read = func(artifact string, off int64, n int) []byte { return readAt(p, artifact, off, n) }
	f.Cite = func(artifact string, off, n int64) (verdict.Citation, bool) { return citeArtifact(p, artifact, off, n) }
	if m := p.Manifest(); m != nil {
		if b, err := json.Marshal(m.Target); err == nil {
			_ = json.Unmarshal(b, &f.Container) // an unreadable description leaves its fields empty
		}
	}
	if b, err := p.ReadFile("host/host.json", maxDocument); err == nil {
		_ = json.Unmarshal(b, &f.Host) // likewise
	} else {
		f.Missing[Node] = f.absent("context")
	}
	f.loadProcesses(p)
	for i := range f.Processes {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		f.loadEnviron(p, &f.Processes[i])
		f.loadMaps(p, &f.Processes[i])
	}
	f.summariseProcesses()
	f.loadSharers(p)
	f.loadSockets(p)
	f.loadMounts(p)
	f.loadConfig(p)
	f.loadResolvers(p)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f.loadCluster(ctx, p)
	f.Index()
	f.loadFiles(ctx, p)
	return f, ctx.Err()
}

func readAt(p *evidence.Package, artifact string, off int64, n int) []byte {
	a, err := p.Open(artifact)
	if err != nil || off < 0 || off > a.Size() {
		return nil
	}
	b := make([]byte, min(int64(n), a.Size()-off))
	k, err := a.ReadAt(b, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil
	}
	return b[:k]
}

func citeArtifact(p *evidence.Package, artifact string, off, n int64) (verdict.Citation, bool) {
	e, ok := p.Artifact(artifact)
	if !ok || e.SHA256 == "" {
		return verdict.Citation{}, false
	}
	return verdict.Citation{Artifact: artifact, Offset: off, Length: n, SHA256: e.SHA256}, true
}

// absent gives the reason why an artifact of a kind is not there, in the coverage's own words if it has any.
func (f *Facts) absent(kind string) string {
	for _, m := range f.Coverage.Missed {
		if m.Kind == kind && !m.Partial {
			return m.Reason
		}
	}
	switch s := f.Coverage.Collected[kind]; s {
	case "", "none":
		return "it was not collected"
	default:
		return "the package does not hold it, although its collection is recorded as " + s
	}
}

// rows reads a JSONL artifact, row by row with citations. A line that is no such row is counted, not fatal.
func rows[T any](p *evidence.Package, path string, bad *int) iter.Seq2[T, verdict.Citation] {
	return func(yield func(T, verdict.Citation) bool) {
		if _, ok := p.Artifact(path); !ok {
			return
		}
		for l, err := range p.Lines(path) {
			if err != nil {
				*bad++
				return
			}
			var v T
			if err := json.Unmarshal(l.Data, &v); err != nil {
				*bad++
				continue
			}
			if !yield(v, verdict.Citation{Artifact: l.Artifact, Offset: l.Offset, Length: l.Length, SHA256: l.SHA256}) {
				return
			}
		}
	}
}

func (f *Facts) loadProcesses(p *evidence.Package) {
	const path = "process/processes.jsonl"
	if _, ok := p.Artifact(path); !ok {
		f.Missing[Processes] = f.absent("process")
		return
	}
	bad := 0
	for r, c := range rows[record.Process](p, path, &bad) {
		if len(f.Processes) >= maxProcesses {
			bad++
			break
		}
		if r.Dir == "" {
			r.Dir = "process/" + strconv.Itoa(r.PID)
		}
		f.Processes = append(f.Processes, Process{Process: r, Cite: c})
	}
	slices.SortStableFunc(f.Processes, func(a, b Process) int { return a.PID - b.PID })
	switch {
	case len(f.Processes) == 0 && bad == 0:
		f.Missing[Processes] = "no process was running"
	case bad > 0:
		f.Missing[Processes] = fmt.Sprintf("%d lines of the list could not be read", bad)
	}
}

func (f *Facts) loadEnviron(p *evidence.Package, proc *Process) {
	path := proc.Dir + "/environ"
	e, ok := p.Artifact(path)
	if !ok {
		return
	}
	b, err := p.ReadFile(path, maxEnviron)
	if err != nil {
		return
	}
	proc.HasEnv = len(e.Errors) == 0
	if len(b) > 0 {
		proc.EnvHash = e.SHA256
		proc.EnvForms = encodedForms(b)
	}
	for off := 0; off < len(b); {
		n := slices.Index(b[off:], 0)
		if n < 0 {
			n = len(b) - off
		}
		if name, value, ok := strings.Cut(string(b[off:off+n]), "="); ok {
			c := verdict.Citation{Artifact: path, Offset: int64(off), Length: int64(n), SHA256: e.SHA256}
			nc := c
			nc.Length = int64(len(name))
			proc.Env = append(proc.Env, Variable{name, value, c, nc})
		}
		off += n + 1
	}
}

func (f *Facts) loadMaps(p *evidence.Package, proc *Process) {
	path := proc.Dir + "/memory.jsonl"
	if _, ok := p.Artifact(path); !ok {
		return
	}
	bad := 0
	for r, c := range rows[record.Mapping](p, path, &bad) {
		if len(proc.Maps) >= maxMappings {
			bad++
			break
		}
		proc.Maps = append(proc.Maps, Mapping{r, c})
	}
	proc.HasMaps = bad == 0
}

// summariseProcesses decides whether environments and memory were collected at all; single processes without them are each
// rule's business.
func (f *Facts) summariseProcesses() {
	if why, missing := f.Missing[Processes]; missing {
		f.Missing[Environments], f.Missing[Memory] = why, why
		return
	}
	any := func(has func(*Process) bool) bool {
		return slices.ContainsFunc(f.Processes, func(p Process) bool { return has(&p) })
	}
	if !any(func(p *Process) bool { return p.HasEnv }) {
		f.Missing[Environments] = f.absent("process")
	}
	if !any(func(p *Process) bool { return p.HasMaps }) {
		f.Missing[Memory] = f.absent("memory")
	}
}

func (f *Facts) loadSockets(p *evidence.Package) {
	const path = "network/sockets.jsonl"
	if _, ok := p.Artifact(path); !ok {
		f.Missing[Sockets] = f.absent("network")
		return
	}
	bad := 0
	for r, c := range rows[record.Socket](p, path, &bad) {
		if len(f.Sockets) >= maxSockets {
			bad++
			break
		}
		r.State = strings.ToLower(r.State)
		f.Sockets = append(f.Sockets, Socket{r, c})
	}
	if bad > 0 {
		f.Missing[Sockets] = fmt.Sprintf("%d lines of the list could not be read", bad)
	}
}

func (f *Facts) loadMounts(p *evidence.Package) {
	if _, ok := p.Artifact(inventory.MountsPath); !ok {
		f.Missing[Mounts] = f.absent("volumes")
		return
	}
	for m, err := range inventory.Mounts(p) {
		if err != nil {
			f.Missing[Mounts] = "the list could not be read: " + err.Error()
			continue
		}
		f.Mounts = append(f.Mounts, m.Mounted)
	}
}

// document is what image configurations, OCI runtime configurations and the runtimes' own inspections have in common.
// encoding/json does not tell Config from config.
type document struct {
	Config struct {
		Env             []string
		ExposedPorts    map[string]json.RawMessage
		Cmd, Entrypoint words
		Labels          map[string]string
	}
	// State is the runtime's: when the container was last started, and when it last ended before.
	State   json.RawMessage
	Created string
	Process struct {
		Env, Args words
	}
	Args words
}

// words is a list of strings, or one string, as some runtimes write a command.
type words []string

// UnmarshalJSON takes either form; anything else is no command and left out.
func (w *words) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*w = words{one}
		return nil
	}
	var many []string
	if json.Unmarshal(b, &many) == nil {
		*w = many
	}
	return nil
}

func (f *Facts) loadConfig(p *evidence.Package) {
	f.Config = Settings{Env: map[string]string{}, Exposed: map[int]bool{}, Labels: map[string]string{}}
	found := false
	for _, e := range p.Artifacts("target/") {
		if !strings.HasSuffix(e.Path, ".json") || e.Size > maxDocument {
			continue
		}
		b, err := p.ReadFile(e.Path, maxDocument)
		if err != nil {
			continue
		}
		var docs []document
		if json.Unmarshal(b, &docs) != nil {
			var d document
			if json.Unmarshal(b, &d) != nil {
				continue
			}
			docs = []document{d}
		}
		for _, d := range docs {
			f.begunAgain(&d)
			for k, v := range d.Config.Labels {
				f.Config.Labels[k] = v
			}
			f.Config.Args = slices.Concat(f.Config.Args, d.Config.Entrypoint, d.Config.Cmd, d.Process.Args, d.Args)
			for _, kv := range append(d.Config.Env, d.Process.Env...) {
				found = true
				if k, v, ok := strings.Cut(kv, "="); ok {
					f.Config.Env[k] = v
				}
			}
			for port := range d.Config.ExposedPorts {
				found = true
				number, _, _ := strings.Cut(port, "/")
				if n, err := strconv.Atoi(number); err == nil {
					f.Config.Exposed[n] = true
				}
			}
		}
	}
	if !found {
		f.Missing[Config] = f.absent("target")
	}
}

// loadResolvers reads resolv.conf, which the runtime mounts, or an intruder or the image wrote. See resolv.conf(5).
func (f *Facts) loadResolvers(p *evidence.Package) {
	for _, path := range []string{"volumes/etc/resolv.conf", "filesystem/upper/etc/resolv.conf"} {
		b, err := p.ReadFile(path, 1<<20)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			if w := strings.Fields(line); len(w) > 1 && w[0] == "nameserver" && len(f.Resolvers) < 3 {
				f.Resolvers = append(f.Resolvers, w[1])
			}
		}
		if len(f.Resolvers) > 0 {
			return
		}
	}
}

func (f *Facts) loadFiles(ctx context.Context, p *evidence.Package) {
	f.Files = Files{Image: map[string]string{}, ByPath: map[string]File{}, Classes: map[string][]string{}}
	if _, ok := p.Artifact(inventory.Path); !ok {
		f.Missing[Inventory], f.Missing[Baseline] = f.absent("filesystem"), f.absent("filesystem")
		return
	}
	f.Files.Staged = map[string]Staged{}
	environ := f.environments()
	wanted := map[string]bool{}
	for i := range f.Processes {
		wanted[string(f.Processes[i].Exe.Path)] = true
		for j := range f.Processes[i].Maps {
			wanted[string(f.Processes[i].Maps[j].Path)] = true
		}
		for _, d := range f.Processes[i].FDs {
			if d.Kind == "file" {
				wanted[string(d.Target)] = true
			}
		}
	}
	baseline, bad := false, 0
	var locked tally
	for r, err := range inventory.Read(p) {
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			bad++
			continue
		}
		baseline = baseline || r.Tree == record.TreeBoth || r.Tree == record.TreeImage
		f.addFile(r, wanted)
		locked.add(f, &r)
		if s, same := environ[r.SHA256]; same && r.Tree == record.TreeRoot && r.Type == record.TypeFile && r.SHA256 != "" && len(f.Files.Staged) < maxMounted {
			s.File = r
			f.Files.Staged[string(r.Path)] = s
		}
	}
	locked.finish(ctx, f, p)
	for c, err := range inventory.Drift(p) {
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			continue // counted above
		}
		if c.Kind == inventory.Touched {
			continue
		}
		if len(f.Files.Changes) >= maxChanges && !interesting(&c) {
			f.Files.Dropped++
			continue
		}
		f.Files.Changes = append(f.Files.Changes, c)
	}
	if bad > 0 {
		f.Missing[Inventory] = fmt.Sprintf("%d lines of it could not be read", bad)
	}
	if !baseline {
		f.Missing[Baseline] = "the image's own files were not collected"
	}
	slices.SortStableFunc(f.Files.Changes, func(a, b inventory.Change) int { return strings.Compare(a.Path, b.Path) })
}

// interesting are changes that are never dropped, however many there are.
func interesting(c *inventory.Change) bool {
	return program(c.After) != "" || program(c.Before) != "" || has(c, inventory.Setuid, inventory.Caps) ||
		slices.ContainsFunc(settings, func(s setting) bool { return s.pattern.MatchString(c.Path) })
}

func (f *Facts) addFile(r File, wanted map[string]bool) {
	path := string(r.Path)
	if r.Mount == "" && r.Tree == record.TreeRoot && r.Layer == record.WritableLayer && r.Type != record.TypeDir {
		f.Files.LayerFiles++
		if r.Type == record.TypeFile {
			f.Files.LayerBytes += r.Size
		}
	}
	if r.Tree == record.TreeRoot || r.Tree == record.TreeBoth {
		if wanted[path] {
			f.Files.ByPath[path] = r
		}
	}
	if r.Mount == "" && r.Tree != record.TreeRoot && isELF(r.Magic) && r.SHA256 != "" && len(f.Files.Image) < maxImage {
		if _, known := f.Files.Image[r.SHA256]; !known {
			f.Files.Image[r.SHA256] = path
		}
	}
	if r.Type == record.TypeFile && r.Tree == record.TreeRoot && logName.MatchString(path) && len(f.Files.Logs) < maxLogs {
		f.Files.Logs = append(f.Files.Logs, r)
	}
	if base, ok := strings.CutSuffix(path, ".class"); ok && r.Tree == record.TreeBoth && len(f.Files.Classes) < maxImage {
		base = base[strings.LastIndexByte(base, '/')+1:]
		f.Files.Classes[base] = append(f.Files.Classes[base], path)
	}
	if r.Mount == "" || r.Type != record.TypeFile {
		return
	}
	if m := f.mountOf(path); m != nil && m.Kind == "secret" && len(f.Files.Secrets) < maxMounted {
		f.Files.Secrets = append(f.Files.Secrets, r)
	}
	if len(f.Files.Node) < maxMounted && f.onNode(&r) != "" {
		f.Files.Node = append(f.Files.Node, r)
	}
	if startHook.MatchString(path) && len(f.Files.Hooks) < perRule {
		f.Files.Hooks = append(f.Files.Hooks, r)
	}
	if (isELF(r.Magic) || isScript(r.Magic)) && len(f.Files.Mounted) < maxMounted {
		f.Files.Mounted = append(f.Files.Mounted, r)
	}
}
