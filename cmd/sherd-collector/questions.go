package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sherd-forensics/sherd/cmd/internal/acquire"
	"github.com/sherd-forensics/sherd/collect/relay"
	"github.com/sherd-forensics/sherd/target"
	"github.com/sherd-forensics/sherd/target/neighbour"
)

// maxFound bounds an answer; a kubelet runs 110 pods unless told otherwise.
const maxFound = 1500

// questions are what a collector answers beside making packages.
func questions(places *acquire.Places) map[string]relay.Question {
	return map[string]relay.Question{
		relay.AskPods:       func(ctx context.Context, r *relay.Request) (any, error) { return pods(ctx, places, r.Expect) },
		relay.AskFreeze:     func(ctx context.Context, r *relay.Request) (any, error) { return hold(ctx, places, r) },
		relay.AskThaw:       func(ctx context.Context, r *relay.Request) (any, error) { return hold(ctx, places, r) },
		relay.AskDistroless: func(ctx context.Context, r *relay.Request) (any, error) { return judge(ctx, places, r) },
	}
}

// pods lists the containers that the node's runtime labels as those of a pod, of all pods if e is nil. Parts of e that are empty match all.
func pods(ctx context.Context, places *acquire.Places, e *relay.Expect) (*relay.Found, error) {
	all, err := places.InPods(ctx)
	if err != nil {
		return nil, err
	}
	out := &relay.Found{Containers: []relay.FoundContainer{}}
	for _, c := range all {
		if e != nil && !meant(c.Pod, e) {
			continue
		}
		if len(out.Containers) == maxFound {
			out.More++
			continue
		}
		f := relay.FoundContainer{Expect: relay.Expect{Namespace: c.Pod.Namespace, Pod: c.Pod.Name, UID: c.Pod.UID, Container: c.Pod.Container},
			Target: c.URL, State: string(c.State), Image: c.Image.Name, Digest: c.Image.Digest}
		if !c.Created.IsZero() {
			f.Created = c.Created.UTC().Format(time.RFC3339Nano)
		}
		out.Containers = append(out.Containers, f)
	}
	return out, nil
}

// meant reports whether a container's labels say what is expected of it.
func meant(p *target.Pod, e *relay.Expect) bool {
	same := func(have, want string) bool { return want == "" || have == want }
	return p != nil && same(p.Namespace, e.Namespace) && same(p.Name, e.Pod) && same(p.UID, e.UID) && same(p.Container, e.Container)
}

// judge says which of the containers asked for are distroless.
func judge(ctx context.Context, places *acquire.Places, r *relay.Request) (*relay.Judged, error) {
	var asked relay.Targets
	if err := json.Unmarshal(r.Args, &asked); err != nil {
		return nil, fmt.Errorf("the question: %w", err)
	}
	if len(asked.Targets) > maxFound {
		return nil, fmt.Errorf("%d containers are asked for at once, more than %d", len(asked.Targets), maxFound)
	}
	all, err := places.InPods(ctx)
	if err != nil {
		return nil, err
	}
	out := &relay.Judged{Of: map[string]relay.Judgement{}}
	for _, t := range asked.Targets {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		j := relay.Judgement{Reason: "not on the node"}
		if i := slices.IndexFunc(all, func(c *target.Container) bool { return sameID(t, c) }); i >= 0 {
			j.Reason = "its files can't be read"
			if d := places.Judge(all[i]); d != nil {
				j = relay.Judgement{Distroless: &d.Distroless, Reason: d.Reason[:min(len(d.Reason), 400)]}
			}
		}
		out.Of[t] = j
	}
	return out, nil
}

// sameID compares the container that a target names with one, by the whole of its id.
func sameID(t string, c *target.Container) bool { return t[strings.LastIndexByte(t, '/')+1:] == c.ID }

// find leads to the container that a request means. The API server's word for which that is comes from the node's kubelet, so it is held
// against what the node's runtime says: an id that belongs to another pod, or to nothing, gives way to the container that the
// runtime labels as the one asked for. why says what made it so; "" if there was no need.
func find(ctx context.Context, places *acquire.Places, r *relay.Request) (src *acquire.Source, why string, err error) {
	if r.Container != nil { // from beside it, there is no runtime to ask
		src, err = places.Find(ctx, target.Ref{Scheme: neighbour.Scheme, Rest: r.Container.ID}, true)
		return src, "", err
	}
	ref, err := target.ParseRef(r.Target)
	if err != nil {
		return nil, "", err
	}
	src, err = places.Find(ctx, ref, true)
	var gone *target.NotFoundError
	if r.Expect == nil || err != nil && !errors.As(err, &gone) || err == nil && meant(src.Container.Pod, r.Expect) {
		return src, "", err
	}
	asked := r.Expect.Namespace + "/" + r.Expect.Pod + "/" + r.Expect.Container
	why = "that id is not on the node"
	if err == nil {
		why = "that id is " + whose(src.Container) + " for the node's runtime"
		if cerr := src.Close(); cerr != nil {
			return nil, "", cerr
		}
	}
	all, lerr := places.InPods(ctx)
	if lerr != nil {
		return nil, "", errors.Join(err, lerr)
	}
	for _, c := range slices.Backward(all) {
		if !meant(c.Pod, r.Expect) {
			continue
		}
		other, perr := target.ParseRef(c.URL)
		if perr != nil {
			return nil, "", perr
		}
		if src, err = places.Find(ctx, other, true); err != nil {
			return nil, "", err
		}
		src.Container.Warn(fmt.Sprintf("the API server names %s as the container of %s, but %s: captured is %s, the newest that the node's runtime knows by that name", r.Target, asked, why, c.URL))
		return src, why, nil
	}
	if err == nil {
		err = errors.New("what the cluster's status says and what its node has contradict each other, so that nothing was captured; `sherd collect` of the other names what it is")
	}
	return nil, "", fmt.Errorf("the API server names %s as the container of %s, but %s, and the runtime knows none by that name: %w", r.Target, asked, why, err)
}

// whose names a container as its runtime does.
func whose(c *target.Container) string {
	if c.Pod == nil {
		return "a container of no pod"
	}
	return "that of " + c.Pod.Namespace + "/" + c.Pod.Name + "/" + c.Pod.Container + " (pod " + c.Pod.UID + ")"
}
