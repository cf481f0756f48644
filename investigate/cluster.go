package investigate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/verdict"
)

const (
	// maxSiblings bounds those that the scope names.
	maxSiblings = 10
	maxDangers  = 5
	// siblingRole is of containers that run the same image and were not examined.
	siblingRole = "sibling"
)

// exposure says in words how far the port that was entered is reachable, as far as the API server tells; "" if that is not known.
func (w *work) exposure() (words string, cites []verdict.Citation) {
	c := w.f.Cluster
	if c == nil || c.Exposure == nil {
		return "", nil
	}
	x := c.Exposure
	cite, ok := w.f.Cite(detect.ExposurePath, 0, 0)
	if !ok {
		return "", nil
	}
	ports := w.ports()
	reach := map[string][]string{}
	for i := range x.Ways {
		v := &x.Ways[i]
		if v.Target != 0 && len(ports) > 0 && !slices.Contains(ports, v.Target) {
			continue // it leads to another port, maybe of another container
		}
		reach[v.Reach] = append(reach[v.Reach], wayWords(v))
	}
	switch {
	case len(reach["outside"]) > 0:
		words = "the pod is reachable from outside of the cluster by " + list(uniqueStrings(reach["outside"]), 3)
	case len(reach["nodes"]) > 0:
		words = "the pod is reachable at its nodes' addresses by " + list(uniqueStrings(reach["nodes"]), 3)
	case len(reach["cluster"]) > 0:
		words = "the pod is reachable from within the cluster alone, by " + list(uniqueStrings(reach["cluster"]), 3)
	default:
		words = "no service or ingress leads to the pod: whoever called knew its address"
	}
	if len(x.Missed) > 0 {
		words += ", as far as could be asked"
	}
	var policies []string
	for i := range x.Policies {
		if x.Policies[i].Ingress != "" {
			policies = append(policies, clip(x.Policies[i].Name, 60))
		}
	}
	switch {
	case len(policies) == 0:
	case x.Ingress == "none":
		words += "; network policy " + list(policies, 3) + " lets nobody in, where the network keeps policies"
	case x.Ingress == "some":
		words += "; network policy " + list(policies, 3) + " bounds who may call"
	}
	return words, []verdict.Citation{cite}
}

// wayWords names one way: "ingress shop/cart (shop.example)".
func wayWords(v *record.Way) string {
	s := strings.ReplaceAll(clip(v.Kind, 40), "-", " ")
	if v.Name != "" {
		s += " " + clip(v.Name, 100)
	}
	var where []string
	for _, h := range slices.Concat(v.Hosts, v.Addresses) {
		where = append(where, clip(h, 80))
	}
	if len(where) > 0 {
		s += " (" + list(where, 3) + ")"
	}
	return s
}

// ports are those on which the image's own programs listen.
func (w *work) ports() []int {
	var out []int
	for i := range w.f.Sockets {
		s := &w.f.Sockets[i]
		if detect.Listening(s) && slices.ContainsFunc(w.f.Owners(s), func(p *detect.Process) bool { return p.Exe.Origin == record.ExeImage }) && !slices.Contains(out, s.LocalPort) {
			out = append(out, s.LocalPort)
		}
	}
	return out
}

// exposed adds to a root cause who reaches what was entered.
func (w *work) exposed(c *verdict.RootCause) {
	if words, cites := w.exposure(); words != "" {
		c.Statement += "; " + words
		c.Citations = append(c.Citations, cites...)
	}
}

// clusterGaps tells what the package lacks of the pod's surroundings, which an investigation would have used.
func (w *work) clusterGaps() {
	c := w.f.Cluster
	if c == nil || !w.bad() {
		return
	}
	var lacks []string
	for _, x := range []struct {
		there bool
		what  string
	}{{c.Exposure != nil, "who reaches the pod"}, {c.Permissions != nil, "what its identity may do"}, {c.Siblings != nil, "where else its image runs"}} {
		if !x.there {
			lacks = append(lacks, x.what)
		}
	}
	if len(lacks) > 0 {
		w.gap(strings.Join(lacks, ", "), "the package does not hold it: captured on the node alone, or without the right to ask", "how open the way in was and what is within reach from here is known in part")
	}
	missed := func(what string, reasons []string) {
		if len(reasons) > 0 {
			w.gap(what, clip(reasons[0], 200), "what is told of it is at least so")
		}
	}
	if c.Exposure != nil {
		missed("all who reach the pod", c.Exposure.Missed)
	}
	if c.Permissions != nil {
		missed("all that the identity may do", c.Permissions.Missed)
	}
	if c.Siblings != nil {
		missed("all places where the image runs", c.Siblings.Missed)
	}
}

// clusterClaims tells what is within reach from the container by what the cluster grants its pod, and where else the same image runs.
func (w *work) clusterClaims() {
	if w.f.Cluster == nil || !w.bad() {
		return
	}
	w.withinReach()
	w.siblings()
	w.clusterGaps()
}

// tokenReach are the pod's tokens that the intruder could read, with the proof.
func (w *work) tokenReach() (paths []string, cites []verdict.Citation) {
	known := w.tokenPaths()
	for _, r := range w.reaches() {
		if r.file && (slices.Contains(known, r.value) || strings.HasSuffix(r.value, "/serviceaccount/token")) {
			paths, cites = append(paths, r.value), append(cites, r.cites...)
		}
	}
	// Or somebody has it: then it was.
	for _, e := range w.r.Verdict.Scope {
		if e.Type == verdict.EntityCredential && e.Role == "taken" && !slices.Contains(paths, e.Value) {
			paths, cites = append(paths, e.Value), append(cites, e.Citations...)
		}
	}
	return paths, cites
}

// withinReach tells what who has the pod's token may do, which is not to say that it was done.
func (w *work) withinReach() {
	perms := w.f.Cluster.Permissions
	paths, cites := w.tokenReach()
	if perms == nil || len(paths) == 0 {
		return
	}
	cite, ok := w.f.Cite(detect.PermissionsPath, 0, 0)
	if !ok {
		return
	}
	cites = append([]verdict.Citation{cite}, cites[:min(len(cites), 8)]...)
	name := clip(cmp.Or(perms.Identity, w.f.Cluster.Identity), 80)
	at := ""
	if len(perms.Missed) > 0 {
		at = " at least"
	}
	if len(perms.Dangers) == 0 {
		w.effect(verdict.ImpactCredential, "T1528", "the token of "+name+" was within reach; the cluster's roles grant it nothing dangerous, as far as they could be read", cites)
		return
	}
	var may []string
	technique := ""
	for i := range perms.Dangers {
		may = append(may, clip(perms.Dangers[i].What, 120))
		technique = cmp.Or(technique, perms.Dangers[i].Technique)
	}
	w.add(verdict.Entity{Type: verdict.EntityIdentity, Value: escaped(cmp.Or(perms.Identity, w.f.Cluster.Identity)), Role: "within reach", Why: "its token could be read", Citations: cites})
	w.effect(verdict.ImpactCredential, cmp.Or(technique, "T1528"), "within reach with the token of "+name+at+": "+list(may, maxDangers)+"; that it was done is not said by this", cites)
	for _, r := range perms.Cloud {
		w.effect(verdict.ImpactCredential, "T1078.004", "within reach with the pod's account: the role "+clip(r.Role, 160)+" of "+clip(r.Provider, 20)+"; look for its use in that cloud's audit log", cites)
	}
}

// secretOf names the cluster's secret that a variable or file comes from by the pod's specification, "" if it names none.
func (w *work) secretOf(r *reach) (string, verdict.Citation) {
	if w.f.Cluster == nil || w.f.Cluster.References == nil {
		return "", verdict.Citation{}
	}
	for _, x := range w.f.Cluster.References.References {
		if x.Kind != "secret" || w.f.Container.Pod == nil || !slices.Contains(x.Containers, w.f.Container.Pod.Container) {
			continue
		}
		in := func(dir string) bool {
			return r.value == dir || strings.HasPrefix(r.value, strings.TrimSuffix(dir, "/")+"/")
		}
		if r.file && slices.ContainsFunc(x.Paths, in) || !r.file && slices.Contains(x.Variables, r.value) {
			if c, ok := w.f.Cite(detect.ReferencesPath, 0, 0); ok {
				return clip(w.f.Cluster.Pod.Metadata.Namespace+"/"+x.Name, 120), c
			}
		}
	}
	return "", verdict.Citation{}
}

// siblings names other containers of the same image: the same way leads into them.
func (w *work) siblings() {
	s := w.f.Cluster.Siblings
	cite, ok := w.f.Cite(detect.SiblingsPath, 0, 0)
	if s == nil || !ok {
		return
	}
	n := 0
	for i := range s.Siblings {
		x := &s.Siblings[i]
		if x.ID == "" || x.ID == w.f.Container.ID {
			continue
		}
		if n++; n > maxSiblings {
			continue
		}
		w.add(verdict.Entity{Type: verdict.EntityContainer, Value: escaped(x.ID), Role: siblingRole, Why: "runs the same image, by which the same way leads in; whether it was touched is not known: " + siblingTarget(x), Citations: []verdict.Citation{cite}})
	}
	if more := n - maxSiblings + s.More; n > maxSiblings || s.More > 0 {
		w.gap(fmt.Sprintf("%d more containers of the same image", more), fmt.Sprintf("%d are listed", min(n, maxSiblings)), "the same way leads into them")
	}
}

// siblingTarget is how Sherd is told of one.
func siblingTarget(x *record.Sibling) string {
	return "k8s://" + clip(x.Namespace, 63) + "/" + clip(x.Pod, 253) + "/" + clip(x.Container, 63)
}

// clusterNext is advice on what the cluster gives to do.
func (w *work) clusterNext(add func(string)) {
	c := w.f.Cluster
	if c == nil {
		return
	}
	if paths, _ := w.tokenReach(); len(paths) > 0 {
		add("take the token of " + clip(c.Identity, 100) + " away: once the evidence is taken, delete pod " + clip(c.Pod.Metadata.Namespace+"/"+c.Pod.Metadata.Name, 120) + ", with which its tokens end")
	}
	if p := c.Permissions; p != nil && len(p.Dangers) > 0 {
		var by []string
		for i := range p.Dangers {
			for _, r := range p.Dangers[i].Rules {
				if r >= 0 && r < len(p.Rules) {
					by = append(by, clip(p.Rules[r].Binding, 120))
				}
			}
		}
		if by = uniqueStrings(by); len(by) > 0 {
			add("cut what that account is granted by " + list(by, 4))
		}
	}
	if s := c.Siblings; s != nil {
		var same []string
		for i := range s.Siblings {
			if s.Siblings[i].ID != w.f.Container.ID {
				same = append(same, siblingTarget(&s.Siblings[i]))
			}
		}
		if len(same) > 0 {
			add("look at " + list(same, 3) + " too: the same image")
		}
	}
}

// runEvents are the starts and ends of the pod's containers of this name, as the kubelet told them.
func (w *work) runEvents(add func(Event)) {
	s := w.f.Status()
	if s == nil || w.f.Cluster.PodCite.SHA256 == "" {
		return
	}
	cites := []verdict.Citation{w.f.Cluster.PodCite}
	at := func(t time.Time, kind event.Kind, text string) {
		if !t.IsZero() {
			add(Event{Time: t.UnixNano(), TimeKind: event.Observed, Kind: kind, Text: text, Marked: true, Citations: cites})
		}
	}
	for _, x := range []*detect.Termination{s.LastState.Terminated, s.State.Terminated} {
		if x == nil {
			continue
		}
		words := fmt.Sprintf("container %s ended with exit code %d", clip(s.Name, 63), x.ExitCode)
		if x.Reason != "" {
			words += " (" + clip(x.Reason, 60) + ")"
		}
		if x == s.LastState.Terminated {
			words += fmt.Sprintf(", and the kubelet started it again: %s by now", plural(s.RestartCount, "time"))
		}
		at(x.FinishedAt, event.ContainerExited, words)
	}
}
