package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sherd-forensics/sherd/cmd/internal/console"
	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/detect/ruleset"
	"github.com/sherd-forensics/sherd/internal/printable"
	"github.com/sherd-forensics/sherd/investigate"
	"github.com/sherd-forensics/sherd/investigate/graph"
)

func newRules(a *app) *cobra.Command {
	var paths []string
	inference := false
	c := &cobra.Command{
		Use:   "rules [RULE]",
		Short: "list the rules that a verdict rests on, or explain one",
		Long: `Rules lists what a verdict rests on. Each rule answers hit, clean, or blind: blind where the evidence that it needs was not
collected, which the verdict then names as a gap. --inference lists the rules by which the provenance graph is drawn: each edge of it,
and so each step from what was found back to how they got in, is there by one of them. "sherd rules check" says which rules of a
collection can be loaded.`,
		Example: `  sherd rules
  sherd rules process-foreign-program
  sherd rules --inference
  sherd rules request-names-file
  sherd rules --rules sigma/rules/linux
  sherd rules check sigma/rules`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return exactly(1, "")(cmd, args)
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			set, err := a.ruleset(paths)
			if err != nil {
				return err
			}
			all := append(investigate.Rules(), set.Rules()...)
			if len(args) == 1 {
				return a.explain(all, args[0])
			}
			if inference {
				a.inference()
				return nil
			}
			rows := make([][]string, 0, 64)
			for _, r := range all {
				rows = append(rows, []string{r.ID, string(r.Severity), r.Technique, r.Title})
			}
			console.Table(a.out, console.TableWidth(a.out), []string{"RULE", "SEVERITY", "ATT&CK", "WHAT"}, rows)
			return nil
		},
	}
	rulesFlag(c, &paths)
	c.Flags().BoolVar(&inference, "inference", false, "list the rules by which the provenance graph is drawn")
	c.AddCommand(newRulesCheck(a))
	return c
}

// rulesFlag adds --rules.
func rulesFlag(c *cobra.Command, paths *[]string) {
	c.Flags().StringArrayVar(paths, "rules", nil, "ask the rules of `DIR|FILE` too: Sigma (.yml), YARA (.yar) and behaviour (repeatable)")
}

// ruleset loads the rules in languages of their own: Sherd's and those of paths.
func (a *app) ruleset(paths []string) (*ruleset.Set, error) {
	set := ruleset.New()
	if len(paths) == 0 {
		return set, nil
	}
	if err := set.Load(paths...); err != nil {
		return nil, err
	}
	n := 0
	for _, c := range set.Loaded {
		n += c
	}
	words := ""
	if r := len(set.Refused); r > 0 {
		words = fmt.Sprintf("; %d can't be loaded: `sherd rules check` says why", r)
	}
	a.note("%s loaded%s", console.Plural(n, "rule"), words)
	return set, nil
}

func newRulesCheck(a *app) *cobra.Command {
	var out string
	c := &cobra.Command{
		Use:   "check DIR|FILE...",
		Short: "say which rules can be loaded, which can't, and why",
		Long: `Check loads rules as "sherd investigate --rules" does and says how many there are in each language, and for what reasons others
can't be loaded. It exits with 0 if all can, with 1 if not.`,
		Example: `  sherd rules check sigma/rules
  sherd rules check my-rules --json - | jq -r '.refused[] | "\(.file):\(.line): \(.why)"'`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return exactly(1, "a folder or a file")(cmd, args)
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error { return a.checkRules(args, out) },
	}
	c.Flags().StringVar(&out, "json", "", "write the outcome as JSON to `FILE`, - for standard output (and nothing else there)")
	return c
}

// refusal is one rule that can't be loaded, as JSON has it.
type refusal struct {
	File string `json:"file"`
	Line int    `json:"line,omitempty"`
	Rule string `json:"rule,omitempty"`
	Why  string `json:"why"`
}

func refusals(list []detect.Refusal) []refusal {
	out := make([]refusal, 0, len(list))
	for _, r := range list {
		out = append(out, refusal(r))
	}
	return out
}

func (a *app) checkRules(paths []string, out string) error {
	set := ruleset.Empty()
	if err := set.Check(paths...); err != nil {
		return err
	}
	if out != "" {
		write := func(w io.Writer) error {
			e := json.NewEncoder(w)
			e.SetIndent("", "  ")
			e.SetEscapeHTML(false)
			return e.Encode(struct {
				Loaded  map[string]int `json:"loaded"`
				Refused []refusal      `json:"refused"`
				Left    []refusal      `json:"left,omitempty"`
			}{set.Loaded, refusals(set.Refused), refusals(set.Left)})
		}
		var err error
		if out == "-" {
			err = write(a.out)
		} else {
			err = writeAside(out, write)
		}
		if err != nil {
			return fmt.Errorf("writing the outcome: %w", err)
		}
	}
	n := 0
	for _, c := range set.Loaded {
		n += c
	}
	if out != "-" {
		a.checkTable(set)
	}
	switch {
	case n == 0 && len(set.Refused) == 0:
		return fmt.Errorf("there are no rules: YARA (.yar, .yara), Sigma and behaviour (.yml, .yaml) are looked for")
	case len(set.Refused) > 0:
		return fmt.Errorf("%d of %s can't be loaded", len(set.Refused), console.Plural(n+len(set.Refused), "rule"))
	case len(set.Left) > 0:
		return fmt.Errorf("%d files or folders could not be read", len(set.Left))
	}
	return nil
}

// checkTable groups what can't be loaded by the reason.
func (a *app) checkTable(set *ruleset.Set) {
	rows := [][]string{}
	for _, l := range slices.Sorted(maps.Keys(set.Loaded)) {
		rows = append(rows, []string{l, fmt.Sprint(set.Loaded[l])})
	}
	console.Table(a.out, console.TableWidth(a.out), []string{"LANGUAGE", "LOADED"}, rows)
	type group struct {
		why   string
		first detect.Refusal
		count int
	}
	var groups []*group
	by := map[string]*group{}
	for _, r := range append(slices.Clone(set.Refused), set.Left...) {
		g := by[r.Why]
		if g == nil {
			g = &group{why: r.Why, first: r}
			by[r.Why] = g
			groups = append(groups, g)
		}
		g.count++
		if a.verbose {
			fmt.Fprintf(a.err, "%s:%d: %s: %s\n", printable.Text(r.File), r.Line, printable.Text(r.Rule), printable.Text(r.Why))
		}
	}
	if len(groups) == 0 {
		return
	}
	slices.SortStableFunc(groups, func(x, y *group) int { return cmp.Compare(y.count, x.count) })
	rows = rows[:0]
	for _, g := range groups {
		rows = append(rows, []string{fmt.Sprint(g.count), printable.Text(g.why), fmt.Sprintf("%s:%d", printable.Text(g.first.File), g.first.Line)})
	}
	fmt.Fprintln(a.out)
	console.Table(a.out, max(console.TableWidth(a.out), 160), []string{"REFUSED", "WHY", "FIRST"}, rows)
}

// inference lists the rules of the provenance graph.
func (a *app) inference() {
	var rows [][]string
	for _, r := range graph.Rules() {
		rows = append(rows, []string{r.Name, string(r.Verb), fmt.Sprintf("%.2f", r.Confidence), r.Concludes})
	}
	console.Table(a.out, console.TableWidth(a.out), []string{"RULE", "EDGE", "AT MOST", "CONCLUDES"}, rows)
}

// explain prints one rule whole.
func (a *app) explain(rules []detect.Rule, id string) error {
	for _, r := range rules {
		if r.ID == id {
			needs := make([]string, len(r.Needs))
			for i, n := range r.Needs {
				needs[i] = string(n)
			}
			for _, part := range [][2]string{
				{r.ID, r.Title}, {"severity", string(r.Severity)}, {"ATT&CK", r.Technique}, {"why", r.Rationale},
				{"false alarms", r.FalseAlarms}, {"needs", strings.Join(needs, ", ")}, {"language", r.Language}, {"from", r.Origin},
			} {
				if part[1] != "" {
					wrap(a, part[0], printable.Text(part[1]))
				}
			}
			return nil
		}
	}
	if r, ok := graph.RuleOf(id); ok {
		for _, part := range [][2]string{{r.Name, r.Concludes}, {"edge", string(r.Verb)}, {"from", r.From}, {"confidence", fmt.Sprintf("%.2f at most", r.Confidence)}, {"why", r.Why}} {
			wrap(a, part[0], part[1])
		}
		return nil
	}
	return fmt.Errorf("there is no rule %q; `sherd rules` lists them", printable.Text(id))
}

// wrap prints a label and its text, broken at the terminal's width.
func wrap(a *app, label, text string) {
	const indent = 14
	width := min(console.Width(a.out), 100) - indent
	line := ""
	first := true
	flush := func() {
		if first {
			fmt.Fprintf(a.out, "%-*s%s\n", indent, label, line)
		} else {
			fmt.Fprintf(a.out, "%*s%s\n", indent, "", line)
		}
		first, line = false, ""
	}
	if len(label) >= indent {
		fmt.Fprintln(a.out, label)
		first = false
	}
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			flush()
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	flush()
}
