package procfs

import (
	"bytes"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/sherd-forensics/sherd/target"
)

// Mount is one line of /proc/PID/mountinfo, proc_pid_mountinfo(5). Strings are unescaped.
type Mount struct {
	ID, Parent int
	Dev        string // "0:39"
	Root       string // what of the file system is mounted
	Point      string // as the process sees it
	Options    []string
	Type       string
	Source     string
	Super      []string // the file system's own options; commas that were escaped inside of one stay together
}

// maxMounts bounds what is kept of one mountinfo: a process may make as many mounts as its namespace allows (100,000
// by default).
const maxMounts = 1 << 17

// ParseMountinfo takes a mountinfo apart. Lines that don't have the documented form are left out.
func ParseMountinfo(b []byte) []Mount {
	var out []Mount
	for line := range bytes.Lines(b) {
		if len(out) == maxMounts {
			break
		}
		if m, ok := parseMount(strings.TrimRight(string(line), "\n")); ok {
			out = append(out, m)
		}
	}
	return out
}

func parseMount(line string) (Mount, bool) {
	f := strings.Split(line, " ")
	sep := -1
	for i := 6; i < len(f); i++ { // optional fields end at a lone hyphen
		if f[i] == "-" {
			sep = i
			break
		}
	}
	if sep < 0 || len(f) < sep+4 {
		return Mount{}, false
	}
	id, err1 := strconv.Atoi(f[0])
	parent, err2 := strconv.Atoi(f[1])
	if err1 != nil || err2 != nil {
		return Mount{}, false
	}
	return Mount{
		ID: id, Parent: parent, Dev: f[2], Root: unescape(f[3]), Point: unescape(f[4]), Options: strings.Split(f[5], ","),
		Type: f[sep+1], Source: unescape(f[sep+2]), Super: splitOptions(unescape(f[sep+3])),
	}, true
}

// unescape undoes the kernel's \ooo escapes of space, tab, newline, backslash and hash.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// splitOptions splits at commas that no backslash precedes, which is how overlayfs writes a comma in a path.
func splitOptions(s string) []string { return splitEscaped(s, ',') }

func splitEscaped(s string, sep byte) []string {
	var out []string
	start := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case sep:
			out = append(out, s[start:i])
			start = i + 1
		}
	}
	return append(out, s[start:])
}

// plain removes overlayfs' own backslashes.
func plain(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// maxLayers bounds the lower directories of one overlay; the kernel stops at 500.
const maxLayers = 512

// Overlay holds the directories of an overlay mount.
type Overlay struct {
	Lower       []string // lowest first
	Upper, Work string
}

// ParseOverlay reads the options of an overlay mount, as mount(8) is given them or mountinfo shows them: lowerdir=
// with the highest first, or several lowerdir+= (Linux 6.8). Data-only layers ("::", datadir+) hold no tree and are
// left out.
func ParseOverlay(options []string) Overlay {
	var o Overlay
	for _, opt := range options {
		k, v, _ := strings.Cut(opt, "=")
		switch k {
		case "lowerdir":
			v, _, _ = strings.Cut(v, "::")
			for _, d := range splitEscaped(v, ':') {
				if d != "" && len(o.Lower) < maxLayers {
					o.Lower = append(o.Lower, plain(d))
				}
			}
		case "lowerdir+":
			if v != "" && len(o.Lower) < maxLayers {
				o.Lower = append(o.Lower, v)
			}
		case "upperdir":
			o.Upper = plain(v)
		case "workdir":
			o.Work = plain(v)
		}
	}
	for i, j := 0, len(o.Lower)-1; i < j; i, j = i+1, j-1 {
		o.Lower[i], o.Lower[j] = o.Lower[j], o.Lower[i]
	}
	return o
}

// RootMount finds the mount that a process has as its root: the last one at "/".
func RootMount(ms []Mount) (Mount, bool) {
	for i := len(ms) - 1; i >= 0; i-- {
		if ms[i].Point == "/" {
			return ms[i], true
		}
	}
	return Mount{}, false
}

// Rootfs says how the root of a process is put together, by its mountinfo and the machine's (host, to find the
// directory that relative paths start from). What it could not resolve is told in notes.
func Rootfs(p target.Places, ms, host []Mount) (fs target.Rootfs, notes []string) {
	root, ok := RootMount(ms)
	if !ok {
		return fs, []string{"the root of its processes is no mount point, so how it is put together is not known"}
	}
	for _, o := range root.Options {
		fs.ReadOnly = fs.ReadOnly || o == "ro"
	}
	for _, m := range host {
		if m.Dev == root.Dev && m.Root == root.Root && m.Type == root.Type {
			fs.Merged = m.Point
			break
		}
	}
	if root.Type != "overlay" {
		if fs.Merged == "" {
			fs.Merged = bindSource(host, root)
		}
		return fs, nil
	}
	fs.Driver = "overlay"
	o := ParseOverlay(root.Super)
	base := relativeBase(o, fs.Merged)
	resolve := func(d string) string {
		if !filepath.IsAbs(d) {
			if base == "" {
				notes = append(notes, "the overlay's directory "+d+" is relative to one that is not known")
				return ""
			}
			d = filepath.Join(base, d)
		}
		real, err := p.Real(d) // Docker and Podman mount short symbolic links
		if err != nil {
			notes = append(notes, "a directory of the overlay can't be reached from here: "+err.Error())
			return d
		}
		return real
	}
	if o.Upper != "" {
		fs.Upper, fs.Work = resolve(o.Upper), o.Work
		if !filepath.IsAbs(o.Work) && base != "" {
			fs.Work = filepath.Join(base, o.Work)
		}
	}
	for _, d := range o.Lower {
		if d = resolve(d); d == "" {
			continue
		}
		fs.Layers = append(fs.Layers, target.Layer{Dir: d, Init: IsInitLayer(d)})
	}
	return fs, notes
}

// IsInitLayer knows Docker's "-init" layer by its directory: …/overlay2/ID-init/diff.
func IsInitLayer(dir string) bool {
	return strings.HasSuffix(filepath.Dir(dir), "-init") && filepath.Base(dir) == "diff"
}

// relativeBase finds the directory that the runtime stood in when it mounted with relative paths, to fit more layers into
// a page: containerd keeps upperdir absolute two levels below it, Docker and Podman make all paths relative to the
// directory two levels above "merged".
func relativeBase(o Overlay, merged string) string {
	if filepath.IsAbs(o.Upper) {
		return filepath.Dir(filepath.Dir(o.Upper))
	}
	if filepath.Base(merged) == "merged" {
		return filepath.Dir(filepath.Dir(merged))
	}
	return ""
}

// bindSource finds where the machine sees the directory that a bind mount shows: the longest mount of the same file system
// whose root leads to it.
func bindSource(host []Mount, m Mount) string {
	best, path := -1, ""
	for _, h := range host {
		rel, err := filepath.Rel(h.Root, m.Root)
		if h.Dev != m.Dev || err != nil || rel == ".." || strings.HasPrefix(rel, "../") || len(h.Root) <= best {
			continue
		}
		best, path = len(h.Root), filepath.Join(h.Point, rel)
	}
	return path
}
