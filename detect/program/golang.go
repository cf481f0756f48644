package program

import (
	"debug/buildinfo"
	"fmt"
	"io"

	"github.com/sherd-forensics/sherd/internal/printable"
)

// GoBuild is what the Go compiler wrote down about a build.
type GoBuild struct {
	Version  string            `json:"version,omitempty"` // "go1.22.3"
	Path     string            `json:"path,omitempty"`    // of the main package
	Module   string            `json:"module,omitempty"`
	Revision string            `json:"revision,omitempty"` // of the source, with "+changes" where it was modified
	Time     string            `json:"time,omitempty"`     // of the revision, RFC 3339
	Deps     []string          `json:"deps,omitempty"`     // "path@version"
	DepCount int               `json:"dep_count,omitempty"`
	Settings map[string]string `json:"settings,omitempty"`
}

// golang reads a Go program's build information.
func (x *Facts) golang(f *file, whole []byte) {
	info, err := goInfo(f.r, f.size)
	if info == nil {
		marked := x.GoBuildID != "" || f.section(".gopclntab") != nil || f.section(".go.buildinfo") != nil
		if marked || has(whole, "\x00runtime.gopanic\x00") && has(whole, "\x00runtime.newproc\x00") {
			x.Language, x.Go = "Go", &GoBuild{}
			if err != nil && marked {
				f.problem("Go's build information: %v", err)
			}
		}
		return
	}
	x.Language = "Go"
	g := &GoBuild{Version: printable.Clip(info.GoVersion, 60), Path: show(info.Path), Module: show(info.Main.Path), DepCount: len(info.Deps)}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		g.Module += "@" + show(v)
	}
	for _, d := range info.Deps {
		if d == nil || len(g.Deps) >= maxListed {
			break
		}
		g.Deps = append(g.Deps, show(d.Path+"@"+d.Version))
	}
	for _, s := range info.Settings {
		if g.Settings == nil {
			g.Settings = map[string]string{}
		}
		if len(g.Settings) >= maxListed {
			break
		}
		g.Settings[show(s.Key)] = show(s.Value)
	}
	g.Revision, g.Time = g.Settings["vcs.revision"], g.Settings["vcs.time"]
	if g.Revision != "" && g.Settings["vcs.modified"] == "true" {
		g.Revision += "+changes"
	}
	x.Go = g
	x.Compiler = g.Version
}

// goInfo is debug/buildinfo, which was not written for files that mean harm.
func goInfo(r io.ReaderAt, size int64) (info *buildinfo.BuildInfo, err error) {
	defer func() {
		if e := recover(); e != nil {
			info, err = nil, fmt.Errorf("the reader gave up: %v", e)
		}
	}()
	return buildinfo.Read(io.NewSectionReader(r, 0, size))
}
