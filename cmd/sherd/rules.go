package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sherd-forensics/sherd/cmd/internal/console"
	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/internal/printable"
	"github.com/sherd-forensics/sherd/investigate"
	"github.com/sherd-forensics/sherd/investigate/graph"
)

func newRules(a *app) *cobra.Command {
	inference := false
	c := &cobra.Command{
		Use:   "rules [RULE]",
		Short: "list the rules that a verdict rests on, or explain one",
		Long: `Rules lists what a verdict rests on. Each rule answers hit, clean, or blind: blind where the evidence that it needs was not
collected, which the verdict then names as a gap. --inference lists the rules by which the provenance graph is drawn: each edge of it,
and so each step from what was found back to how they got in, is there by one of them.`,
		Example: `  sherd rules
  sherd rules process-foreign-program
  sherd rules --inference
  sherd rules request-names-file`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return exactly(1, "")(cmd, args)
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				return a.explain(args[0])
			}
			if inference {
				a.inference()
				return nil
			}
			rows := make([][]string, 0, 32)
			for _, r := range allRules() {
				rows = append(rows, []string{r.ID, string(r.Severity), r.Technique, r.Title})
			}
			console.Table(a.out, console.Width(a.out), []string{"RULE", "SEVERITY", "ATT&CK", "WHAT"}, rows)
			return nil
		},
	}
	c.Flags().BoolVar(&inference, "inference", false, "list the rules by which the provenance graph is drawn")
	return c
}

// inference lists the rules of the provenance graph.
func (a *app) inference() {
	var rows [][]string
	for _, r := range graph.Rules() {
		rows = append(rows, []string{r.Name, string(r.Verb), fmt.Sprintf("%.2f", r.Confidence), r.Concludes})
	}
	console.Table(a.out, console.Width(a.out), []string{"RULE", "EDGE", "AT MOST", "CONCLUDES"}, rows)
}

// allRules are those of the program itself, then those in languages of their own.
func allRules() []detect.Rule {
	all := investigate.Rules()
	for _, l := range languages() {
		all = append(all, l.Rules()...)
	}
	return all
}

// explain prints one rule whole.
func (a *app) explain(id string) error {
	for _, r := range allRules() {
		if r.ID == id {
			needs := make([]string, len(r.Needs))
			for i, n := range r.Needs {
				needs[i] = string(n)
			}
			for _, part := range [][2]string{
				{r.ID, r.Title}, {"severity", string(r.Severity)}, {"ATT&CK", r.Technique}, {"why", r.Rationale},
				{"false alarms", r.FalseAlarms}, {"needs", strings.Join(needs, ", ")},
			} {
				wrap(a, part[0], part[1])
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
