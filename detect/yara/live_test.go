package yara

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/collect/memory"
	"github.com/sherd-forensics/sherd/collect/subject"
	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/testenv"
	"github.com/sherd-forensics/sherd/target"
)

// TestMain plays the process whose memory is taken.
func TestMain(m *testing.M) {
	if os.Getenv("SHERD_YARA_VICTIM") == "" {
		os.Exit(m.Run())
	}
	// Made here, so that only memory holds it.
	held := []byte(strings.Repeat("-", 100) + strings.ToUpper("live-marker-9c1d") + strings.Repeat("-", 100))
	fmt.Printf("%p\n", &held[100])
	time.Sleep(5 * time.Minute)
	fmt.Println(string(held))
}

// The memory of a live process, as the collector takes it: the address that the rule finds is the one that the process itself names.
func TestLiveProcess(t *testing.T) {
	testenv.NeedRoot(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "SHERD_YARA_VICTIM=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // killed on purpose
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	addr := strings.TrimSpace(line)
	path := filepath.Join(t.TempDir(), "live.sherd")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	c := &target.Container{URL: "pid://victim", Name: "victim", State: target.Running, PID: cmd.Process.Pid}
	w, err := evidence.NewWriter(file, evidence.WriterOptions{Tool: "test", Target: c})
	if err != nil {
		t.Fatal(err)
	}
	id, err := subject.Identify("/proc", cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := memory.Collect(t.Context(), subject.Subject{Container: c, Proc: "/proc", Processes: []subject.Process{id}}, w, memory.Options{}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	p, err := evidence.Open(path, evidence.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	f, err := detect.Load(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	dir := fmt.Sprintf("process/%d", cmd.Process.Pid)
	x := detect.Process{Process: record.Process{PID: cmd.Process.Pid, Dir: dir, Comm: "victim", Relation: record.InCgroup, Exe: record.Exe{Origin: record.ExeImage}}, HasMaps: true}
	for l, err := range p.Lines(dir + "/memory.jsonl") {
		if err != nil {
			t.Fatal(err)
		}
		var m detect.Mapping
		if err := json.Unmarshal(l.Data, &m.Mapping); err != nil {
			t.Fatal(err)
		}
		x.Maps = append(x.Maps, m)
	}
	f.Processes = []detect.Process{x}
	f.Index()
	set := rules(t, `rule live { strings: $b = /LIVE-MARKER-9C1D-{40}/ condition: $b }`)
	all, err := set.Answers(context.Background(), detect.Input{Facts: f, Package: p})
	if err != nil {
		t.Fatal(err)
	}
	got := hits(all, "yara:live")
	if len(got) != 1 || !strings.Contains(strings.ToLower(got[0].Statement), addr+" in ") {
		t.Fatalf("hits %+v, want one at %s", got, addr)
	}
	if text := cited(t, p, got[0].Citations[0]); !strings.Contains(strings.ToUpper(text), "LIVE-MARKER-9C1D") {
		t.Errorf("cited %q", text)
	}
}
