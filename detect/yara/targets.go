package yara

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/printable"
	"github.com/sherd-forensics/sherd/parse/inventory"
	"github.com/sherd-forensics/sherd/verdict"
)

// Bounds on what is looked at.
const (
	maxFiles  = 200_000
	maxHashes = 2_000_000 // of the image's files
	maxBytes  = 32 << 30  // of files, all in all
)

// place is one place where the content of a file lies or ran.
type place struct {
	path    string // as the container sees it, raw; memfd:NAME without one
	proc    *detect.Process
	runs    bool // proc runs it, or has it mapped as code
	foreign bool
	mode    uint32
	uid     uint32
	hasUID  bool
	magic   []byte
	when    int64
	cite    verdict.Citation
}

// content is one content of files, scanned once wherever it lies.
type content struct {
	artifact string
	size     int64
	sha256   string
	image    string // path of the image's file that is the same, "" if none is
	places   []place
}

// asking is one run of a set over a package.
type asking struct {
	set     *Set
	program *programs
	in      detect.Input
	answers []detect.Answer // beside set.rules

	images  map[string]string // hash of a file of the image to its path
	files   []*content
	bySum   map[string]*content
	claimed map[string]bool // artifacts
	procs   []*detect.Process
	results []result // of files, then of procs
	bytes   int64
}

// blind notes for all rules that are for memory, or for files, what could not be looked at.
func (a *asking) blind(memory bool, what, why string) {
	for i := range a.answers {
		if f := &a.set.rules[i].facts; memory && f.noMemory || !memory && f.noFiles {
			continue
		}
		a.answers[i].BlindTo(what, why)
	}
}

// collect lists what is to be scanned: files that are not the image's, or that ran, and the memory of processes.
func (a *asking) collect(ctx context.Context) error {
	f := a.in.Facts
	a.readImage(ctx)
	for i := range f.Processes {
		a.process(&f.Processes[i])
	}
	if why, missing := f.Missing[detect.Memory]; missing {
		a.blind(true, "memory maps", why)
	}
	a.inventory(ctx)
	a.leftovers("filesystem/upper/")
	if why, missing := f.Missing[detect.Inventory]; missing && len(a.in.Package.Artifacts("filesystem/upper/")) == 0 {
		a.blind(false, "files of the container and its image", why)
	}
	return ctx.Err()
}

// readImage learns the hashes of the image's files.
func (a *asking) readImage(ctx context.Context) {
	for r, err := range inventory.Read(a.in.Package) {
		if ctx.Err() != nil {
			return
		}
		if err != nil || r.SHA256 == "" || r.Mount != "" || r.Size == 0 || r.Tree != record.TreeImage && r.Tree != record.TreeBoth {
			continue
		}
		if _, known := a.images[r.SHA256]; !known && len(a.images) < maxHashes {
			a.images[r.SHA256] = string(r.Path)
		}
	}
}

// add takes one place of a content. Files beyond the limits are told of.
func (a *asking) add(artifact string, p place) {
	e, ok := a.in.Package.Artifact(artifact)
	if !ok || e.SHA256 == "" || e.Size == 0 {
		return
	}
	a.claimed[artifact] = true
	c := a.bySum[e.SHA256]
	if c == nil {
		if len(a.files) >= maxFiles || a.bytes+e.Size > maxBytes {
			a.blind(false, "further files", fmt.Sprintf("no more than %d of them and %d GiB are looked through", maxFiles, maxBytes>>30))
			return
		}
		a.bytes += e.Size
		c = &content{artifact: artifact, size: e.Size, sha256: e.SHA256, image: a.images[e.SHA256]}
		a.bySum[e.SHA256] = c
		a.files = append(a.files, c)
	}
	if len(c.places) < 1000 {
		c.places = append(c.places, p)
	}
}

// process takes what a process runs, maps and holds open, and its memory.
func (a *asking) process(p *detect.Process) {
	f := a.in.Facts
	if x := &p.Exe; x.Artifact != "" {
		a.add(x.Artifact, place{path: detect.ExeName(p), proc: p, runs: true, foreign: f.Foreign(p), mode: x.Mode, uid: p.UID, hasUID: true, when: cmp.Or(x.Btime, x.Ctime), cite: p.Cite})
	} else if f.Foreign(p) {
		a.blind(false, "the program of "+detect.Describe(p), cmp.Or(printable.Clip(x.Error, 160), "it was not kept"))
	}
	for i := range p.Maps {
		m := &p.Maps[i]
		name := fmt.Sprintf("%s/mapped/%08x-%08x", p.Dir, m.Start, m.End)
		if _, ok := a.in.Package.Artifact(name); ok {
			to := strings.TrimSuffix(string(m.Path), " (deleted)")
			a.add(name, place{path: strings.TrimPrefix(to, "/memfd:"), proc: p, runs: true, foreign: true, mode: 0o755, cite: m.Cite})
		}
	}
	for i := range p.FDs {
		d := &p.FDs[i]
		if d.Artifact == "" || d.Kind == "dir" {
			continue
		}
		mode := uint32(0)
		if d.Kind == "memfd" {
			mode = 0o755
		}
		a.add(d.Artifact, place{path: strings.TrimSuffix(string(d.Target), " (deleted)"), proc: p, mode: mode, magic: d.Magic, cite: p.Cite})
	}
	a.leftovers(p.Dir + "/mapped/")
	core, ok := a.in.Package.Artifact(p.Dir + "/core")
	switch {
	case ok && core.Size > 0 && p.HasMaps:
		a.procs = append(a.procs, p)
	case p.State == "Z" || p.State == "X" || p.Relation != record.InCgroup:
	case a.in.Facts.Missing[detect.Memory] != "": // told once
	case a.in.Facts.Ended(p): // there is no memory any more, which the capture tells
	case !p.HasMaps:
		a.blind(true, "memory of "+detect.Describe(p), "its mappings were not collected")
	default:
		a.blind(true, "memory of "+detect.Describe(p), a.noCore(p))
	}
}

// noCore says why there is no core of a process.
func (a *asking) noCore(p *detect.Process) string {
	for i := range p.Maps {
		if p.Maps[i].LeftOut == "mode" {
			return "its contents were left out by choice"
		}
	}
	for _, m := range a.in.Facts.Coverage.Missed {
		if m.Kind == "memory" && strings.Contains(m.What, strconv.Itoa(p.PID)) {
			return printable.Clip(m.Reason, 200)
		}
	}
	return "its contents were not kept"
}

// inventory takes the files that are not the image's: those of the writable layer, and those on mounts that can run.
func (a *asking) inventory(ctx context.Context) {
	for r, err := range inventory.Read(a.in.Package) {
		if ctx.Err() != nil {
			return
		}
		if err != nil || r.Type != record.TypeFile || r.Tree == record.TreeImage {
			continue // lines that can't be read are told by Facts
		}
		p := place{path: string(r.Path), mode: r.Mode, uid: r.UID, hasUID: true, magic: r.Magic, when: cmp.Or(r.Btime, r.Ctime), cite: r.Cite}
		artifact, err := record.Unescape(r.Artifact)
		if r.Mount != "" && !canRun(&p) {
			if err == nil && artifact != "" {
				a.claimed[artifact] = true
			}
			continue
		}
		if err != nil || artifact == "" {
			if r.Layer == record.WritableLayer && r.Mount == "" && canRun(&p) && a.images[r.SHA256] == "" && r.Size > 0 {
				a.blind(false, "the file "+printable.Clip(p.path, 160), cmp.Or(printable.Clip(r.Error, 160), "its content was not kept"))
			}
			continue
		}
		a.add(artifact, p)
	}
}

// leftovers takes artifacts that nothing told of: the list that would is missing or damaged.
func (a *asking) leftovers(prefix string) {
	for _, e := range a.in.Package.Artifacts(prefix) {
		if e.SHA256 == "" || e.Size == 0 || a.claimed[e.Path] {
			continue
		}
		p := place{path: "/" + strings.TrimPrefix(e.Path, "filesystem/upper/")}
		if prefix != "filesystem/upper/" {
			p.path, p.mode, p.runs = path.Base(e.Path), 0o755, false
		}
		p.cite = verdict.Citation{Artifact: e.Path, SHA256: e.SHA256, Length: e.Size}
		a.add(e.Path, p)
	}
}

// runnable are the endings of files that an interpreter or a server runs, whatever their mode.
var runnable = []string{
	".sh", ".bash", ".py", ".pyc", ".pyz", ".pl", ".pm", ".rb", ".js", ".mjs", ".cjs", ".php", ".php3", ".php5", ".php7", ".phtml", ".phar", ".jsp", ".jspx", ".jspf",
	".war", ".jar", ".class", ".groovy", ".lua", ".so", ".ko", ".node", ".wasm", ".exe", ".dll", ".asp", ".aspx", ".ashx", ".cgi", ".service",
}

// canRun reports whether a file is one that runs: a program, a script, or what a server or interpreter takes for one. Others hold data,
// and data hold what clients send.
func canRun(p *place) bool {
	switch {
	case bytes.HasPrefix(p.magic, []byte("\x7fELF")), bytes.HasPrefix(p.magic, []byte("#!")), bytes.HasPrefix(p.magic, []byte("\xca\xfe\xba\xbe")), p.mode&0o111 != 0:
		return true
	}
	return slices.Contains(runnable, strings.ToLower(path.Ext(p.path)))
}
