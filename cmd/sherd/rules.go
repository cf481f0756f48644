package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sherd-forensics/sherd/cmd/internal/console"
	"github.com/sherd-forensics/sherd/internal/printable"
	"github.com/sherd-forensics/sherd/investigate"
)

func newRules(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "rules [RULE]",
		Short: "list the rules that a verdict rests on, or explain one",
		Long: `Rules lists what a verdict rests on. Each rule answers hit, clean, or blind: blind where the evidence that it needs was not
collected, which the verdict then names as a gap.`,
		Example: `  sherd rules
  sherd rules process-foreign-program`,
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
			rows := make([][]string, 0, 32)
			for _, r := range investigate.Rules() {
				rows = append(rows, []string{r.ID, string(r.Severity), r.Technique, r.Title})
			}
			console.Table(a.out, console.Width(a.out), []string{"RULE", "SEVERITY", "ATT&CK", "WHAT"}, rows)
			return nil
		},
	}
}

// explain prints one rule whole.
func (a *app) explain(id string) error {
	for _, r := range investigate.Rules() {
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
