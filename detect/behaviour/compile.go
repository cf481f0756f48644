package behaviour

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"go.yaml.in/yaml/v3"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/verdict"
)

// Bounds on one expression and on what asking it may cost, in CEL's units: about one for each step, and one for ten characters of text that
// a step looks at.
const (
	maxDepth   = 60
	maxLoops   = 2           // exists() inside of exists()
	maxCost    = 100_000     // for one object
	maxRuleSum = 100_000_000 // for all of them
	maxOver    = 20          // objects that may cost more than maxCost before a rule is given up
	maxRegexp  = 2_000       // instructions of a compiled expression
)

// rule is one rule, ready to be asked.
type rule struct {
	detect.Rule
	over          *ranging
	guard         cel.Program // what of when has no loop; nil if that is all of it, or nothing
	when, say     cel.Program
	foreign, once cel.Program // nil if the rule does not say
	grades        []grade
}

// grade is what a hit becomes if its condition holds too.
type grade struct {
	severity verdict.Severity
	attack   string
	when     cel.Program
	say      cel.Program // nil to say what the rule says
	foreign  cel.Program // nil to judge as the rule does
}

// base are the environments that those of all rules extend: for conditions, and for statements, which can't say secrets.
var base = sync.OnceValues(func() (both [2]*cel.Env, err error) {
	for i, secrets := range []bool{true, false} {
		p, err := newProvider(secrets)
		if err != nil {
			return both, err
		}
		opts := []cel.EnvOption{
			cel.CustomTypeAdapter(p.Registry), cel.CustomTypeProvider(p),
			cel.ParserRecursionLimit(maxDepth), cel.ParserExpressionSizeLimit(maxText), cel.DefaultUTCTimeZone(true), cel.RegexProgramSizeLimit(maxRegexp),
			cel.ASTValidators(cel.ValidateRegexLiterals(), cel.ValidateDurationLiterals(), cel.ValidateTimestampLiterals(), cel.ValidateComprehensionNestingLimit(maxLoops),
				cel.ValidateRegexProgramSizeLimit(maxRegexp)),
		}
		for _, f := range functions() {
			opts = append(opts, cel.Function(f.name, f.opts...))
		}
		if both[i], err = cel.NewEnv(opts...); err != nil {
			return both, err
		}
	}
	return both, nil
})

// environments has those of each range, made when a rule first asks for one.
var environments struct {
	sync.Mutex
	by map[string][2]*cel.Env
}

func environmentOf(r *ranging) ([2]*cel.Env, error) {
	environments.Lock()
	defer environments.Unlock()
	if e, ok := environments.by[r.name]; ok {
		return e, nil
	}
	both, err := base()
	if err != nil {
		return both, fmt.Errorf("prepare the language: %w", err)
	}
	opts := make([]cel.EnvOption, 0, len(r.kinds)+1)
	for _, k := range append(slices.Clone(r.kinds), containerKind) {
		opts = append(opts, cel.Variable(k.name, typeOf(k.name)))
	}
	for i := range both {
		if both[i], err = both[i].Extend(opts...); err != nil {
			return both, fmt.Errorf("prepare the language: %w", err)
		}
	}
	if environments.by == nil {
		environments.by = map[string][2]*cel.Env{}
	}
	environments.by[r.name] = both
	return both, nil
}

// compile makes a rule of a definition.
func compile(d *definition, origin string) (*rule, error) {
	over := rangeOver(d.over)
	env, err := environmentOf(over)
	if err != nil {
		return nil, err
	}
	r := &rule{over: over, Rule: detect.Rule{
		ID: d.id, Title: d.title, Severity: d.severity, Technique: d.attack, Rationale: d.rationale, FalseAlarms: d.falseAlarms, Language: language, Origin: origin,
		Needs: slices.Clone(over.needs),
	}}
	for _, need := range d.needs {
		if !slices.Contains(r.Needs, need) {
			r.Needs = append(r.Needs, need)
		}
	}
	when, say := env[0], env[1]
	compileAll := func(parts ...part) error {
		for _, p := range parts {
			if p.n == nil {
				continue
			}
			parsed, err := check(p.env, p.name, p.n, p.want...)
			if err != nil {
				return err
			}
			if *p.into, err = plan(p.env, parsed); err != nil {
				return wrongAt(p.n, "%s: %s", p.name, err)
			}
			if p.into == &r.when {
				if r.guard, err = guard(p.env, parsed); err != nil {
					return wrongAt(p.n, "%s: %s", p.name, err)
				}
			}
		}
		return nil
	}
	if err := compileAll(part{"when", d.when, when, &r.when, []*cel.Type{cel.BoolType}}, part{"say", d.say, say, &r.say, []*cel.Type{cel.StringType}},
		part{"foreign", d.foreign, when, &r.foreign, []*cel.Type{cel.BoolType}},
		part{"once", d.once, when, &r.once, []*cel.Type{cel.StringType, cel.IntType}}); err != nil {
		return nil, err
	}
	for i := range d.grades {
		from := &d.grades[i]
		g := grade{severity: from.severity, attack: from.attack}
		if err := compileAll(part{"when", from.when, when, &g.when, []*cel.Type{cel.BoolType}}, part{"say", from.say, say, &g.say, []*cel.Type{cel.StringType}},
			part{"foreign", from.foreign, when, &g.foreign, []*cel.Type{cel.BoolType}}); err != nil {
			return nil, err
		}
		r.grades = append(r.grades, g)
	}
	return r, nil
}

// part is one expression of a rule.
type part struct {
	name string
	n    *yaml.Node
	env  *cel.Env
	into *cel.Program
	want []*cel.Type
}

// check types an expression, and refuses what it may not do.
func check(env *cel.Env, name string, n *yaml.Node, want ...*cel.Type) (*ast.AST, error) {
	parsed, issues := env.Compile(strings.TrimRight(n.Value, "\n"))
	if issues.Err() != nil {
		return nil, celError(env, name, n, issues)
	}
	if !slices.ContainsFunc(want, func(t *cel.Type) bool { return parsed.OutputType().IsExactType(t) }) {
		return nil, wrongAt(n, "%s is a %s; it must be a %s", name, typeName(parsed.OutputType()), typeName(want[0]))
	}
	if err := checkCalls(parsed.NativeRep()); err != nil {
		return nil, wrongAt(n, "%s: %s", name, err)
	}
	return parsed.NativeRep(), nil
}

// plan makes a program of a checked expression. What one without a loop costs is at most its own length times that of what it looks at, and
// is not worth counting, which takes as long as the evaluation.
func plan(env *cel.Env, a *ast.AST) (cel.Program, error) {
	opts := []cel.ProgramOption{cel.EvalOptions(cel.OptOptimize)}
	if loops(a.Expr()) {
		opts = append(opts, cel.CostLimit(maxCost))
	}
	return env.PlanProgram(a, opts...)
}

func loops(e ast.Expr) bool {
	found := false
	ast.PostOrderVisit(e, ast.NewExprVisitor(func(e ast.Expr) { found = found || e.Kind() == ast.ComprehensionKind }))
	return found
}

// guard makes a program of those parts of a conjunction that have no loop: where it is false, so is the whole, whatever the rest would say, and
// the rest need not be asked. It is nil where there is nothing to be won.
func guard(env *cel.Env, a *ast.AST) (cel.Program, error) {
	if !loops(a.Expr()) {
		return nil, nil
	}
	var cheap ast.Expr
	next := ast.MaxID(a)
	for _, e := range conjuncts(a.Expr(), nil) {
		switch {
		case loops(e):
		case cheap == nil:
			cheap = e
		default:
			cheap = ast.NewExprFactory().NewCall(next, operators.LogicalAnd, cheap, e)
			next++
		}
	}
	if cheap == nil {
		return nil, nil
	}
	return plan(env, ast.NewCheckedAST(ast.NewAST(cheap, a.SourceInfo()), a.TypeMap(), a.ReferenceMap()))
}

func conjuncts(e ast.Expr, into []ast.Expr) []ast.Expr {
	if e.Kind() == ast.CallKind && e.AsCall().FunctionName() == operators.LogicalAnd {
		for _, x := range e.AsCall().Args() {
			into = conjuncts(x, into)
		}
		return into
	}
	return append(into, e)
}

func typeName(t *cel.Type) string {
	if t.Kind() == types.StructKind {
		return strings.TrimPrefix(t.TypeName(), "sherd.")
	}
	return t.String()
}

// checkCalls refuses patterns that are not written down, since the evidence would choose what is looked for and at what cost, and objects
// that are not the evidence's.
func checkCalls(a *ast.AST) error {
	at := map[string]int{"matches": 0, "glob": 1, "told": 0} // the place of the pattern among the arguments
	var err error
	ast.PostOrderVisit(a.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() == ast.StructKind {
			err = errors.New("objects are the evidence's, and no condition makes one")
		}
		if e.Kind() != ast.CallKind || err != nil {
			return
		}
		call := e.AsCall()
		i, ok := at[call.FunctionName()]
		if !ok {
			return
		}
		if call.FunctionName() == "matches" && !call.IsMemberFunction() {
			i = 1
		}
		if i >= len(call.Args()) || call.Args()[i].Kind() != ast.LiteralKind {
			err = fmt.Errorf("the pattern of %s must be written as a text, not be made of other things", call.FunctionName())
			return
		}
		if pattern, ok := call.Args()[i].AsLiteral().(types.String); ok && call.FunctionName() == "told" {
			_, err = regexp.Compile(string(pattern))
		}
	}))
	return err
}

var undefinedField = regexp.MustCompile(`undefined field '(\w+)'`)

// celError says the first thing that is wrong with an expression, and where in the file.
func celError(env *cel.Env, name string, n *yaml.Node, issues *cel.Issues) error {
	list := issues.Errors()
	slices.SortStableFunc(list, func(a, b *cel.Error) int { return a.Location.Line() - b.Location.Line() })
	e := list[0]
	line := n.Line
	if n.Style&yaml.LiteralStyle != 0 && e.Location.Line() > 0 {
		line += e.Location.Line()
	}
	why := strings.ReplaceAll(e.Message, "sherd.", "")
	if m := undefinedField.FindStringSubmatch(why); m != nil {
		why = "nothing here has a field " + m[1]
		if _, secrets := env.CELTypeProvider().(*provider); secrets && isSecret(m[1]) && name == "say" {
			why = m[1] + " may hold a secret, which no statement says; it can be used in when"
		}
	}
	if i := strings.IndexByte(why, '\n'); i >= 0 {
		why = why[:i]
	}
	if e.Location.Column() < 0 {
		return &wrong{line, name + ": " + why}
	}
	return &wrong{line, fmt.Sprintf("%s, character %d: %s", name, e.Location.Column()+1, why)}
}

func isSecret(name string) bool {
	for _, k := range kinds() {
		if f := k.by[name]; f != nil && f.secret {
			return true
		}
	}
	return false
}
