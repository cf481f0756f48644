package main

import (
	"strings"
	"testing"

	"github.com/sherd-forensics/sherd/collect/cluster"
)

// TestChoose: the first way that is open is taken, unless one was asked for; a pod is changed only by permission.
func TestChoose(t *testing.T) {
	open, closed := &cluster.Plan{}, &cluster.Plan{User: "kira", Steps: []cluster.Step{{Have: cluster.Denied, Right: "do it"}}}
	for name, x := range map[string]struct {
		via            cluster.Way
		change         bool
		node, pod, api *cluster.Plan
		want           cluster.Way
		why            string // of the first way that is not taken
	}{
		"all open":                  {cluster.Auto, false, open, open, open, cluster.Node, "it changes the pod for good"},
		"no node":                   {cluster.Auto, false, closed, open, open, cluster.API, "kira may not do it"},
		"no node, pod permitted":    {cluster.Auto, true, closed, open, open, cluster.Pod, "kira may not do it"},
		"only the api":              {cluster.Auto, true, closed, closed, open, cluster.API, "kira may not do it"},
		"nothing":                   {cluster.Auto, true, closed, closed, closed, "", "kira may not do it"},
		"node asked for":            {cluster.Node, false, open, open, open, cluster.Node, "--via node"},
		"pod asked for":             {cluster.Pod, false, open, open, open, cluster.Pod, "--via pod"},
		"api asked for":             {cluster.API, false, open, open, open, cluster.API, "--via api"},
		"closed and asked for":      {cluster.Node, true, closed, open, open, "", "kira may not do it"},
		"pod closed, and asked for": {cluster.Pod, true, open, closed, open, "", "--via pod"},
	} {
		k := &clusterCapture{f: &captureFlags{via: viaFlags{changePod: x.change}}, way: x.via}
		got, rows := k.choose(map[cluster.Way]*cluster.Plan{cluster.Node: x.node, cluster.Pod: x.pod, cluster.API: x.api})
		if got != x.want || len(rows) != 3 {
			t.Errorf("%s: %q, not %q", name, got, x.want)
		}
		for _, r := range rows {
			if r[1] == "yes" {
				if cluster.Way(r[0]) != x.want {
					t.Errorf("%s: the row of %s says that it is taken", name, r[0])
				}
				continue
			}
			if !strings.Contains(r[2], x.why) {
				t.Errorf("%s: %s is not taken, since %q; not %q", name, r[0], r[2], x.why)
			}
			break
		}
	}
}
