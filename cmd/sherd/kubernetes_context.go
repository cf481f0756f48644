package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sherd-forensics/sherd/cmd/internal/console"
	"github.com/sherd-forensics/sherd/collect/auditlog"
	"github.com/sherd-forensics/sherd/collect/surroundings"
	"github.com/sherd-forensics/sherd/target/kubernetes"
)

// audits are what the API server's audit log holds about pods, by namespace and name.
type audits map[string]*auditlog.Extract

// surroundings is everything that goes into the package of a container beside what its node gives: what the API server says around it, and
// the lines of its audit log. What could not be had is in missed.
func (k *clusterCapture) surroundings(ctx context.Context, i *kubernetes.Instance) (docs []surroundings.Document, missed []string) {
	docs, missed = surroundings.Collect(ctx, k.c, i)
	if e := k.audit[podKey(i)]; e != nil {
		docs = append(docs, surroundings.Document{Name: "audit.jsonl", Origin: e.Origin, Data: e.Lines()})
		missed = append(missed, e.Missed...)
	}
	return docs, missed
}

// planSurroundings shows which of the questions around the containers would be answered. None is needed for the rest.
func (k *clusterCapture) planSurroundings(ctx context.Context, found []*kubernetes.Instance) {
	var rows [][]string
	var seen []string
	told := map[string]bool{}
	for _, i := range found {
		if slices.Contains(seen, i.Pod.Namespace) {
			continue
		}
		if seen = append(seen, i.Pod.Namespace); len(seen) > maxPlanned {
			break
		}
		for _, r := range surroundings.Rights(ctx, k.c, i.Pod.Namespace) {
			have := "yes"
			switch {
			case r.Unknown:
				have = "unknown"
			case !r.Granted:
				have = "no: it will be missing"
			}
			if !told[r.String()] {
				told[r.String()] = true
				rows = append(rows, []string{r.For, r.String(), have})
			}
		}
	}
	fmt.Fprintln(k.a.out, "\nAsked of the API server around them, as far as you may; nothing else depends on it:")
	console.Table(k.a.out, 1<<16, []string{"WHAT", "RIGHT", "GRANTED"}, rows)
	if len(seen) > maxPlanned {
		fmt.Fprintf(k.a.out, "and the same in other namespaces, of which only the first %d are shown\n", maxPlanned)
	}
}

// maxPlanned bounds the namespaces whose rights a plan asks for one by one.
const maxPlanned = 4

func podKey(i *kubernetes.Instance) string { return i.Pod.Namespace + "/" + i.Pod.Name }

// readAudit reads the audit logs that the user named, once for all containers.
func (k *clusterCapture) readAudit(ctx context.Context, found []*kubernetes.Instance) error {
	if len(k.f.auditLogs) == 0 {
		return nil
	}
	p := k.a.progress(nil)
	p.Stage("reading the audit log")
	defer p.Done()
	var keys []string
	var subjects []auditlog.Subject
	k.audit = audits{}
	for _, i := range found {
		if _, ok := k.audit[podKey(i)]; !ok {
			k.audit[podKey(i)] = nil
			keys, subjects = append(keys, podKey(i)), append(subjects, auditSubject(i))
		}
	}
	extracts, err := auditlog.Scan(ctx, k.f.auditLogs, subjects)
	if err != nil {
		return err
	}
	for n, key := range keys {
		k.audit[key] = &extracts[n]
	}
	return nil
}

// auditSubject is the pod with its account and owners. The one above the first is known by name alone: replica sets are called after their
// deployment and the pods' hash, jobs after their cron job and a number.
func auditSubject(i *kubernetes.Instance) auditlog.Subject {
	s := auditlog.Subject{Namespace: i.Pod.Namespace, Pod: i.Pod.Name, UID: string(i.Pod.UID), Account: i.Pod.Spec.ServiceAccountName}
	owner := metav1.GetControllerOfNoCopy(i.Pod)
	if owner == nil {
		return s
	}
	gvr, ok := kubernetes.WorkloadOf(owner)
	if !ok {
		return s
	}
	s.Owners = []string{gvr.Resource + "/" + owner.Name}
	switch gvr.Resource {
	case "replicasets":
		if name, ok := strings.CutSuffix(owner.Name, "-"+i.Pod.Labels["pod-template-hash"]); ok {
			s.Owners = append(s.Owners, "deployments/"+name)
		}
	case "jobs":
		if n := strings.LastIndexByte(owner.Name, '-'); n > 0 && strings.Trim(owner.Name[n+1:], "0123456789") == "" {
			s.Owners = append(s.Owners, "cronjobs/"+owner.Name[:n])
		}
	}
	return s
}
