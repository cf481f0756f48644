// Package ruleset loads rules of all languages from files and folders, and tells which can't be loaded and why.
//
// A file is what its name and content say: .yar and .yara are YARA; YAML with a detection or a correlation is Sigma; YAML with "when" is
// behaviour. Folders are walked in the order of names, regular files only; symbolic links are not followed.
package ruleset

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/detect/behaviour"
	"github.com/sherd-forensics/sherd/detect/sigma"
	"github.com/sherd-forensics/sherd/detect/yara"
	"github.com/sherd-forensics/sherd/internal/printable"
	"github.com/sherd-forensics/sherd/verdict"
)

// Bounds of what is read.
const (
	maxFiles = 100_000
	maxBytes = 16 << 20 // of one file
	maxAll   = 1 << 30  // of all files
	maxDepth = 32       // of folders
)

// Loader is a set of rules in one language that files can be added to. Rules of one file that can't be loaded are refused, and the rest of
// it is loaded.
type Loader interface {
	detect.Language
	Add(file string, src []byte) (loaded int, refused []detect.Refusal)
}

// resolver is a language whose rules rest on each other: only when all are added can it be told what is missing.
type resolver interface{ Resolve() []detect.Refusal }

// Set is the rules of all languages.
type Set struct {
	Sigma *sigma.Set
	// Loaded counts the rules that were loaded from files, by language.
	Loaded  map[string]int
	Refused []detect.Refusal
	// Left are files and folders that were not read, with the reason.
	Left    []detect.Refusal
	loaders map[kind]Loader
}

// kind of file.
type kind string

const (
	none      kind = ""
	isSigma   kind = "Sigma"
	isYARA    kind = "YARA"
	isCEL     kind = "behaviour"
	isUnknown kind = "unknown"
)

// New makes a set with the rules that Sherd brings along.
func New() *Set { return with(sigma.New(), yara.New()) }

// Empty makes a set without any.
func Empty() *Set { return with(sigma.Empty(), yara.Empty()) }

// with makes a set of languages. A language more is a line here.
func with(s *sigma.Set, y *yara.Set) *Set {
	return &Set{Sigma: s, Loaded: map[string]int{}, loaders: map[kind]Loader{isYARA: y, isSigma: s, isCEL: behaviour.New()}}
}

// Languages are those that have rules, in the order in which they are asked.
func (s *Set) Languages() []detect.Language {
	var out []detect.Language
	for _, k := range []kind{isYARA, isSigma, isCEL} {
		if k == isCEL && s.Loaded[string(isCEL)] == 0 {
			continue // Sherd's own are asked of every package
		}
		if l := s.loaders[k]; l != nil && len(l.Rules()) > 0 {
			out = append(out, l)
		}
	}
	if len(s.Refused)+len(s.Left) > 0 {
		out = append(out, &refused{len(s.Refused) + len(s.Left), s.total()})
	}
	return out
}

// refused tells in one gap that rules were given which nobody asked.
type refused struct{ count, loaded int }

var refusedRule = detect.Rule{ID: "rules-not-loaded", Title: "Rules that can't be loaded", Severity: verdict.Info, Origin: "the rules that were given",
	Rationale: "A rule that was not asked says nothing."}

// Name is what the gap is about.
func (r *refused) Name() string { return "rules" }

// Rules are none.
func (r *refused) Rules() []detect.Rule { return nil }

// Answers is blindness.
func (r *refused) Answers(context.Context, detect.Input) ([]detect.Answer, error) {
	a := detect.Answer{Rule: &refusedRule}
	a.BlindTo(fmt.Sprintf("%d of %d rules that were given", r.count, r.count+r.loaded), "they can't be loaded: `sherd rules check` says why")
	return []detect.Answer{a}, nil
}

// Rules lists the rules of all languages, but for those in CEL that Sherd brings along: they are asked of every package, and listed with it.
func (s *Set) Rules() []detect.Rule {
	var out []detect.Rule
	for _, l := range s.Languages() {
		for _, r := range l.Rules() {
			if l != detect.Language(s.loaders[isCEL]) || r.Origin != "" {
				out = append(out, r)
			}
		}
	}
	return out
}

// Folders are the folders of a package whose events the rules look at; nil if that is all of them.
func (s *Set) Folders() []string {
	out := []string{}
	for k, l := range s.loaders {
		switch l := l.(type) {
		case interface{ Folders() []string }:
			out = append(out, l.Folders()...)
		default:
			if k == isCEL && s.Loaded[string(isCEL)] > 0 { // a rule may be over events of any kind
				return nil
			}
		}
	}
	return out
}

// Load reads files and folders. An error says that one can't be read at all, or that nothing in it is a rule that can be loaded; single
// rules and files that can't be loaded are in Refused.
func (s *Set) Load(paths ...string) error {
	for _, path := range paths {
		before := s.total() + len(s.Refused)
		loaded := s.total()
		if err := s.load(path); err != nil {
			return err
		}
		switch {
		case s.total()+len(s.Refused) == before:
			return fmt.Errorf("%s has no rules: YARA (.yar, .yara), Sigma and behaviour (.yml, .yaml) are looked for", printable.Text(path))
		case s.total() == loaded:
			r := s.Refused[len(s.Refused)-1]
			return fmt.Errorf("no rule of %s can be loaded; the last: %s: %s (`sherd rules check` tells all)", printable.Text(path), printable.Text(r.File), printable.Text(r.Why))
		}
	}
	s.resolve()
	return nil
}

// Check is Load for a user who wants to know: what can't be loaded is never an error.
func (s *Set) Check(paths ...string) error {
	for _, path := range paths {
		if err := s.load(path); err != nil {
			return err
		}
	}
	s.resolve()
	return nil
}

func (s *Set) total() int {
	n := 0
	for _, c := range s.Loaded {
		n += c
	}
	return n
}

func (s *Set) resolve() {
	for k, l := range s.loaders {
		if r, ok := l.(resolver); ok {
			refused := r.Resolve()
			s.Loaded[string(k)] -= len(refused)
			s.Refused = append(s.Refused, refused...)
		}
	}
	slices.SortStableFunc(s.Refused, func(a, b detect.Refusal) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
}

func (s *Set) load(path string) error {
	info, err := os.Stat(path) // what the user names may be a link
	if err != nil {
		return fmt.Errorf("reading rules: %w", err)
	}
	if info.Mode().IsRegular() {
		return s.file(path, true)
	}
	if !info.IsDir() {
		return fmt.Errorf("reading rules: %s is neither a file nor a folder", printable.Text(path))
	}
	root := filepath.Clean(path)
	files, all := 0, int64(0)
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			s.left(p, err.Error())
			return nil //nolint:nilerr // it is told
		case p == root:
			return nil
		case d.IsDir():
			if strings.HasPrefix(d.Name(), ".") {
				return filepath.SkipDir // of version control
			}
			if strings.Count(p[len(root):], string(filepath.Separator)) > maxDepth {
				s.left(p, fmt.Sprintf("folders deeper than %d are not read", maxDepth))
				return filepath.SkipDir
			}
			return nil
		case !d.Type().IsRegular():
			return nil
		}
		if files++; files > maxFiles {
			s.left(p, fmt.Sprintf("only the first %d files are read", maxFiles))
			return filepath.SkipAll
		}
		if info, err := d.Info(); err == nil {
			all += info.Size()
		}
		if all > maxAll {
			s.left(p, fmt.Sprintf("only the first %d bytes are read", int64(maxAll)))
			return filepath.SkipAll
		}
		return s.file(p, false)
	})
	return err
}

func (s *Set) left(path, why string) {
	s.Left = append(s.Left, detect.Refusal{File: path, Why: why})
}

// file loads one file. A file that was named by the user is refused if it is no rule; one of a folder is passed over.
func (s *Set) file(path string, named bool) error {
	ext := strings.ToLower(filepath.Ext(path))
	if !slices.Contains([]string{".yml", ".yaml", ".yar", ".yara"}, ext) && !named {
		return nil
	}
	src, err := read(path)
	if err != nil {
		if named {
			return err
		}
		s.Refused = append(s.Refused, detect.Refusal{File: path, Why: err.Error()})
		return nil
	}
	k := classify(ext, src)
	switch {
	case k == none && !named:
		return nil
	case k == none || k == isUnknown:
		s.Refused = append(s.Refused, detect.Refusal{File: path, Why: "it is no rule: YARA, Sigma (detection, correlation) and behaviour (when) are known"})
		return nil
	}
	l := s.loaders[k]
	if l == nil {
		s.Refused = append(s.Refused, detect.Refusal{File: path, Why: "rules of " + string(k) + " can't be loaded by this program"})
		return nil
	}
	n, refused := l.Add(path, src)
	s.Loaded[string(k)] += n
	s.Refused = append(s.Refused, refused...)
	return nil
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading rules: %w", err)
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading rules: %w", err)
	}
	if len(src) > maxBytes {
		return nil, errors.New("the file has more than 16 MiB")
	}
	return src, nil
}

var (
	ofSigma = regexp.MustCompile(`(?m)^(detection|correlation|logsource|filter|action)\s*:`)
	ofCEL   = regexp.MustCompile(`(?m)^(\s*-\s+|\s*)when\s*:`)
)

// classify says what a file is. YAML that is none of ours is passed over: collections have configurations beside their rules.
func classify(ext string, src []byte) kind {
	switch {
	case ext == ".yar" || ext == ".yara":
		return isYARA
	case ofSigma.Match(src):
		return isSigma
	case ofCEL.Match(src):
		return isCEL
	case ext == ".yml" || ext == ".yaml":
		return none
	}
	return isUnknown
}
