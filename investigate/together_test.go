package investigate_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/detect/detecttest"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/investigate"
	"github.com/sherd-forensics/sherd/verdict"
)

// scenes of an intrusion that goes from a shop on to its payments, beside a container that is clean.
func shop() *scene {
	s := named("a1", "shop")
	s.Request(at.Add(4*time.Millisecond), "198.51.100.9:40022", "POST", "/avatar?name=..%2F..%2Fusr%2Flib%2Fconv", 201)
	p := s.Foreign(4017, 17, 4001, "/usr/lib/conv", record.ExeDeleted, implant, at.Add(410*time.Millisecond))
	p.Exe.Btime, p.Exe.Ctime = at.UnixNano(), at.Add(500*time.Millisecond).UnixNano()
	s.Connect(p, 3, "10.0.9.9", 8080, 4000, 200)
	return s
}

func payments() *scene {
	s := named("b2", "payments")
	for i := range s.Sockets {
		if s.Sockets[i].LocalIP == "10.0.7.5" {
			s.Sockets[i].LocalIP = "10.0.9.9"
		}
	}
	later := at.Add(2 * time.Minute)
	s.Request(later.Add(3*time.Millisecond), "10.0.7.5:50100", "POST", "/import?file=ledger-sync", 200)
	s.AddFile("/data/ledger-sync", implant, 0o755, later)
	s.Foreign(4030, 30, 4001, "/data/ledger-sync", record.ExeDrift, implant, later.Add(100*time.Millisecond))
	return s
}

func named(id, name string) *scene {
	s := detecttest.Busy()
	s.ID, s.Container.Name, s.Container.ID = id, name, strings.Repeat(id, 32)
	return s
}

func together(t *testing.T, scenes ...*scene) *investigate.Result {
	t.Helper()
	var results []*investigate.Result
	for _, s := range scenes {
		results = append(results, judge(t, s))
	}
	r := investigate.Together(results)
	if err := r.Verdict.Check(); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestTogether(t *testing.T) {
	r := together(t, named("c3", "web"), payments(), shop())
	v := &r.Verdict
	if v.Verdict != verdict.Compromised || len(v.Containers) != 3 {
		t.Fatalf("%s over %d containers", v.Verdict, len(v.Containers))
	}
	var roles []string
	for _, m := range r.Members {
		roles = append(roles, m.Name+" "+m.Role)
	}
	if want := []string{"shop " + investigate.RoleFirst, "payments " + investigate.RoleReached, "web " + investigate.RoleAlone}; !slices.Equal(roles, want) {
		t.Errorf("roles %q", roles)
	}
	if v.RootCause == nil || !strings.HasPrefix(v.RootCause.Statement, "shop: POST /avatar") || v.RootCause.Citations[0].Evidence != "a1" {
		t.Errorf("root cause %+v", v.RootCause)
	}
	ids := map[string]verdict.Entity{}
	for _, e := range v.Scope {
		ids[e.ID()] = e
	}
	for id, role := range map[string]string{"container:" + strings.Repeat("a1", 32): investigate.RoleFirst, "container:" + strings.Repeat("b2", 32): investigate.RoleReached,
		"process:/usr/lib/conv#17@a1a1a1a1a1a1": "foreign", "process:/data/ledger-sync#30@b2b2b2b2b2b2": "foreign", "address:198.51.100.9": "source"} {
		if ids[id].Role != role {
			t.Errorf("%s has the role %q, not %q; %v", id, ids[id].Role, role, ids)
		}
	}
	if _, there := ids["container:"+strings.Repeat("c3", 32)]; there {
		t.Error("the clean container is in the scope")
	}
	for _, id := range v.RootCause.Entities {
		if _, there := ids[id]; !there && !strings.HasPrefix(id, "file:") {
			t.Errorf("the root cause names %s, which the scope does not have", id)
		}
	}
	if !slices.ContainsFunc(v.Impact, func(i verdict.Impact) bool {
		return i.Type == verdict.ImpactLateral && strings.Contains(i.Statement, "from shop to payments") && len(i.Citations) > 0
	}) {
		t.Errorf("no move is told: %+v", v.Impact)
	}
	if !slices.IsSortedFunc(v.Story, func(a, b verdict.Step) int { return strings.Compare(a.Time[:19], b.Time[:19]) }) {
		t.Error("the story is not in order of time")
	}
	for _, s := range v.Story {
		for _, c := range s.Citations {
			if c.Evidence == "" {
				t.Errorf("%q cites no evidence in particular", s.Statement)
			}
		}
	}
}

// The verdict over several is the same, byte for byte, in whichever order they are given, and changes nothing of theirs.
func TestTogetherOrder(t *testing.T) {
	results := []*investigate.Result{judge(t, shop()), judge(t, payments()), judge(t, named("c3", "web"))}
	var first, own []byte
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 0, 2, 1}} {
		var in []*investigate.Result
		for _, i := range order {
			in = append(in, results[i])
		}
		var b, mine bytes.Buffer
		r := investigate.Together(in)
		for _, w := range []struct {
			to   *bytes.Buffer
			what any
		}{{&b, r.Verdict}, {&b, r.Members}, {&b, r.Moves}, {&b, r.Shared}, {&b, r.Graph}, {&b, r.Timeline}, {&mine, results[0].Verdict}} {
			if err := json.NewEncoder(w.to).Encode(w.what); err != nil {
				t.Fatal(err)
			}
		}
		if first == nil {
			first, own = b.Bytes(), mine.Bytes()
		}
		if !bytes.Equal(first, b.Bytes()) {
			t.Errorf("order %v gives another verdict", order)
		}
		if !bytes.Equal(own, mine.Bytes()) {
			t.Error("a container's own verdict was changed")
		}
	}
}

// Two that are clean are clean together, no surer than the less sure.
func TestTogetherClean(t *testing.T) {
	less := named("b2", "api")
	less.Missed = []record.Miss{{What: "x", Kind: "process", Reason: "gone", Partial: true, Count: 1}}
	r := together(t, named("a1", "web"), less)
	if v := &r.Verdict; v.Verdict != verdict.Clean || v.Confidence != judge(t, less).Verdict.Confidence || v.RootCause != nil || len(v.Scope)+len(v.Impact) > 0 {
		t.Errorf("judged %+v", v)
	}
}
