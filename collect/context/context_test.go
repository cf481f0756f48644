package hostcontext

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/collect/subject"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/target"
)

// TestContext takes the runtime's records byte for byte, the target's description, the host and its clocks.
func TestContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.sherd")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w, err := evidence.NewWriter(f, evidence.WriterOptions{Tool: "test"})
	if err != nil {
		t.Fatal(err)
	}
	raw := "{ \"Id\":\t\"abc\", \"odd\": \"\xff\" }"
	c := &target.Container{ID: "abc", Name: "na\x1bme", PID: os.Getpid(), Records: []target.Record{
		{Name: "inspect.json", Origin: "GET /containers/abc/json", Data: []byte(raw)},
	}}
	before := time.Now()
	anomaly := target.Anomaly{Kind: "stray-process", PID: 7, Statement: "process 7 is in its namespaces"}
	s := subject.Subject{Container: c, Proc: "/proc", Processes: []subject.Process{{PID: os.Getpid(), Relation: record.InCgroup}}}
	if err := Collect(context.Background(), s, w, Options{Anomalies: []target.Anomaly{anomaly}}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	p, err := evidence.Open(path, evidence.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	read := func(name string) string {
		b, err := p.ReadFile(name, 1<<20)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		return string(b)
	}
	if got := read("target/inspect.json"); got != raw {
		t.Errorf("the runtime's record is %q", got)
	}
	var back target.Container
	if err := json.Unmarshal([]byte(read("target/target.json")), &back); err != nil || back.Name != c.Name || back.ID != "abc" {
		t.Errorf("target.json: %+v %v", back, err)
	}
	var h record.Host
	if err := json.Unmarshal([]byte(read("host/host.json")), &h); err != nil {
		t.Fatal(err)
	}
	if h.Kernel == "" || h.BootID == "" || h.PageSize != os.Getpagesize() || h.Realtime < before.UnixNano() || h.Realtime > time.Now().UnixNano() {
		t.Errorf("host: %+v", h)
	}
	if d := h.Realtime - h.Boottime - h.BootTime; d < -int64(2*time.Second) || d > int64(2*time.Second) {
		t.Errorf("the boot time is off by %v", time.Duration(d))
	}
	if h.Cgroup != "v1" && h.Cgroup != "v2" && h.Cgroup != "hybrid" {
		t.Errorf("cgroup %q", h.Cgroup)
	}
	found := false
	for _, e := range p.Artifacts("target/") {
		if b, err := p.ReadFile(e.Path, 1<<20); err == nil && strings.Contains(string(b), anomaly.Statement) {
			found = true
		}
	}
	if !found {
		t.Error("the anomaly is in no artifact")
	}
}
