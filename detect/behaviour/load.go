package behaviour

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/verdict"
)

// Bounds on rule files.
const (
	maxFile  = 4 << 20
	maxRules = 10_000 // of a set
	maxText  = 16 << 10
)

// definition is one rule as it is written.
type definition struct {
	line                   int
	id, title              string
	severity               verdict.Severity
	attack                 string
	rationale, falseAlarms string
	needs                  []detect.Fact
	over                   string
	when, say              *yaml.Node
	foreign, once          *yaml.Node
	grades                 []gradeDefinition
}

type gradeDefinition struct {
	severity  verdict.Severity
	attack    string
	when, say *yaml.Node
	foreign   *yaml.Node
}

// wrong is what is wrong with a rule, and where.
type wrong struct {
	line int
	why  string
}

func (w *wrong) Error() string { return w.why }

func wrongAt(n *yaml.Node, format string, args ...any) error {
	return &wrong{n.Line, fmt.Sprintf(format, args...)}
}

// read reads a file's rules. Each document of the file is one rule; what is wrong with one does not touch the others.
func read(file string, src []byte) ([]definition, []detect.Refusal) {
	if len(src) > maxFile {
		return nil, []detect.Refusal{{File: file, Why: fmt.Sprintf("it has %d bytes; a file of rules may have %d", len(src), maxFile)}}
	}
	var out []definition
	var refused []detect.Refusal
	for d := yaml.NewDecoder(bytes.NewReader(src)); ; {
		var doc yaml.Node
		err := d.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return out, refused
		}
		if err != nil {
			line, why := yamlError(err)
			return out, append(refused, detect.Refusal{File: file, Line: line, Why: why})
		}
		if len(doc.Content) == 0 || doc.Content[0].Tag == "!!null" {
			continue
		}
		def, err := readRule(doc.Content[0])
		if err != nil {
			refused = append(refused, refusal(file, def.id, def.line, err))
			continue
		}
		if len(out) >= maxRules {
			return out, append(refused, detect.Refusal{File: file, Line: def.line, Why: fmt.Sprintf("it has more than %d rules", maxRules)})
		}
		out = append(out, def)
	}
}

func refusal(file, id string, line int, err error) detect.Refusal {
	r := detect.Refusal{File: file, Line: line, Rule: id, Why: err.Error()}
	var w *wrong
	if errors.As(err, &w) && w.line > 0 {
		r.Line = w.line
	}
	return r
}

var yamlLine = regexp.MustCompile(`line (\d+): `)

// yamlError takes the line out of what the YAML parser says.
func yamlError(err error) (line int, why string) {
	why = strings.TrimPrefix(err.Error(), "yaml: ")
	if m := yamlLine.FindStringSubmatchIndex(why); m != nil {
		_, _ = fmt.Sscan(why[m[2]:m[3]], &line) // digits, as the expression says
		why = why[:m[0]] + why[m[1]:]
	}
	return line, "it is no YAML: " + why
}

var (
	idPattern     = regexp.MustCompile(`^[a-z0-9]+([-_.][a-z0-9]+)*$`)
	attackPattern = regexp.MustCompile(`^T[0-9]{4}([.][0-9]{3})?$`)
)

// described are keys that a rule may have for its reader's sake.
var described = []string{"author", "date", "modified", "references", "license"}

func readRule(n *yaml.Node) (definition, error) {
	d := definition{line: n.Line}
	if n.Kind != yaml.MappingNode {
		return d, wrongAt(n, "it is no rule: keys with values are expected, id: and so on")
	}
	// The name first, so that what is wrong with the rest is said of it.
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == "id" && n.Content[i+1].Kind == yaml.ScalarNode {
			d.id = n.Content[i+1].Value
		}
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, v := n.Content[i], n.Content[i+1]
		if seen[key.Value] {
			return d, wrongAt(key, "%s stands there twice", key.Value)
		}
		seen[key.Value] = true
		if err := d.set(key, v); err != nil {
			return d, err
		}
	}
	return d, d.complete(n)
}

func (d *definition) set(key, v *yaml.Node) (err error) {
	switch key.Value {
	case "id":
		if d.id, err = word(v); err == nil && (len(d.id) > 100 || !idPattern.MatchString(d.id)) {
			err = wrongAt(v, "an id is lower-case letters and digits with - between them, as in process-renamed")
		}
	case "title":
		d.title, err = word(v)
	case "severity":
		d.severity, err = severity(v)
	case "attack":
		d.attack, err = attack(v)
	case "rationale":
		d.rationale, err = word(v)
	case "false_alarms":
		d.falseAlarms, err = word(v)
	case "needs":
		d.needs, err = needs(v)
	case "for":
		if d.over, err = word(v); err == nil && rangeOver(d.over) == nil {
			err = wrongAt(v, "a rule can't range over %q; it can over %s", d.over, strings.Join(rangeNames(), ", "))
		}
	case "when":
		d.when, err = v, expression(v)
	case "say":
		d.say, err = v, expression(v)
	case "foreign":
		d.foreign, err = v, expression(v)
	case "once":
		d.once, err = v, expression(v)
	case "grades":
		d.grades, err = grades(v)
	default:
		if !slices.Contains(described, key.Value) {
			err = wrongAt(key, "there is no %q in a rule", key.Value)
		}
	}
	return err
}

// complete reports what a rule lacks.
func (d *definition) complete(n *yaml.Node) error {
	for _, need := range []struct {
		name string
		has  bool
	}{{"id", d.id != ""}, {"title", d.title != ""}, {"severity", d.severity != ""}, {"for", d.over != ""}, {"when", d.when != nil}, {"say", d.say != nil}} {
		if !need.has {
			return wrongAt(n, "it has no %s", need.name)
		}
	}
	for i := range d.grades {
		if g := &d.grades[i]; g.severity.Rank() > d.severity.Rank() {
			return wrongAt(g.when, "a grade is %s, graver than the rule's %s; severity is that of the gravest hit", g.severity, d.severity)
		}
	}
	return nil
}

func word(v *yaml.Node) (string, error) {
	if v.Kind != yaml.ScalarNode {
		return "", wrongAt(v, "a text is expected here")
	}
	if len(v.Value) > maxText {
		return "", wrongAt(v, "this text has %d bytes, more than %d", len(v.Value), maxText)
	}
	return strings.TrimSpace(v.Value), nil
}

func expression(v *yaml.Node) error {
	s, err := word(v)
	if err == nil && s == "" {
		err = wrongAt(v, "an expression is expected here")
	}
	return err
}

func severity(v *yaml.Node) (verdict.Severity, error) {
	s, err := word(v)
	if err == nil && (s == "" || verdict.Severity(s).Rank() < 0) {
		err = wrongAt(v, "%q is no severity: info, low, medium, high or critical", s)
	}
	return verdict.Severity(s), err
}

func attack(v *yaml.Node) (string, error) {
	s, err := word(v)
	if err == nil && s != "" && !attackPattern.MatchString(s) {
		err = wrongAt(v, "%q is no technique of MITRE ATT&CK, T1059 or T1059.004", s)
	}
	return s, err
}

func needs(v *yaml.Node) ([]detect.Fact, error) {
	all := []detect.Fact{detect.Processes, detect.Environments, detect.Memory, detect.Inventory, detect.Baseline, detect.Mounts, detect.Sockets, detect.Config}
	if v.Kind != yaml.SequenceNode {
		return nil, wrongAt(v, "a list of facts is expected here: [processes, sockets]")
	}
	var out []detect.Fact
	for _, x := range v.Content {
		s, err := word(x)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(all, detect.Fact(s)) {
			return nil, wrongAt(x, "there is no fact %q; there are %s", s, join(all))
		}
		out = append(out, detect.Fact(s))
	}
	return out, nil
}

func join[T ~string](list []T) string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = string(s)
	}
	return strings.Join(out, ", ")
}

const maxGrades = 20

func grades(v *yaml.Node) ([]gradeDefinition, error) {
	if v.Kind != yaml.SequenceNode || len(v.Content) > maxGrades {
		return nil, wrongAt(v, "a list of at most %d grades is expected here, each with when and severity", maxGrades)
	}
	var out []gradeDefinition
	for _, x := range v.Content {
		var g gradeDefinition
		if x.Kind != yaml.MappingNode {
			return nil, wrongAt(x, "a grade has when and severity")
		}
		for i := 0; i+1 < len(x.Content); i += 2 {
			key, v := x.Content[i], x.Content[i+1]
			var err error
			switch key.Value {
			case "when":
				g.when, err = v, expression(v)
			case "severity":
				g.severity, err = severity(v)
			case "attack":
				g.attack, err = attack(v)
			case "say":
				g.say, err = v, expression(v)
			case "foreign":
				g.foreign, err = v, expression(v)
			default:
				err = wrongAt(key, "there is no %q in a grade", key.Value)
			}
			if err != nil {
				return nil, err
			}
		}
		if g.when == nil || g.severity == "" {
			return nil, wrongAt(x, "a grade has when and severity")
		}
		out = append(out, g)
	}
	return out, nil
}
