// Package podman finds Podman's containers in its files, without running podman and without its service:
// containers/storage's containers.json, images.json and layers.json (https://github.com/containers/storage), libpod's
// database, and each container's userdata directory. Rootful and rootless storage, the overlay and vfs drivers.
//
// A service is asked only when a flag or CONTAINER_HOST names its socket: the usual socket is activated by systemd, and a
// connection would start the machine's own podman, which may not be what it was.
package podman

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/sherd-forensics/sherd/target"
	"github.com/sherd-forensics/sherd/target/procfs"
)

// Runtime is the Podman storages of a machine.
type Runtime struct {
	places  target.Places
	kernel  *procfs.Runtime // nil when /proc can't be read
	service *service        // nil unless one was named
	stores  []store
	skipped []string // stores that could not be read, with the reason
}

var _ target.Runtime = (*Runtime)(nil)

// store is one root directory of containers/storage, for one driver.
type store struct {
	root    string // --root
	runRoot string // --runroot, may be empty when unknown
	driver  string // overlay or vfs
}

func (s store) containers() string { return filepath.Join(s.root, s.driver+"-containers") }
func (s store) images() string     { return filepath.Join(s.root, s.driver+"-images") }
func (s store) layers() string     { return filepath.Join(s.root, s.driver+"-layers") }

// drivers whose layout is known.
var drivers = []string{"overlay", "vfs"}

// New finds Podman's storage. The error is a *target.SilentError when there is none.
func New(p target.Places) (*Runtime, error) {
	r := &Runtime{places: p}
	if k, err := procfs.New(p); err == nil {
		r.kernel = k
	}
	var pairs []store
	if host := cmp.Or(p.PodmanHost, os.Getenv("CONTAINER_HOST")); host != "" {
		from := "--podman-host"
		if p.PodmanHost == "" {
			from = "CONTAINER_HOST"
		}
		svc, roots, err := dial(p, host, from)
		if err != nil {
			return nil, err
		}
		r.service = svc
		pairs = append(pairs, roots)
	}
	if p.PodmanRoot != "" {
		pairs = append(pairs, store{root: p.PodmanRoot, runRoot: p.PodmanRunRoot})
	} else if r.service == nil {
		pairs = append(pairs, r.usual()...)
	}
	tried := map[string]bool{}
	denied := false
	for _, s := range pairs {
		if tried[s.root] || s.root == "" {
			continue
		}
		tried[s.root] = true
		for _, d := range drivers {
			s.driver = d
			_, err := r.places.ReadFile(filepath.Join(s.containers(), "containers.json"))
			switch {
			case err == nil:
				r.stores = append(r.stores, s)
			case errors.Is(err, fs.ErrPermission):
				denied = true
				r.skipped = append(r.skipped, s.root+": permission denied")
			case !errors.Is(err, fs.ErrNotExist):
				r.skipped = append(r.skipped, err.Error())
			}
		}
	}
	if len(r.stores) > 0 {
		return r, nil
	}
	e := &target.SilentError{Runtime: "Podman", Absent: len(r.skipped) == 0, Tried: slices.Compact(r.skipped)}
	if e.Absent {
		e.Tried = []string{"no storage at " + strings.Join(roots(pairs), ", ")}
	}
	if denied {
		e.Advice = "Run with sudo"
	} else if p.PodmanRoot != "" {
		e.Advice = "--podman-root is the directory that holds overlay-containers or vfs-containers"
	}
	return nil, e
}

func roots(ss []store) []string {
	var out []string
	for _, s := range ss {
		if !slices.Contains(out, s.root) {
			out = append(out, s.root)
		}
	}
	return out
}

// usual lists the storage of root and of every user, and of each container that runs.
func (r *Runtime) usual() []store {
	out := []store{{root: "/var/lib/containers/storage", runRoot: "/run/containers/storage"}}
	if s, ok := r.configured("/etc/containers/storage.conf"); ok {
		out = append([]store{s}, out...)
	}
	for _, u := range r.users() {
		s := store{root: filepath.Join(u.home, ".local/share/containers/storage"), runRoot: fmt.Sprintf("/run/user/%d/containers", u.uid)}
		if c, ok := r.configured(filepath.Join(u.home, ".config/containers/storage.conf")); ok {
			s.root, s.runRoot = cmp.Or(c.root, s.root), cmp.Or(c.runRoot, s.runRoot)
		}
		out = append(out, s)
	}
	if r.kernel != nil {
		for _, m := range r.kernel.Monitors() {
			out = append(out, r.monitored(m)...)
		}
	}
	return out
}

// monitored derives the storage's root from the arguments of a conmon: its bundle is ROOT/DRIVER-containers/ID/userdata. The
// root must belong to the user that runs conmon, who could otherwise point at directories that are not theirs.
func (r *Runtime) monitored(m procfs.Monitor) []store {
	up := func(path string) string {
		d := filepath.Dir(filepath.Dir(path))
		if !filepath.IsAbs(path) || !strings.HasSuffix(filepath.Base(d), "-containers") {
			return ""
		}
		return filepath.Dir(d)
	}
	s := store{root: up(m.Bundle)}
	if m.PIDFile != "" {
		s.runRoot = up(filepath.Dir(m.PIDFile))
	}
	if s.root == "" {
		return nil
	}
	if owner, err := r.places.Owner(s.root); err != nil || owner != m.UID && m.UID != 0 {
		return nil
	}
	return []store{s}
}

// setting is one string of storage.conf, which is TOML.
var setting = regexp.MustCompile(`(?m)^\s*(graphroot|runroot)\s*=\s*"([^"\n]+)"`)

// configured reads the roots from a storage.conf.
func (r *Runtime) configured(path string) (store, bool) {
	b, err := r.places.ReadFile(path)
	if err != nil {
		return store{}, false
	}
	var s store
	for _, m := range setting.FindAllSubmatch(b[:min(len(b), 1<<20)], 16) {
		v := string(m[2])
		if !filepath.IsAbs(v) || strings.Contains(v, "$") {
			continue
		}
		if string(m[1]) == "graphroot" {
			s.root = v
		} else {
			s.runRoot = v
		}
	}
	return s, s.root != ""
}

type user struct {
	uid  int
	home string
}

// maxUsers bounds how many homes are looked into.
const maxUsers = 4096

// users reads the machine's passwd(5).
func (r *Runtime) users() []user {
	b, err := r.places.ReadFile("/etc/passwd")
	if err != nil {
		return nil
	}
	var out []user
	for line := range strings.Lines(string(b)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) < 7 || len(out) == maxUsers {
			continue
		}
		uid, err := strconv.Atoi(f[2])
		if err != nil || uid == 0 || !filepath.IsAbs(f[5]) || f[5] == "/" {
			continue
		}
		out = append(out, user{uid, filepath.Clean(f[5])})
	}
	return out
}

// Scheme is "podman".
func (r *Runtime) Scheme() string { return "podman" }

// Close does nothing: files are closed as they are read.
func (r *Runtime) Close() error { return nil }

// entry is one container of containers.json.
type entry struct {
	ID       string   `json:"id"`
	Names    []string `json:"names"`
	Image    string   `json:"image"`
	Layer    string   `json:"layer"`
	Metadata string   `json:"metadata"`
	Created  string   `json:"created"`

	raw   json.RawMessage
	store *store
}

// isID knows an id of containers/storage, which becomes part of paths.
func isID(s string) bool { return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == "" }

// entries reads all stores.
func (r *Runtime) entries() ([]entry, error) {
	var out []entry
	for i := range r.stores {
		s := &r.stores[i]
		for _, file := range []string{"containers.json", "volatile-containers.json"} {
			path := filepath.Join(s.containers(), file)
			b, err := r.places.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("Podman's storage: %w", err) //nolint:revive,staticcheck // Podman is a name
			}
			var raws []json.RawMessage
			if err := json.Unmarshal(b, &raws); err != nil {
				return nil, fmt.Errorf("Podman's %s is damaged: %w", path, err) //nolint:revive,staticcheck // Podman is a name
			}
			for _, raw := range raws {
				e := entry{raw: raw, store: s}
				if err := json.Unmarshal(raw, &e); err != nil || !isID(e.ID) {
					continue
				}
				out = append(out, e)
			}
		}
	}
	return out, nil
}

func (e entry) name() string {
	if len(e.Names) > 0 {
		return e.Names[0]
	}
	return e.ID
}

// List reads every container of every storage.
func (r *Runtime) List(ctx context.Context) ([]*target.Container, error) {
	all, err := r.entries()
	if err != nil {
		return nil, err
	}
	return r.fillAll(ctx, all)
}

func (r *Runtime) fillAll(ctx context.Context, all []entry) ([]*target.Container, error) {
	books := map[string]*book{}
	var out []*target.Container
	for _, e := range all {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		c, _ := r.fill(e, r.book(books, e.store))
		c.URL = url(e, all)
		out = append(out, c)
	}
	return out, nil
}

// url names the container by its name, or by its id where another user's container has the same name.
func url(e entry, all []entry) string {
	for _, o := range all {
		if o.ID != e.ID && slices.Contains(o.Names, e.name()) {
			return "podman://" + e.ID
		}
	}
	return "podman://" + e.name()
}

// Find takes a name, an id, or the beginning of one.
func (r *Runtime) Find(ctx context.Context, ref string) (*target.Container, error) {
	ref = strings.Trim(ref, "/")
	all, err := r.entries()
	if err != nil {
		return nil, err
	}
	e, err := pick(all, ref)
	var nf *target.NotFoundError
	if errors.As(err, &nf) {
		cs, lerr := r.fillAll(ctx, all)
		if lerr != nil {
			return nil, lerr
		}
		var names []string
		for _, c := range cs {
			if c.PID != 0 { // what the error calls running
				names = append(names, c.Name)
			}
		}
		nf.Near = target.Near(ref, names)
	}
	if err != nil {
		return nil, err
	}
	c, d := r.fill(e, r.book(map[string]*book{}, e.store))
	c.URL = url(e, all)
	r.records(ctx, c, e, d)
	return c, nil
}

func pick(all []entry, ref string) (entry, error) {
	var exact, prefix []entry
	for _, e := range all {
		if e.ID == ref || slices.Contains(e.Names, ref) {
			exact = append(exact, e)
		}
		if ref != "" && strings.HasPrefix(e.ID, ref) {
			prefix = append(prefix, e)
		}
	}
	hits := exact
	if len(hits) == 0 {
		hits = prefix
	}
	switch len(hits) {
	case 0:
		return entry{}, &target.NotFoundError{Runtime: "Podman", Ref: ref, Others: len(all)}
	case 1:
		return hits[0], nil
	}
	var where []string
	for _, e := range hits[:min(len(hits), 5)] {
		where = append(where, e.ID[:12]+" ("+e.name()+" in "+e.store.root+")")
	}
	return entry{}, fmt.Errorf("%d Podman containers answer to %q: %s; give the id", len(hits), ref, strings.Join(where, ", "))
}
