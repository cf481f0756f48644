package sigma

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/internal/printable"
	"github.com/sherd-forensics/sherd/lake/query"
	"github.com/sherd-forensics/sherd/verdict"
)

// Bounds of files and sets.
const (
	maxFile      = 4 << 20 // bytes of one file
	maxDocuments = 5000    // in one file
	maxYAML      = 200_000 // nodes of one document
	maxRules     = 50_000  // of one set
)

// rule is one rule of Sigma: one with a detection has a query, the other kind a correlation.
type rule struct {
	detect.Rule
	id, name string
	file     string
	line     int
	level    verdict.Severity
	source   *source
	query    *query.Query
	cor      *correlation
	// hidden rules serve a correlation and have no findings of their own.
	hidden  bool
	serving bool // a correlation rests on it
	// fields are what correlations need of this rule's events, by the name that the rule's events have for it.
	fields []string
	values []*query.Field
}

func clip(s string, n int) string { return printable.Clip(s, n) }

// Add loads the rules of one file, which may have several documents. What can't be run is refused, rule by rule, and the rest is loaded. A
// correlation may name rules of files that are added later; Resolve says which are missing in the end.
func (s *Set) Add(file string, src []byte) (loaded int, refused []detect.Refusal) {
	s.matcher, s.resolved = nil, false
	refuse := func(line int, name string, err error) {
		var at *lineError
		if errors.As(err, &at) && at.line > 0 {
			line = at.line
		}
		refused = append(refused, detect.Refusal{File: file, Line: line, Rule: clip(name, 120), Why: err.Error()})
	}
	if len(src) > maxFile {
		refuse(0, "", fmt.Errorf("the file has more than %d bytes", maxFile))
		return loaded, refused
	}
	docs, err := documents(src)
	for _, doc := range docs {
		r, err := s.rule(file, doc)
		name := ""
		if r != nil {
			name = r.Title
		}
		if err == nil {
			err = s.admit(r)
		}
		if err != nil {
			refuse(doc.Line, name, err)
			continue
		}
		loaded++
	}
	if err != nil {
		refuse(yamlLine(err), "", err)
	}
	return loaded, refused
}

// documents reads the documents of a file up to the first that is no YAML.
func documents(src []byte) (docs []*yaml.Node, err error) {
	defer func() {
		if r := recover(); r != nil { // of the library, on a file that somebody else chose
			err = fmt.Errorf("it is no YAML that can be read: %v", r)
		}
	}()
	d := yaml.NewDecoder(bytes.NewReader(src))
	for len(docs) < maxDocuments {
		var n yaml.Node
		switch err := d.Decode(&n); {
		case errors.Is(err, io.EOF):
			return docs, nil
		case err != nil:
			return docs, fmt.Errorf("it is no YAML: %w", err)
		}
		if n.Kind != yaml.DocumentNode || len(n.Content) != 1 {
			continue
		}
		root := n.Content[0]
		if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
			continue // an empty document
		}
		left := maxYAML
		if !small(root, &left, 0) {
			return docs, fmt.Errorf("a document has more than %d parts, or refers to itself", maxYAML)
		}
		docs = append(docs, root)
	}
	return docs, fmt.Errorf("only the first %d documents are read", maxDocuments)
}

// small bounds a document with its aliases followed.
func small(n *yaml.Node, left *int, depth int) bool {
	if *left--; *left < 0 || depth > 100 {
		return false
	}
	if n.Kind == yaml.AliasNode {
		return n.Alias != nil && small(n.Alias, left, depth+1)
	}
	for _, c := range n.Content {
		if !small(c, left, depth+1) {
			return false
		}
	}
	return true
}

var lineOf = regexp.MustCompile(`line (\d+)`)

func yamlLine(err error) int {
	if m := lineOf.FindStringSubmatch(err.Error()); m != nil {
		n, _ := strconv.Atoi(m[1])
		return n
	}
	return 0
}

// entry is the value of a key of a map, nil if there is none.
func entry(n *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return follow(n.Content[i+1])
		}
	}
	return nil
}

func scalar(n *yaml.Node, key string) string {
	if v := entry(n, key); v != nil && v.Kind == yaml.ScalarNode && v.Tag != "!!null" {
		return strings.TrimSpace(v.Value)
	}
	return ""
}

// rule reads one document. Where the rule is refused, its title is given all the same.
func (s *Set) rule(file string, n *yaml.Node) (*rule, error) {
	r := &rule{file: file, line: n.Line}
	if n.Kind != yaml.MappingNode {
		return nil, errors.New("it is no rule of Sigma: a map is expected")
	}
	r.Title, r.id, r.name = scalar(n, "title"), scalar(n, "id"), scalar(n, "name")
	if r.Title == "" {
		r.Title = r.name
	}
	switch {
	case scalar(n, "action") != "":
		return r, errors.New("action: collections of Sigma's first version are not read; each document is a rule of its own")
	case entry(n, "filter") != nil:
		return r, errors.New("filter: rules that change other rules are not supported")
	case r.Title == "":
		return r, errors.New("it has no title")
	case len(r.Title) > 1000 || len(r.id) > 200 || len(r.name) > 200:
		return r, errors.New("its title, id or name is too long")
	}
	if status := scalar(n, "status"); status == "unsupported" {
		return r, errors.New("its status is unsupported: its author says that it can't be used as it is")
	}
	if err := r.describe(n); err != nil {
		return r, err
	}
	det, cor := entry(n, "detection"), entry(n, "correlation")
	switch {
	case det != nil && cor != nil:
		return r, errors.New("it has both a detection and a correlation")
	case cor != nil:
		c, err := parseCorrelation(cor)
		if err == nil && scalar(n, "generate") == "true" { // the schema has it here, older texts in the correlation
			c.generate = true
		}
		r.cor = c
		return r, err
	case det == nil:
		return r, errors.New("it has no detection")
	}
	l, err := logsourceOf(entry(n, "logsource"))
	if err != nil {
		return r, err
	}
	var why string
	if r.source, why = find(l); r.source == nil {
		return r, errors.New(why)
	}
	d := &detection{source: r.source, placeholders: s.Placeholders}
	root, err := d.compile(det)
	if err != nil {
		return r, err
	}
	r.query = &query.Query{Text: r.Title, Root: root}
	return r, nil
}

func logsourceOf(n *yaml.Node) (logsource, error) {
	if n == nil || n.Kind != yaml.MappingNode {
		return logsource{}, errors.New("it has no logsource")
	}
	low := func(k string) string { return strings.ToLower(scalar(n, k)) }
	return logsource{low("product"), low("category"), low("service")}, nil
}

// levels of Sigma, and what they are here.
var levels = map[string]verdict.Severity{
	"informational": verdict.Info, "low": verdict.Low, "medium": verdict.Medium, "high": verdict.High, "critical": verdict.Critical, "": verdict.Medium,
}

var technique = regexp.MustCompile(`^attack\.(t\d{4}(?:\.\d{3})?)$`)

// describe fills in what `sherd rules` shows.
func (r *rule) describe(n *yaml.Node) error {
	level, ok := levels[strings.ToLower(scalar(n, "level"))]
	if !ok {
		return fmt.Errorf("level %s is not known", clip(scalar(n, "level"), 40))
	}
	r.level, r.Severity, r.Language = level, level, Name
	r.Title = clip(r.Title, 200)
	r.Rationale = clip(strings.Join(strings.Fields(scalar(n, "description")), " "), 2000)
	for _, x := range []struct {
		key string
		use func([]string)
	}{
		{"tags", func(l []string) {
			for _, t := range l {
				if m := technique.FindStringSubmatch(strings.ToLower(t)); m != nil && r.Technique == "" {
					r.Technique = strings.ToUpper(m[1])
				}
			}
		}},
		{"falsepositives", func(l []string) { r.FalseAlarms = clip(strings.Join(l, "; "), 2000) }},
		{"fields", func([]string) {}},
	} {
		v := entry(n, x.key)
		if v == nil || v.Tag == "!!null" {
			continue
		}
		list, err := words(v)
		if err != nil {
			return fmt.Errorf("%s: %w", x.key, err)
		}
		x.use(list)
	}
	if rel := entry(n, "related"); rel != nil && rel.Tag != "!!null" && rel.Kind != yaml.SequenceNode {
		return errors.New("related is no list")
	}
	return nil
}

// admit puts a rule into the set, unless there is one of its id or name.
func (s *Set) admit(r *rule) error {
	if len(s.rules) >= maxRules {
		return fmt.Errorf("there are %d rules already", maxRules)
	}
	for _, key := range []string{r.id, r.name} {
		if other := s.byName[key]; key != "" && other != nil && other != r {
			return fmt.Errorf("%s names a rule of %s already", clip(key, 80), clip(other.file, 120))
		}
	}
	r.ID = r.name
	if r.ID == "" {
		r.ID = r.id
	}
	if r.ID == "" {
		r.ID = strings.ToLower(strings.Join(strings.FieldsFunc(r.Title, func(c rune) bool { return !word(c) }), "-"))
	}
	r.ID = clip(r.ID, 120)
	if s.ids[r.ID] {
		return fmt.Errorf("there is a rule %s already", r.ID)
	}
	if !s.own {
		r.Origin = r.file
	}
	s.ids[r.ID] = true
	for _, key := range []string{r.id, r.name} {
		if key != "" {
			s.byName[key] = r
		}
	}
	s.rules = append(s.rules, r)
	return nil
}
