package detect_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/detect/detecttest"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/verdict"
)

// settings is what an honest pod asks for.
func settings(at time.Time, from string) detecttest.Called {
	return detecttest.Called{Time: at, Verb: "get", Resource: "configmaps", Namespace: "shop", Name: "settings", From: from, Agent: "shop/1"}
}

// tokenStolen is a pod whose token somebody else uses.
func tokenStolen(s *detecttest.Scene) {
	s.AsPod(0)
	s.Audit(settings(after.Add(-time.Hour), "10.0.7.5"), settings(after, "10.0.7.5"),
		detecttest.Called{Time: after.Add(time.Minute), Verb: "list", Resource: "secrets", Namespace: "shop", From: "203.0.113.9", Agent: "curl/8"},
		detecttest.Called{Time: after.Add(2 * time.Minute), Verb: "get", Resource: "secrets", Namespace: "shop", Name: "payment", From: "203.0.113.9", Agent: "curl/8"})
}

func TestTokenElsewhere(t *testing.T) {
	for name, c := range map[string]struct {
		scene func(*detecttest.Scene)
		want  string // in the statement; "" is no hit
	}{
		"stolen": {tokenStolen, "used from 203.0.113.9, which is neither the pod's address nor its node's: 2 calls, list secrets in shop, get secret shop/payment"},
		"from the node": {func(s *detecttest.Scene) {
			s.AsPod(0)
			s.Audit(settings(after, "10.0.7.5"), settings(after, "10.0.0.1"))
		}, ""},
		"a way that changes addresses": {func(s *detecttest.Scene) {
			s.AsPod(0)
			s.Audit(settings(after, "192.0.2.7"), settings(after.Add(time.Second), "192.0.2.8"))
		}, ""},
		"a way that changes addresses at times": {func(s *detecttest.Scene) {
			s.AsPod(0)
			s.Audit(settings(after, "192.0.2.7"), settings(after.Add(time.Second), "10.0.7.5"), settings(after.Add(2*time.Second), "192.0.2.7"))
		}, ""},
		"another pod of the account": {func(s *detecttest.Scene) {
			s.AsPod(0)
			other := settings(after.Add(time.Second), "10.0.7.9")
			other.Pod = "cart-2"
			s.Audit(settings(after, "10.0.7.5"), other)
		}, ""},
		"somebody else": {func(s *detecttest.Scene) {
			s.AsPod(0)
			other := settings(after.Add(time.Second), "203.0.113.9")
			other.Identity = "system:serviceaccount:shop:other"
			s.Audit(settings(after, "10.0.7.5"), other)
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := detecttest.Busy()
			c.scene(s)
			a := run(t, s)[detect.TokenElsewhere]
			switch {
			case c.want == "" && a.State() != detect.Clean:
				t.Errorf("it is %s: %+v", a.State(), a)
			case c.want != "" && (len(a.Hits) != 1 || !strings.Contains(a.Hits[0].Statement, c.want) || len(a.Hits[0].Citations) < 2):
				t.Errorf("hits %+v, want %q", a.Hits, c.want)
			}
		})
	}
}

// A volume may hold what came in an earlier container's time; what was there before the pod's first is the pod's own.
func TestVolumesOutliveContainers(t *testing.T) {
	program := func(at time.Time) func(*detecttest.Scene) {
		return func(s *detecttest.Scene) {
			s.MountFile("/var/lib/shop", "/var/lib/shop/.x", implant, 0o755, at)
			s.Foreign(4017, 17, 4001, "/var/lib/shop/.x", record.ExeVolume, implant, detecttest.Start.Add(time.Second)).Exe.Btime = at.UnixNano()
		}
	}
	for name, c := range map[string]struct {
		at       time.Time
		restarts int
		want     verdict.Severity
	}{
		"in an earlier container's time":  {detecttest.Start.Add(-time.Minute), 1, verdict.Critical},
		"before the pod's first":          {detecttest.Start.Add(-20 * time.Minute), 1, verdict.Low},
		"before the only container began": {detecttest.Start.Add(-time.Minute), 0, verdict.Low},
	} {
		s := detecttest.Busy()
		s.AsPod(c.restarts)
		program(c.at)(s)
		if a := run(t, s)["process-foreign-program"]; a.Gravest() != c.want {
			t.Errorf("%s: %s, want %s: %+v", name, a.Gravest(), c.want, a.Hits)
		}
	}
}

// Of a container that waits to be started again nobody knows when it started; its pod tells when the first was.
func TestVolumesOfACrashedContainer(t *testing.T) {
	s := detecttest.Busy()
	s.AsPod(2)
	s.Container.Started, s.Container.State = time.Time{}, "exited"
	s.Processes = nil
	s.MountFile("/var/lib/shop", "/var/lib/shop/.x", implant, 0o755, detecttest.Start.Add(-time.Minute))
	if a := run(t, s, "processes", "memory", "sockets")["file-program-in-memory-mount"]; a.Gravest() != verdict.Medium {
		t.Errorf("%s: %+v", a.Gravest(), a)
	}
}

// A file that Python runs at each start weighs on a volume only where Python looks, and if it came with nobody who set the pod up.
func TestStartHooksOnVolumes(t *testing.T) {
	const file = "/var/lib/shop/lib/sitecustomize.py"
	for name, c := range map[string]struct {
		at      time.Time
		looks   string
		content string
		want    detect.State
	}{
		"where Python looks":     {after, "/app:/var/lib/shop/lib", "import os", detect.Hit},
		"where it does not":      {after, "/app", "import os", detect.Clean},
		"before the container":   {detecttest.Start.Add(-time.Minute), "/var/lib/shop/lib", "import os", detect.Clean},
		"that says nothing":      {after, "/var/lib/shop/lib", "", detect.Clean},
		"in a folder below that": {after, "/var/lib/shop", "import os", detect.Clean},
	} {
		s := detecttest.Busy()
		s.Env[4001] = append(s.Env[4001], "PYTHONPATH="+c.looks)
		s.MountFile("/var/lib/shop", file, c.content, 0o644, c.at)
		if a := run(t, s)["file-configuration-changed"]; a.State() != c.want {
			t.Errorf("%s: %s, want %s: %+v", name, a.State(), c.want, a.Hits)
		}
	}
}

// What the cluster's documents say is the API server's word, but any may be garbled: nothing is then made of them.
func TestGarbledCluster(t *testing.T) {
	for _, doc := range []string{"", "null", "[]", `{"status":7}`, `{"status":{"containerStatuses":[{"restartCount":"x"}]}}`, strings.Repeat("[", 5000)} {
		s := detecttest.Busy()
		s.AsPod(1)
		for _, name := range []string{"pod", "node", "permissions", "exposure", "siblings", "references"} {
			s.Extra["target/kubernetes/"+name+".json"] = doc
		}
		s.Extra["target/kubernetes/audit.jsonl"] = doc + "\n"
		for id, a := range run(t, s) {
			if (id == detect.TokenElsewhere || id == "pod-container-restarts") && a.State() == detect.Hit {
				t.Errorf("of %q %s makes %+v", doc, id, a.Hits)
			}
		}
	}
}
