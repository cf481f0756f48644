package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sherd-forensics/sherd/cmd/internal/console"
	"github.com/sherd-forensics/sherd/collect/cluster"
	"github.com/sherd-forensics/sherd/internal/printable"
	"github.com/sherd-forensics/sherd/target"
)

func newTargets(a *app) *cobra.Command {
	var asJSON, wide, inspect bool
	chosen, f := &selectFlags{}, &captureFlags{limits: cluster.Limits{Node: 1, All: 8}}
	c := &cobra.Command{
		Use:   "targets",
		Short: "list the containers here, and which are distroless",
		Long: `Targets asks every runtime that answers, and the kernel as well: a container that no runtime admits to, and a process in a
container's namespaces that its cgroup does not hold, are reported below the list.

With --namespace or --all-namespaces it lists the containers of a Kubernetes cluster as its API server knows them. Whether they are distroless is for
their nodes to tell: with --inspect a collector on each node says it, for as long as that takes. docs/kubernetes.md tells what that needs.`,
		Example: `  sherd targets
  sherd targets --docker-host unix:///run/user/1000/docker.sock
  sherd targets --all-namespaces
  sherd targets --namespace shop --inspect
  sherd targets --json | jq -r '.containers[].url'`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if chosen.given() {
				return a.targetsCluster(cmd.Context(), chosen, f, inspect, asJSON, wide)
			}
			if inspect {
				return usagef("--inspect asks the nodes of a cluster: choose containers there with --all-namespaces, --namespace, --selector, --node or --image")
			}
			p := a.progress(nil)
			p.Stage("looking for containers")
			sv, err := a.places.Survey(cmd.Context())
			p.Done()
			if err != nil {
				return err
			}
			if asJSON {
				return a.targetsJSON(sv)
			}
			a.targetsTable(sv, wide)
			return nil
		},
	}
	chosen.addFilters(c.Flags())
	c.Flags().BoolVar(&inspect, "inspect", false, "in a cluster: have the nodes say which containers are distroless")
	f.collector.add(c.Flags())
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON, with everything that is known")
	c.Flags().BoolVarP(&wide, "wide", "w", false, "do not shorten ids, images and reasons")
	return c
}

// targetsTable writes two lines for each target: what one acts on, and below it what it was made from. With wide all of it
// stands on one line, uncut.
func (a *app) targetsTable(sv *target.Survey, wide bool) {
	switch {
	case len(sv.Containers) == 0:
		fmt.Fprintln(a.out, "no containers")
	case wide:
		rows := make([][]string, 0, len(sv.Containers))
		for _, c := range sv.Containers {
			rows = append(rows, append(targetRow(c), imageWords(c, true), c.ID))
		}
		console.Table(a.out, 1<<16, []string{"TARGET", "STATE", "AGE", "PID", "DISTROLESS", "IMAGE", "ID"}, rows)
	default:
		a.targetsLines(sv)
	}
	for _, n := range sv.Anomalies {
		fmt.Fprintf(a.out, "! %s: %s\n", n.Kind, printable.Text(n.Statement))
	}
	for _, err := range sv.Silent {
		// That a runtime is not installed is no news; that one is there and does not answer is.
		var silent *target.SilentError
		if errors.As(err, &silent) && silent.Absent && !a.verbose {
			continue
		}
		a.note("not asked: %s", printable.Text(err.Error()))
	}
}

func (a *app) targetsLines(sv *target.Survey) {
	width := console.Width(a.out)
	rows := make([][]string, 0, len(sv.Containers))
	for _, c := range sv.Containers {
		rows = append(rows, targetRow(c))
	}
	var table strings.Builder
	console.Table(&table, width, []string{"TARGET", "STATE", "AGE", "PID", "DISTROLESS"}, rows)
	for i, line := range strings.Split(strings.TrimRight(table.String(), "\n"), "\n") {
		fmt.Fprintln(a.out, line)
		if i == 0 {
			continue
		}
		c := sv.Containers[i-1]
		below := imageWords(c, false)
		if below != "" {
			below += "  "
		}
		below += "id " + c.ID[:min(len(c.ID), 12)]
		if c.Pod != nil {
			below += "  pod " + c.Pod.Namespace + "/" + c.Pod.Name
		}
		fmt.Fprintln(a.out, "    "+printable.Clip(below, width-4))
	}
}

// imageWords is the image's name with its digest, whole or short.
func imageWords(c *target.Container, whole bool) string {
	digest := c.Image.Digest
	if digest == "" {
		digest = c.Image.ConfigID
	}
	if !whole {
		digest = digest[:min(len(digest), len("sha256:")+12)]
	}
	if digest == "" || strings.Contains(c.Image.Name, "@") {
		return c.Image.Name
	}
	return c.Image.Name + "@" + digest
}

// targetRow is what one acts on.
func targetRow(c *target.Container) []string {
	age := ""
	switch {
	case !c.Started.IsZero():
		age = console.Duration(time.Since(c.Started))
	case !c.Created.IsZero():
		age = console.Duration(time.Since(c.Created))
	}
	pid := ""
	if c.PID != 0 {
		pid = fmt.Sprint(c.PID)
	}
	distroless := "?"
	if d := c.Distroless; d != nil {
		distroless = "no: " + d.Reason
		if d.Distroless {
			distroless = "yes: " + d.Reason
		}
	}
	return []string{c.URL, string(c.State), age, pid, distroless}
}

func (a *app) targetsJSON(sv *target.Survey) error {
	doc := struct {
		Containers []*target.Container `json:"containers"`
		Anomalies  []target.Anomaly    `json:"anomalies"`
		Silent     []string            `json:"silent"`
	}{Containers: sv.Containers, Anomalies: sv.Anomalies, Silent: []string{}}
	if doc.Containers == nil {
		doc.Containers = []*target.Container{}
	}
	if doc.Anomalies == nil {
		doc.Anomalies = []target.Anomaly{}
	}
	for _, err := range sv.Silent {
		doc.Silent = append(doc.Silent, err.Error())
	}
	e := json.NewEncoder(a.out)
	e.SetIndent("", "  ")
	return e.Encode(doc)
}
