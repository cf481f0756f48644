// Package distroless judges whether a root file system lacks what a shell session needs, and says by which files one
// knows. The image decides: what an intruder put into the writable layer later does not make it an image with a shell, but
// is told. Programs are known by their names in the usual directories; a shell under another name is not noticed here.
package distroless

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/sherd-forensics/sherd/target"
)

// Judge looks at the container's image and at what became of it; nil when no root could be read.
func Judge(c *target.Container, hostRoot string) *target.Distroless {
	p := target.Places{HostRoot: hostRoot}
	at := func(dir string) string {
		if real, err := p.Real(dir); err == nil {
			dir = real
		}
		return p.Host(dir)
	}
	var image []string // highest first
	merged := ""
	for _, l := range slices.Backward(c.Rootfs.Layers) {
		switch {
		case l.Init:
		case l.Whole:
			if image == nil {
				image = []string{at(l.Dir)}
			}
		default:
			image = append(image, at(l.Dir))
		}
	}
	var now []string
	switch {
	case c.Rootfs.Upper != "":
		now = append([]string{at(c.Rootfs.Upper)}, image...)
	case c.Rootfs.Merged != "":
		merged = at(c.Rootfs.Merged)
		now = []string{merged}
	case c.PID != 0:
		now = []string{filepath.Join(p.Proc(), strconv.Itoa(c.PID), "root")}
	}
	var d *target.Distroless
	if len(image) > 0 {
		if j, err := judge(image); err == nil {
			d = j
		}
	}
	var cur *target.Distroless
	if len(now) > 0 {
		if j, err := judge(now); err == nil {
			cur = j
		} else if c.PID != 0 && merged != "" {
			if j, err := judge([]string{filepath.Join(p.Proc(), strconv.Itoa(c.PID), "root")}); err == nil {
				cur = j
			}
		}
	}
	switch {
	case d == nil:
		return cur
	case cur != nil:
		if gained := gained(d, cur); len(gained) > 0 {
			d.Reason += "; the container has gained " + strings.Join(gained, ", ")
		}
	}
	return d
}

// gained lists the shells, package managers and tools that the container has and its image has not.
func gained(image, now *target.Distroless) []string {
	var out []string
	for _, k := range []struct{ before, after []string }{{image.Shells, now.Shells}, {image.PackageManagers, now.PackageManagers}, {image.Tools, now.Tools}} {
		for _, n := range k.after {
			if !slices.Contains(k.before, n) {
				out = append(out, n)
			}
		}
	}
	if len(out) > 4 {
		out = append(out[:4], fmt.Sprintf("and %d more", len(out)-4))
	}
	return out
}

// Root judges the root file system in one directory, or that of layers which overlay each other, highest first.
func Root(dirs ...string) (*target.Distroless, error) {
	if len(dirs) == 0 {
		return nil, errors.New("no directory to judge")
	}
	return judge(dirs)
}

// folders are where programs lie: the usual PATH, busybox images, and the homes of distroless interpreters. A star is any
// one name.
var folders = []string{"/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/busybox", "/nodejs/bin",
	"/opt/*/bin", "/opt/*/*/bin", "/usr/lib/jvm/*/bin", "/usr/local/*/bin", "/nix/var/nix/profiles/default/bin"}

// Programs by name. What may carry a version is an expression.
var (
	shells     = set("sh ash bash dash zsh ksh ksh93 mksh pdksh lksh yash csh tcsh fish rbash busybox toybox pwsh nu elvish xonsh")
	managers   = set("apt apt-get aptitude dpkg apk yum dnf microdnf tdnf rpm zypper pacman opkg emerge nix nix-env conda mamba snap brew pip pip3 npm yarn pnpm gem")
	tools      = set("openssl curl wget nc ncat netcat socat busybox toybox telnet ssh scp sftp ftp tftp rsync git gdb strace ltrace ptrace tcpdump nmap dig nslookup host tar cpio base64 xxd awk gawk mawk sed find xargs vi vim ed nano make gcc cc tcc clang go rustc ld as docker kubectl crictl ctr nerdctl podman runc nsenter unshare mount chroot capsh setpriv su sudo doas screen tmux script expect env timeout")
	interprets = regexp.MustCompile(`^(?:python[0-9.]*|pypy[0-9.]*|perl[0-9.]*|ruby[0-9.]*|node|nodejs|deno|bun|qjs|php[0-9.]*|lua[0-9.]*|luajit|java|jshell|tclsh[0-9.]*|guile[0-9.]*|erl|elixir|Rscript|julia|dotnet|mono|osascript|sqlite3)$`)
	// trivial are tools that nearly every image with a shell has: named only where there is no shell.
	trivial = set("env timeout find xargs sed awk gawk mawk tar cpio base64 xxd ed mount chroot su as ld host script make")
)

func set(names string) map[string]bool {
	m := map[string]bool{}
	for _, n := range strings.Fields(names) {
		m[n] = true
	}
	return m
}

func judge(dirs []string) (*target.Distroless, error) {
	t, err := openTree(dirs)
	if err != nil {
		return nil, err
	}
	defer t.close()
	d := &target.Distroless{}
	firstShell := ""
	for _, f := range t.folders() {
		names, err := t.list(f)
		if err != nil {
			continue
		}
		for _, name := range names {
			isShell, isManager, isTool, isInterpreter := shells[name], managers[name], tools[name], interprets.MatchString(name)
			if !isShell && !isManager && !isTool && !isInterpreter {
				continue
			}
			p := path.Join(f.path, name)
			n, err := t.lookup(p)
			if err != nil || !n.stat.IsRegular() || n.stat.Perm()&0o111 == 0 || n.stat.Size == 0 {
				continue
			}
			if isShell {
				d.Shells = append(d.Shells, p)
				if word := shown(p, n.path); firstShell == "" || name == "sh" {
					firstShell = word
				}
			}
			if isManager {
				d.PackageManagers = append(d.PackageManagers, p)
			}
			if isTool {
				d.Tools = append(d.Tools, p)
			}
			if isInterpreter {
				d.Interpreters = append(d.Interpreters, p)
			}
		}
	}
	if len(d.Shells) > 0 {
		d.Tools = slices.DeleteFunc(d.Tools, func(p string) bool { return trivial[path.Base(p)] })
	}
	counted := false
	d.Packages, counted = t.packages()
	d.Distroless = len(d.Shells) == 0 && len(d.PackageManagers) == 0
	d.Reason = reason(d, firstShell, counted)
	return d, nil
}

// shown names a shell and what it really is.
func shown(p, real string) string {
	if base := path.Base(real); base != path.Base(p) {
		return p + " → " + base
	}
	return p
}

func reason(d *target.Distroless, shell string, counted bool) string {
	pkgs := "no package database"
	if counted {
		pkgs = strconv.Itoa(d.Packages) + " packages"
		if d.Packages == 1 {
			pkgs = "1 package"
		}
	}
	switch {
	case shell != "":
		return "has " + shell
	case len(d.PackageManagers) > 0:
		return "no shell, but " + d.PackageManagers[0]
	case len(d.Interpreters) > 0:
		return "no shell, " + path.Base(d.Interpreters[0]) + ", " + pkgs
	}
	return "no shell, " + pkgs
}

// maxFolders bounds how many folders the stars may stand for.
const maxFolders = 256

// folders resolves the list, each folder once: /bin is often a link to /usr/bin.
func (t *tree) folders() []node {
	var out []node
	seen := map[string]bool{}
	var add func(prefix string, rest []string)
	add = func(prefix string, rest []string) {
		if len(out) >= maxFolders {
			return
		}
		if len(rest) == 0 {
			n, err := t.lookup(prefix)
			if err != nil || !n.stat.IsDir() || seen[n.path] {
				return
			}
			seen[n.path] = true
			out = append(out, n)
			return
		}
		if rest[0] != "*" {
			add(path.Join(prefix, rest[0]), rest[1:])
			return
		}
		n, err := t.lookup(prefix)
		if err != nil || !n.stat.IsDir() {
			return
		}
		names, err := t.list(n)
		if err != nil {
			return
		}
		for _, name := range names[:min(len(names), maxFolders)] {
			add(path.Join(n.path, name), rest[1:])
		}
	}
	for _, f := range folders {
		add("/", elements(f))
	}
	return out
}

// maxDatabase bounds a package database: a full Debian desktop's is some 5 MB.
const maxDatabase = 32 << 20

// packages counts what dpkg and apk have installed; false when there is no database that can be counted.
func (t *tree) packages() (int, bool) {
	total, counted := 0, false
	// Distroless images made from Debian packages have a file for each package instead of one status file.
	if dir, err := t.lookup("/var/lib/dpkg/status.d"); err == nil && dir.stat.IsDir() {
		names, err := t.list(dir)
		if err == nil {
			counted = true
			for _, n := range names {
				if strings.HasSuffix(n, ".md5sums") || strings.HasPrefix(n, ".") {
					continue
				}
				if f, err := t.child(dir, n); err == nil && f.stat.IsRegular() {
					total++
				}
			}
		}
	}
	for _, db := range []struct {
		path  string
		count func([]byte) int
	}{
		{"/var/lib/dpkg/status", dpkg}, {"/lib/apk/db/installed", apk}, {"/usr/lib/apk/db/installed", apk},
	} {
		n, err := t.lookup(db.path)
		if err != nil || !n.stat.IsRegular() {
			continue
		}
		if b, err := t.read(n, maxDatabase); err == nil {
			total, counted = total+db.count(b), true
			if strings.Contains(db.path, "apk") {
				break // the one path may lead to the other
			}
		}
	}
	return total, counted
}

// dpkg counts the stanzas of a status file whose package is installed (deb-status, dpkg-query(1)).
func dpkg(b []byte) int {
	n := 0
	for line := range bytes.Lines(b) {
		if s, ok := bytes.CutPrefix(line, []byte("Status:")); ok && bytes.HasSuffix(bytes.TrimSpace(s), []byte(" installed")) {
			n++
		}
	}
	return n
}

// apk counts the stanzas of apk's installed database: each has one line P:NAME.
func apk(b []byte) int {
	n := 0
	for line := range bytes.Lines(b) {
		if bytes.HasPrefix(line, []byte("P:")) {
			n++
		}
	}
	return n
}
