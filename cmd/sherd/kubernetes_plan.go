package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sherd-forensics/sherd/cmd/internal/console"
	"github.com/sherd-forensics/sherd/collect/cluster"
	"github.com/sherd-forensics/sherd/internal/printable"
	"github.com/sherd-forensics/sherd/target"
	"github.com/sherd-forensics/sherd/target/kubernetes"
)

// plan shows what a capture of the containers would make in the cluster, by each way, what it needs and whether that is granted, and what it
// can take. It makes nothing. It fails if a capture would.
func (k *clusterCapture) plan(ctx context.Context, found []*kubernetes.Instance) error {
	o, err := k.f.collectors(k.a, nil)
	if err != nil {
		return err
	}
	var rows [][]string
	for _, i := range found {
		rows = append(rows, []string{i.URL(), i.Pod.Spec.NodeName, string(i.Role), string(i.State), takes(i)})
	}
	nodes := nodesOf(found)
	plans := map[cluster.Way]*cluster.Plan{cluster.API: cluster.NewAPIPlan(ctx, k.c, found)}
	if plans[cluster.Node], err = cluster.NewPlan(ctx, k.c, nodes, o); err != nil {
		return err
	}
	if plans[cluster.Pod], err = cluster.NewPodPlan(ctx, k.c, found, k.user, o); err != nil {
		return err
	}
	chosen, ways := k.choose(plans)
	w := k.a.out
	fmt.Fprintf(w, "Would be captured, on %s:\n", console.Plural(len(nodes), "node"))
	console.Table(w, 1<<16, []string{"TARGET", "NODE", "ROLE", "STATE", "CAN BE TAKEN FROM THE NODE"}, rows)
	fmt.Fprintln(w, "\nWays in, the best first:")
	console.Table(w, 1<<16, []string{"WAY", "TAKEN", "WHY", "WHAT IS MADE", "WHAT IT CHANGES"}, ways)
	fmt.Fprintln(w, "\nWhat each can take:")
	console.Table(w, 1<<16, []string{"WAY", "TAKES", "CAN'T TAKE"}, scope)
	for _, way := range cluster.Ways {
		k.steps(way, plans[way])
	}
	fmt.Fprintf(w, "\nThe collector of the way node runs %s as root in the host's pid namespace, not privileged, with no token of the cluster, and of all capabilities only:\n", printable.Text(plans[cluster.Node].Image))
	for _, c := range cluster.Capabilities {
		fmt.Fprintf(w, "  %-16s %s\n", c.Name, c.Why)
	}
	sees := "It sees the node's files read-only."
	if o.Freeze {
		sees += " For --freeze it may write to the node's control groups."
	}
	fmt.Fprintf(w, sees+" The pods of the containers are not changed by that way. All of it is gone afterwards, at the latest after %s.\n", o.Deadline)
	fmt.Fprintln(w, "The collector of the way pod runs in the container's own pod, as the container's user and group, with no more rights than it has. What runs in the container can see and end it. It ends after the capture; its entry in the pod's specification stays.")
	if k.f.via.checkpoint {
		fmt.Fprintf(w, "For --checkpoint the kubelet is asked for an archive first (create nodes/proxy: %s). The container stands still for a moment while it is made, and it stays on the node.\n", cluster.MayCheckpoint(ctx, k.c))
	}
	if chosen == "" {
		for _, g := range k.wanted(plans) {
			fmt.Fprintln(w, "\n"+g)
		}
		return errors.New("a capture would fail: see what is not granted or refused above")
	}
	return nil
}

// takes is what a collector on the node can take of a container.
func takes(i *kubernetes.Instance) string {
	switch _, err := nodeTarget(i); {
	case err != nil && i.ID == "":
		return "nothing: it was never started"
	case err != nil:
		return "nothing: " + err.Error()
	case i.State != target.Running:
		return "files, logs (it has ended: no memory or sockets)"
	}
	return "processes, memory, sockets, files, logs"
}

// scope is what each way gives.
var scope = [][]string{
	{"node", "processes, memory, sockets, files with the writable layer, volumes, logs with rotated ones, runtime's and node's records; what the API server says", "the kernel's own log"},
	{"pod", "processes, memory, sockets, files as the container sees them, volumes; logs and what the API server says", "the writable layer as such and the image's layers, files that only root may read, rotated logs, the runtime's and the node's records, anything of a container that has ended"},
	{"api", "logs of this instance and the one before; what the API server says", "processes, memory, sockets, files, rotated logs, the node"},
}

// choose says which way would be taken, "" if none, and of each why or why not.
func (k *clusterCapture) choose(plans map[cluster.Way]*cluster.Plan) (chosen cluster.Way, rows [][]string) {
	made := map[cluster.Way][2]string{
		cluster.Node: {"a job with one pod on the node, in Sherd's own namespace", "nothing of the pods; what is made is gone afterwards"},
		cluster.Pod:  {"an ephemeral container in the pod", "the pod's specification, for good"},
		cluster.API:  {"nothing", "nothing"},
	}
	for _, way := range cluster.Ways {
		against := plans[way].Against()
		open := against == ""
		if way == cluster.Pod && open && k.way == cluster.Auto && !k.f.via.changePod {
			open, against = false, "it changes the pod for good: --allow-pod-change or --via pod permits it"
		}
		taken, why := "no", against
		switch {
		case k.way != cluster.Auto && k.way != way:
			why = strings.Join(slices.DeleteFunc([]string{"--via " + string(k.way), against}, func(s string) bool { return s == "" }), "; ")
		case open && chosen == "":
			chosen, taken, why = way, "yes", "nothing speaks against it"
		case open:
			why = "a better one is open"
		}
		rows = append(rows, []string{string(way), taken, why, made[way][0], made[way][1]})
	}
	return chosen, rows
}

// wanted are the grants for the way that was asked for, or for the best.
func (k *clusterCapture) wanted(plans map[cluster.Way]*cluster.Plan) []string {
	if k.way == cluster.Auto {
		return plans[cluster.Node].Grants()
	}
	return plans[k.way].Grants()
}

// steps prints what one way does, which rights that needs, and what the server said when it tried.
func (k *clusterCapture) steps(way cluster.Way, p *cluster.Plan) {
	w := k.a.out
	var rows [][]string
	for _, s := range p.Steps {
		rows = append(rows, []string{s.What, s.Right, string(s.Have), s.Changes})
	}
	fmt.Fprintf(w, "\nSteps of the way %s, and the rights that they need of %s:\n", way, printable.Text(p.User))
	console.Table(w, 1<<16, []string{"STEP", "RIGHT", "GRANTED", "CHANGES"}, rows)
	if len(p.Trials) == 0 {
		return
	}
	rows = nil
	for _, t := range p.Trials {
		rows = append(rows, []string{t.What, t.Result})
	}
	fmt.Fprintln(w, "Tried without doing it (dry run):")
	console.Table(w, 1<<16, []string{"WHAT", "THE CLUSTER SAYS"}, rows)
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
