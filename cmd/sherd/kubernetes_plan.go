package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/sherd-forensics/sherd/cmd/internal/console"
	"github.com/sherd-forensics/sherd/collect/cluster"
	"github.com/sherd-forensics/sherd/internal/printable"
	"github.com/sherd-forensics/sherd/target/kubernetes"
)

// plan shows what a capture of the containers would make in the cluster, what it needs and whether that is granted, and what it can
// take. It makes nothing. It fails if a capture would.
func (k *clusterCapture) plan(ctx context.Context, found []*kubernetes.Instance) error {
	o, err := k.f.collectors(k.a, nil)
	if err != nil {
		return err
	}
	var nodes []string
	var rows [][]string
	for _, i := range found {
		what := "processes, memory, sockets, files, logs"
		switch _, err := nodeTarget(i); {
		case err != nil && i.ID == "":
			what = "nothing: it was never started"
		case err != nil:
			what = "nothing: " + err.Error()
		case i.State != "running":
			what = "files, logs (it has ended: no memory or sockets)"
		}
		if i.Pod.Spec.NodeName != "" && i.ID != "" && !slices.Contains(nodes, i.Pod.Spec.NodeName) {
			nodes = append(nodes, i.Pod.Spec.NodeName)
		}
		rows = append(rows, []string{i.URL(), i.Pod.Spec.NodeName, string(i.Role), string(i.State), what})
	}
	w := k.a.out
	fmt.Fprintf(w, "Would be captured, by way of a collector on %s:\n", console.Plural(len(nodes), "node"))
	console.Table(w, 1<<16, []string{"TARGET", "NODE", "ROLE", "STATE", "CAN BE TAKEN"}, rows)
	p, err := cluster.NewPlan(ctx, k.c, nodes, o)
	if err != nil {
		return err
	}
	rows = nil
	for _, s := range p.Steps {
		rows = append(rows, []string{s.What, s.Right, string(s.Have), s.Changes})
	}
	fmt.Fprintf(w, "\nSteps, and the rights that they need of %s:\n", printable.Text(p.User))
	console.Table(w, 1<<16, []string{"STEP", "RIGHT", "GRANTED", "CHANGES"}, rows)
	rows = nil
	for _, t := range p.Trials {
		rows = append(rows, []string{t.What, t.Result})
	}
	fmt.Fprintln(w, "\nTried without doing it (dry run):")
	console.Table(w, 1<<16, []string{"WHAT", "THE CLUSTER SAYS"}, rows)
	fmt.Fprintf(w, "\nThe collector runs %s as root in the host's pid namespace, not privileged, with no token of the cluster, and of all capabilities only:\n", printable.Text(p.Image))
	for _, c := range cluster.Capabilities {
		fmt.Fprintf(w, "  %-16s %s\n", c.Name, c.Why)
	}
	sees := "It sees the node's files read-only."
	if o.Freeze {
		sees += " For --freeze it may write to the node's control groups."
	}
	fmt.Fprintf(w, sees+" The pods of the containers are not changed. All of it is gone afterwards, at the latest after %s.\n", o.Deadline)
	if !p.OK() {
		for _, g := range p.Grants() {
			fmt.Fprintln(w, "\n"+g)
		}
		return errors.New("a capture would fail: see what is not granted or refused above")
	}
	return nil
}

func newCleanup(a *app) *cobra.Command {
	var namespace string
	var dry bool
	c := &cobra.Command{
		Use:   "cleanup",
		Short: "remove what captures left in a cluster",
		Long: `Cleanup removes collectors from a cluster, and the namespace that a capture made for them. A capture takes them away itself, also when it
is interrupted; one whose program was killed can't. Without this, the cluster ends a collector when nobody has spoken with it for five
minutes or its deadline is over, and only an empty namespace stays. Captures that are running lose their collector.`,
		Example: `  sherd cleanup --dry-run
  sherd cleanup`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			k, err := kubernetes.Connect(a.cluster)
			if err != nil {
				return err
			}
			left, err := cluster.Leftovers(cmd.Context(), k, namespace)
			if err != nil {
				return err
			}
			if len(left) == 0 {
				fmt.Fprintln(a.out, "nothing of Sherd's is left in the cluster")
				return nil
			}
			if !dry {
				if err := cluster.Clean(cmd.Context(), k, left); err != nil {
					return err
				}
			}
			word := "removed"
			if dry {
				word = "would be removed"
			}
			for _, l := range left {
				name := l.Name
				if l.Namespace != "" {
					name = l.Namespace + "/" + l.Name
				}
				fmt.Fprintf(a.out, "%s: %s %s, made %s\n", word, l.Kind, printable.Text(name), l.Made)
			}
			return nil
		},
	}
	namespaceFlag(c.Flags(), &namespace)
	c.Flags().BoolVar(&dry, "dry-run", false, "only list it")
	return c
}
