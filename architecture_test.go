package sherd_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/sherd-forensics/sherd/"

// The floors of ARCHITECTURE.md, lowest first. A package may import packages of lower floors; verbs may also
// import verbs that come before them; faces may import everything but faces.
var (
	nouns = []string{"target", "evidence", "event", "verdict"}
	verbs = []string{"collect", "parse", "lake", "detect", "investigate", "report"}
	faces = []string{"cmd", "server", "web", "tools"}
	// aside is a verb that works on a live cluster and takes no evidence: it imports no other verb, and none imports it.
	aside = "contain"
)

// TestDependencyRule reads the imports in-process, so that the test cache cannot hide a change.
func TestDependencyRule(t *testing.T) {
	for file, imports := range sources(t) {
		from := first(file)
		test := strings.HasSuffix(file, "_test.go")
		for _, imp := range imports {
			to := first(imp)
			if why := forbidden(from, to, file, imp, test); why != "" {
				t.Errorf("%s imports %s: %s", file, imp, why)
			}
		}
	}
}

func forbidden(from, to, file, imp string, test bool) string {
	switch {
	case to == "lab" && from != "lab" && !test:
		return "lab is for tests alone"
	case from == "lab" || from == ".":
		return ""
	case slices.Contains(faces, to) && !strings.HasPrefix(imp, first2(file)) && imp != "cmd/internal/"+filepath.Base(imp):
		return "nothing imports a face"
	case test && to == "lab":
		return ""
	case from == "internal", from == "deploy":
		if to != "internal" {
			return "the ground imports nothing above it"
		}
	case from == aside:
		if to != "internal" && to != aside && !slices.Contains(nouns, to) {
			return aside + " imports nouns alone"
		}
	case to == aside && slices.Contains(verbs, from):
		return "no verb imports " + aside
	case slices.Contains(nouns, from):
		if to != "internal" && to != from {
			return "a noun imports no other noun and no verb"
		}
	case slices.Contains(verbs, from):
		if slices.Contains(verbs, to) && slices.Index(verbs, to) > slices.Index(verbs, from) {
			return "a verb imports only the verbs before it: " + strings.Join(verbs, ", ")
		}
	case slices.Contains(faces, from):
	default:
		return "the folder " + from + " stands on no floor: name it in ARCHITECTURE.md and here"
	}
	return ""
}

// sources maps each Go file to what it imports of this module, both relative to the module's root.
func sources(t *testing.T) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || d.Name() == "node_modules" || strings.HasPrefix(d.Name(), ".") && p != ".") {
			return filepath.SkipDir
		}
		// A module of its own (the lab's victims) is not part of this one.
		if d.IsDir() && p != "." {
			if _, err := os.Stat(filepath.Join(p, "go.mod")); err == nil {
				return filepath.SkipDir
			}
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		out[p] = nil
		for _, i := range f.Imports {
			s, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			if rel, ok := strings.CutPrefix(s, module); ok {
				out[p] = append(out[p], rel)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 10 {
		t.Fatalf("read only %d files: the test looks in the wrong place", len(out))
	}
	return out
}

func first(p string) string {
	p = filepath.ToSlash(p)
	if !strings.Contains(p, "/") && strings.HasSuffix(p, ".go") {
		return "."
	}
	head, _, _ := strings.Cut(p, "/")
	return head
}

func first2(p string) string {
	parts := strings.SplitN(filepath.ToSlash(p), "/", 3)
	if len(parts) < 3 {
		return p
	}
	return parts[0] + "/" + parts[1]
}

// TestNoWorkplace keeps the project speaking of itself alone: no paths of a developer's machine, no registry hosts.
func TestNoWorkplace(t *testing.T) {
	words := []string{"/wo" + "rk/", "proxy.gol" + "ang.org", "registry.np" + "mjs.org"}
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if n := d.Name(); n == ".git" || n == "node_modules" || n == "bin" || n == "dist" {
				return filepath.SkipDir
			}
			return nil
		}
		if p == ".git" { // of a worktree: a file
			return nil
		}
		info, err := d.Info()
		if err != nil || !info.Mode().IsRegular() || info.Size() > 2<<20 || strings.HasSuffix(p, "go.sum") {
			return err
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		for _, w := range words {
			if strings.Contains(string(b), w) {
				t.Errorf("%s mentions %q", p, w)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
