package yara

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	libyara "github.com/hillu/go-yara/v4"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/internal/printable"
)

// Bounds on what rules can make Add hold.
const (
	maxSource   = 64 << 20 // bytes of a file, and of what it includes all in all
	maxRuleText = 4 << 20  // bytes of one rule
	maxInclude  = 16       // files within one another, as libyara has it
	maxRounds   = 16       // of compiling a file anew without what was wrong with it
)

// unit is one file's rules, which see one another and nobody else's.
type unit struct {
	imports []string
	rules   []item
}

// externals are the variables that collections of rules expect, with their values where there is nothing to say.
var externals = []string{"filename", "filepath", "extension", "filetype", "owner"}

// barred are modules whose answers don't follow from the evidence.
var barred = map[string]string{
	"magic":  "its answers depend on a database of the machine that reads",
	"time":   "its answers depend on when the evidence is read",
	"cuckoo": "it reads the report of a sandbox, which there is none of",
}

// knownModule reports whether libyara has a module; asked for once each.
var knownModule = func() func(string) bool {
	var mu sync.Mutex
	known := map[string]bool{}
	return func(name string) bool {
		mu.Lock()
		defer mu.Unlock()
		ok, asked := known[name]
		if !asked {
			_, errs := compile(importLine(name))
			ok = len(errs) == 0
			known[name] = ok
		}
		return ok
	}
}()

func importLine(module string) string { return "import \"" + module + "\"\n" }

// fault is one complaint of libyara's.
type fault struct {
	line int
	why  string
}

// newCompiler makes one that knows the external variables and opens no files.
func newCompiler() (*libyara.Compiler, error) {
	c, err := libyara.NewCompiler()
	if err != nil {
		return nil, err
	}
	c.DisableIncludes()
	for _, v := range externals {
		if err := c.DefineVariable(v, ""); err != nil {
			c.Destroy()
			return nil, err
		}
	}
	return c, nil
}

// compile compiles a source; without faults the rules are there.
func compile(src string) (*libyara.Rules, []fault) {
	c, err := newCompiler()
	if err != nil {
		return nil, []fault{{0, err.Error()}}
	}
	defer c.Destroy()
	err = c.AddString(src, "")
	var faults []fault
	for _, m := range c.Errors {
		faults = append(faults, fault{m.Line, m.Text})
	}
	if err != nil && len(faults) == 0 {
		faults = append(faults, fault{0, err.Error()})
	}
	if len(faults) > 0 {
		return nil, faults
	}
	r, err := c.GetRules()
	if err != nil {
		return nil, []fault{{0, err.Error()}}
	}
	return r, nil
}

// loader takes one file apart.
type loader struct {
	items   []item
	size    int
	refused []detect.Refusal
	unit    unit
	// compiled is what came of the rules of unit, nil if there are none.
	compiled *libyara.Rules
	root     *os.Root // folder of the file, nil if there is none
	folder   string
}

func (l *loader) refuse(it *item, why string) { l.refuseAt(it, it.line, why) }

func (l *loader) refuseAt(it *item, line int, why string) {
	r := detect.Refusal{File: it.file, Line: line, Why: why}
	if it.kind == itemRule {
		r.Rule = it.name
	}
	l.refused = append(l.refused, r)
}

// load takes the rules of a source that can be compiled.
func load(file string, src []byte) *loader {
	l := &loader{folder: filepath.Dir(file)}
	if root, err := os.OpenRoot(l.folder); err == nil {
		l.root = root
		defer root.Close()
	}
	l.read(file, string(src), 0, nil)
	l.pick()
	l.try()
	slices.SortStableFunc(l.refused, func(a, b detect.Refusal) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), strings.Compare(a.Rule, b.Rule))
	})
	return l
}

// read cuts a source up and puts what it includes in its place.
func (l *loader) read(file, src string, depth int, above []string) {
	if l.size += len(src); l.size > maxSource {
		l.refused = append(l.refused, detect.Refusal{File: file, Why: fmt.Sprintf("with what it includes it is larger than %d MiB", maxSource>>20)})
		return
	}
	for _, it := range split(file, src) {
		switch {
		case it.kind != itemInclude:
			l.items = append(l.items, it)
		case it.bad != "":
			l.refuse(&it, it.bad)
		case depth >= maxInclude:
			l.refuse(&it, fmt.Sprintf("includes go deeper than %d files", maxInclude))
		default:
			l.include(&it, depth, above)
		}
	}
}

// include reads an included file, from the folder of the first file or below it and from nowhere else.
func (l *loader) include(it *item, depth int, above []string) {
	name := printable.Clip(it.name, 200)
	rel := filepath.Join(filepath.Dir(it.file), it.name)
	if filepath.IsAbs(it.name) {
		rel = filepath.Clean(it.name)
	}
	inside, err := filepath.Rel(l.folder, rel)
	switch {
	case err != nil || !filepath.IsLocal(inside):
		l.refuse(it, fmt.Sprintf("it includes %q, which lies outside of the folder of the rules", name))
		return
	case slices.Contains(above, inside):
		l.refuse(it, fmt.Sprintf("it includes %q, which includes it", name))
		return
	case l.root == nil:
		l.refuse(it, fmt.Sprintf("it includes %q, and there is no folder to read it from", name))
		return
	}
	src, err := readIn(l.root, inside)
	if err != nil {
		l.refuse(it, fmt.Sprintf("it includes %q, which can't be read: %v", name, err))
		return
	}
	l.read(filepath.Join(l.folder, inside), src, depth+1, append(slices.Clone(above), inside))
}

var errNotFile = errors.New("it is not a regular file")

func readIn(root *os.Root, name string) (string, error) {
	st, err := root.Stat(name)
	if err != nil {
		return "", err
	}
	if !st.Mode().IsRegular() {
		return "", errNotFile
	}
	f, err := root.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSource+1))
	return string(b), err
}

// pick leaves out what can't be right before libyara is asked.
func (l *loader) pick() {
	byName := map[string]*item{}
	missing := map[string]string{}
	for i := range l.items {
		it := &l.items[i]
		switch {
		case it.bad != "" && it.kind != itemBlank:
			l.refuse(it, it.bad)
		case it.kind == itemImport:
			if why := l.module(it.name); why != "" {
				missing[it.name] = why
				if !l.imported(it.name) {
					l.refuse(it, fmt.Sprintf("the module %q can't be used: %s", printable.Clip(it.name, 60), why))
				}
			} else if !slices.Contains(l.unit.imports, it.name) {
				l.unit.imports = append(l.unit.imports, it.name)
			}
		case it.kind != itemRule:
		case strings.IndexByte(it.text, 0) >= 0:
			l.refuse(it, "it holds a zero byte")
		case len(it.text) > maxRuleText:
			l.refuse(it, fmt.Sprintf("it is larger than %d MiB", maxRuleText>>20))
		case byName[it.name] != nil:
			if first := byName[it.name]; it.file == first.file || digest(it.text) != digest(first.text) {
				l.refuse(it, fmt.Sprintf("there is a rule of that name already, in line %d of %s", first.line, printable.Clip(first.file, 200)))
			}
		default:
			byName[it.name] = it
			l.unit.rules = append(l.unit.rules, *it)
		}
	}
	l.unit.rules = slices.DeleteFunc(l.unit.rules, func(it item) bool {
		for _, m := range it.modules {
			if why, ok := missing[m]; ok {
				l.refuse(&it, fmt.Sprintf("it needs the module %q: %s", m, why))
				return true
			}
		}
		return false
	})
}

// imported reports whether an import of a module that is not there was refused before.
func (l *loader) imported(name string) bool {
	return slices.ContainsFunc(l.refused, func(r detect.Refusal) bool {
		return r.Rule == "" && strings.HasPrefix(r.Why, fmt.Sprintf("the module %q ", printable.Clip(name, 60)))
	})
}

// module says why a module can't be used, "" if it can.
func (l *loader) module(name string) string {
	if why := barred[name]; why != "" {
		return why
	}
	for i := range len(name) {
		if !identByte(name[i]) {
			return "it has no name that a module can have"
		}
	}
	if len(name) > 64 || !knownModule(name) {
		return "this build of YARA does not have it"
	}
	return ""
}

// digest is that of what a rule says, without what stands around it.
func digest(text string) [sha256.Size]byte {
	return sha256.Sum256([]byte(strings.TrimSpace(text[lead(text):])))
}

// source puts rules together, and gives the first line of each.
func (u *unit) source(rules []item) (string, []int) {
	var b strings.Builder
	for _, m := range u.imports {
		b.WriteString(importLine(m))
	}
	line := 1 + len(u.imports)
	starts := make([]int, len(rules))
	for i := range rules {
		starts[i] = line
		text := strings.TrimPrefix(rules[i].text, byteOrderMark)
		b.WriteString(text)
		b.WriteByte('\n')
		line += 1 + strings.Count(text, "\n")
	}
	return b.String(), starts
}

// try finds the rules that compile. libyara goes on behind a rule that it can't compile, and says in which line it was; so a few rounds
// leave out all that is wrong. What was left out is then tried by itself, for the blame may have been another's.
func (l *loader) try() {
	u := &l.unit
	good := u.rules
	var bad []item
	for round := 0; len(good) > 0; round++ {
		src, starts := u.source(good)
		var faults []fault
		if l.compiled, faults = compile(src); len(faults) == 0 {
			break
		}
		blamed := map[int]bool{}
		for _, f := range faults {
			if i, ok := slices.BinarySearch(starts, f.line); ok {
				blamed[i] = true
			} else if i > 0 {
				blamed[i-1] = true
			}
		}
		var rest []item
		for i := range good {
			if blamed[i] || round >= maxRounds {
				bad = append(bad, good[i])
			} else {
				rest = append(rest, good[i])
			}
		}
		if len(rest) == len(good) {
			bad, rest = append(bad, good...), nil
		}
		good = rest
	}
	if len(bad) > 0 {
		good = l.again(good, bad)
	}
	for i := range u.rules {
		if it := &u.rules[i]; it.global && !has(good, it.name) {
			for j := range good {
				l.refuse(&good[j], fmt.Sprintf("the global rule %q, which holds for it, can't be loaded", it.name))
			}
			good, l.compiled = nil, nil
			break
		}
	}
	u.rules = good
}

func has(rules []item, name string) bool {
	return slices.ContainsFunc(rules, func(it item) bool { return it.name == name })
}

// again tries each rule that was left out with those that it refers to and nothing else, and refuses those that don't compile.
func (l *loader) again(good, bad []item) []item {
	u := &l.unit
	place := map[string]int{}
	for i := range u.rules {
		place[u.rules[i].name] = i
	}
	order := func(a, b item) int { return place[a.name] - place[b.name] }
	slices.SortStableFunc(bad, order)
	have := map[string]item{}
	for _, it := range good {
		have[it.name] = it
	}
	back := false
	for i := range bad {
		it := &bad[i]
		if ref := missingRule(it, place, have); ref != "" {
			l.refuse(it, fmt.Sprintf("it refers to the rule %q, which can't be loaded", ref))
			continue
		}
		src, starts := u.source(slices.SortedFunc(slices.Values(append(closure(it, have), *it)), order))
		_, faults := compile(src)
		if len(faults) == 0 {
			have[it.name], back = *it, true
			continue
		}
		line := it.line
		if f := faults[0].line; f >= starts[len(starts)-1] {
			line = min(it.top+f-starts[len(starts)-1], it.top+strings.Count(it.text, "\n"))
		}
		l.refuseAt(it, max(line, it.line), printable.Clip(faults[0].why, 300))
	}
	if !back {
		return good
	}
	all := make([]item, 0, len(have))
	for i := range u.rules {
		if it, ok := have[u.rules[i].name]; ok {
			all = append(all, it)
		}
	}
	src, _ := u.source(all)
	if compiled, faults := compile(src); len(faults) == 0 {
		l.compiled = compiled
		return all
	}
	for i := range all {
		if !has(good, all[i].name) {
			l.refuse(&all[i], "it does not compile together with the other rules of its file")
		}
	}
	return good
}

// missingRule names a rule of the file that a condition refers to and that is not to be had.
func missingRule(it *item, place map[string]int, have map[string]item) string {
	for _, id := range it.uses {
		if _, of := place[id]; of && id != it.name {
			if _, ok := have[id]; !ok {
				return id
			}
		}
	}
	return ""
}

// closure gives the rules that a rule refers to, and those that these refer to.
func closure(it *item, have map[string]item) []item {
	in := map[string]bool{it.name: true}
	var out []item
	todo := slices.Clone(it.uses)
	take := func(id string) {
		if r, ok := have[id]; ok && !in[id] {
			in[id] = true
			out = append(out, r)
			todo = append(todo, r.uses...)
		}
	}
	for len(todo) > 0 {
		id := todo[0]
		todo = todo[1:]
		prefix, many := strings.CutSuffix(id, "*")
		if !many {
			take(id)
			continue
		}
		for name := range have {
			if strings.HasPrefix(name, prefix) {
				take(name)
			}
		}
	}
	return out
}
