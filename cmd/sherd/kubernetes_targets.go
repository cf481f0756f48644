package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/sherd-forensics/sherd/cmd/internal/console"
	"github.com/sherd-forensics/sherd/collect/relay"
	"github.com/sherd-forensics/sherd/target/kubernetes"
)

// targetsCluster lists a cluster's containers as its API server knows them.
func (a *app) targetsCluster(ctx context.Context, chosen *selectFlags, f *captureFlags, inspect, asJSON, wide bool) error {
	q, err := chosen.query()
	if err != nil {
		return err
	}
	c, err := kubernetes.Connect(a.cluster)
	if err != nil {
		return err
	}
	found, err := c.Find(ctx, q)
	if err != nil {
		return err
	}
	var judged []relay.Judgement
	if inspect {
		if judged, err = a.inspect(ctx, c, found, f); err != nil {
			return err
		}
	}
	if asJSON {
		return a.clusterJSON(found, judged)
	}
	rows := make([][]string, 0, len(found))
	for n, i := range found {
		state := string(i.State)
		if i.Reason != "" {
			state += " (" + i.Reason + ")"
		}
		row := []string{i.URL(), string(i.Role), i.Pod.Spec.NodeName, state, fmt.Sprint(i.Restarts), strings.Join(exposure(i), ", ")}
		if wide {
			row = append(row, i.Image, i.Digest(), i.ID)
		} else {
			row = append(row, i.Digest()[:min(len(i.Digest()), len("sha256:")+12)])
		}
		if inspect {
			row = append(row, judgementWords(judged[n]))
		}
		rows = append(rows, row)
	}
	head := []string{"TARGET", "ROLE", "NODE", "STATE", "RESTARTS", "SECURITY", "DIGEST"}
	if wide {
		head = append(head[:6], "IMAGE", "DIGEST", "ID")
	}
	if inspect {
		head = append(head, "DISTROLESS")
	}
	console.Table(a.out, 1<<16, head, rows)
	return nil
}

func (a *app) clusterJSON(found []*kubernetes.Instance, judged []relay.Judgement) error {
	type one struct {
		URL       string   `json:"url"`
		Namespace string   `json:"namespace"`
		Pod       string   `json:"pod"`
		Container string   `json:"container"`
		Role      string   `json:"role"`
		Node      string   `json:"node"`
		State     string   `json:"state"`
		Reason    string   `json:"reason,omitempty"`
		Restarts  int      `json:"restarts"`
		ID        string   `json:"id,omitempty"`
		Previous  []string `json:"previous,omitempty"`
		Image     string   `json:"image"`
		Digest    string   `json:"digest,omitempty"`
		Security  []string `json:"security"`
		// Distroless is there where the node was asked.
		Distroless *relay.Judgement `json:"distroless,omitempty"`
	}
	doc := struct {
		Containers []one `json:"containers"`
	}{Containers: []one{}}
	for n, i := range found {
		var d *relay.Judgement
		if judged != nil {
			d = &judged[n]
		}
		doc.Containers = append(doc.Containers, one{i.URL(), i.Pod.Namespace, i.Pod.Name, i.Container, string(i.Role), i.Pod.Spec.NodeName,
			string(i.State), i.Reason, i.Restarts, i.ID, i.Previous, i.Image, i.Digest(), exposure(i), d})
	}
	e := json.NewEncoder(a.out)
	e.SetIndent("", "  ")
	return e.Encode(doc)
}

// exposure says what the specification gives a container beyond its own bounds, the worst first; "confined" if nothing.
func exposure(i *kubernetes.Instance) []string {
	out := []string{}
	s := i.Security()
	add := func(is bool, word string) {
		if is {
			out = append(out, word)
		}
	}
	if s != nil {
		add(s.Privileged != nil && *s.Privileged, "privileged")
		if s.Capabilities != nil {
			for _, c := range s.Capabilities.Add {
				out = append(out, "+"+string(c))
			}
		}
	}
	spec := &i.Pod.Spec
	add(spec.HostPID, "host pids")
	add(spec.HostNetwork, "host network")
	add(spec.HostIPC, "host ipc")
	for _, v := range spec.Volumes {
		add(v.HostPath != nil, "host path")
		if v.HostPath != nil {
			break
		}
	}
	add(root(spec.SecurityContext, s), "may be root")
	if len(out) == 0 {
		out = append(out, "confined")
	}
	return out
}

// root reports whether nothing in the specification keeps the container from running as root: then the image decides.
func root(pod *corev1.PodSecurityContext, c *corev1.SecurityContext) bool {
	var nonRoot *bool
	var user *int64
	if pod != nil {
		nonRoot, user = pod.RunAsNonRoot, pod.RunAsUser
	}
	if c != nil {
		if c.RunAsNonRoot != nil {
			nonRoot = c.RunAsNonRoot
		}
		if c.RunAsUser != nil {
			user = c.RunAsUser
		}
	}
	return (nonRoot == nil || !*nonRoot) && (user == nil || *user == 0)
}
