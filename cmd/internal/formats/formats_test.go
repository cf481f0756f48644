package formats_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sherd-forensics/sherd/cmd/internal/formats"
	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/parse"
)

const root = "../../../parse"

// helpers are folders that hold no format of their own.
var helpers = []string{"parsetest", "internal"}

// TestNames: a parser's name in an event says which one it was.
func TestNames(t *testing.T) {
	seen := map[string]bool{}
	check := func(name, title string) {
		if name == "" || strings.ToLower(name) != name || strings.ContainsAny(name, " /") {
			t.Errorf("%q is no name for a parser", name)
		}
		if seen[name] {
			t.Errorf("two parsers are named %q", name)
		}
		if title == "" {
			t.Errorf("%s has no title", name)
		}
		seen[name] = true
	}
	for _, f := range formats.All() {
		check(f.Name, f.Title)
		if !strings.HasPrefix(f.Spec, "https://") && !strings.HasPrefix(f.Spec, "http://") {
			t.Errorf("%s does not link its specification: %q", f.Name, f.Spec)
		}
		if f.Sniff == nil || f.Read == nil {
			t.Errorf("%s can't recognise or read", f.Name)
		}
	}
	for _, a := range formats.Artifacts() {
		check(a.Name, a.Title)
		if a.Claims == nil || a.Read == nil {
			t.Errorf("%s can't claim or read", a.Name)
		}
	}
}

// TestFolders: each folder under parse/ is listed, and has what a parser must have.
func TestFolders(t *testing.T) {
	listed, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var imports bytes.Buffer
	for _, f := range listed {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		imports.Write(b)
	}
	dirs, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	fuzz := regexp.MustCompile(`(?m)^func Fuzz[A-Z]\w*\(`)
	for _, d := range dirs {
		if !d.IsDir() || slices.Contains(helpers, d.Name()) {
			continue
		}
		dir := filepath.Join(root, d.Name())
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		var code, tests bytes.Buffer
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(f, "_test.go") {
				tests.Write(b)
			} else {
				code.Write(b)
			}
		}
		// What only other parsers call (the text inside frames) is listed through them.
		uses := regexp.MustCompile(`(parse|formats)\.(Format|Artifacts)\b`) // some name the package otherwise
		if uses.Match(code.Bytes()) && !strings.Contains(imports.String(), "sherd/parse/"+d.Name()+`"`) {
			t.Errorf("parse/%s is in no list of this package", d.Name())
		}
		if !fuzz.Match(tests.Bytes()) {
			t.Errorf("parse/%s has no fuzz target", d.Name())
		}
		golden, err := filepath.Glob(filepath.Join(dir, "testdata", "*.golden"))
		if err != nil {
			t.Fatal(err)
		}
		if len(golden) == 0 && uses.Match(code.Bytes()) {
			t.Errorf("parse/%s has no golden output", d.Name())
		}
		doc := strings.ToLower(code.String())
		if uses.Match(code.Bytes()) && (!strings.Contains(doc, "prove") || !strings.Contains(doc, "not prove")) {
			t.Errorf("parse/%s does not say what its artifact proves and what it does not prove", d.Name())
		}
	}
}

// TestSniff: of all formats together, each sample is claimed by its own.
func TestSniff(t *testing.T) {
	set := &parse.Set{Formats: formats.All()}
	golden, err := filepath.Glob(filepath.Join(root, "*", "testdata", "*.golden"))
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, g := range golden {
		want := parserOf(t, g)
		if _, ok := set.Named(want); !ok {
			continue // of rows that collectors wrote, or of a text inside others
		}
		sample := strings.TrimSuffix(g, ".golden")
		content, err := os.ReadFile(sample)
		if err != nil {
			continue // a golden of something else than a file
		}
		in, err := parse.NewInput(bytes.NewReader(content), event.Event{})
		if err != nil {
			t.Fatal(err)
		}
		f, sure := set.Choose(in.Head())
		in.Close()
		checked++
		if f == nil {
			t.Errorf("%s is claimed by no format; %s should", sample, want)
		} else if f.Name != want {
			t.Errorf("%s is claimed by %s (%d), not by %s", sample, f.Name, sure, want)
		}
	}
	if want := len(formats.All()) / 2; checked < want {
		t.Errorf("only %d samples were tried", checked)
	}
}

// parserOf is the parser of a golden file's first event.
func parserOf(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var e struct{ Parser string }
		if json.Unmarshal(s.Bytes(), &e) == nil && e.Parser != "" {
			return e.Parser
		}
	}
	return ""
}
