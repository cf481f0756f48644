package cgroup

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/parsetest"
)

func events(t testing.TB, files map[string]string) (out []event.Event, skips []parse.Skip) {
	t.Helper()
	files["host/host.json"] = `{"realtime":1795489331000000000,"monotonic":1}`
	artifacts := map[string][]byte{}
	for name, s := range files {
		artifacts[name] = []byte(s)
	}
	err := Artifacts.Read(context.Background(), parsetest.Package(t, artifacts), func(s parse.Skip) { skips = append(skips, s) }, func(e *event.Event) error {
		c := *e
		c.Attributes = bytes.Clone(e.Attributes)
		if !json.Valid(c.Attributes) || int(e.Length) != len(files[e.Artifact]) {
			t.Fatalf("%+v", c)
		}
		out = append(out, c)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out, skips
}

// TestGolden reads the files of a real container.
func TestGolden(t *testing.T) {
	names, err := filepath.Glob("testdata/v1/*")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	files := map[string]string{}
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			t.Fatal(err)
		}
		files[folder+strings.SplitN(filepath.Base(n), ".", 2)[0]+"/"+filepath.Base(n)] = string(b)
	}
	all, skips := events(t, files)
	if len(skips) > 0 {
		t.Errorf("skipped %v", skips)
	}
	var got bytes.Buffer
	for _, e := range all {
		if err := json.NewEncoder(&got).Encode(e); err != nil {
			t.Fatal(err)
		}
	}
	parsetest.Compare(t, "testdata/v1.golden", got.Bytes())
}

func TestUnified(t *testing.T) {
	u := folder + "unified/"
	all, skips := events(t, map[string]string{
		u + "memory.peak": "1073741824\n", u + "memory.current": "4096\n", u + "memory.max": "max\n", u + "memory.events": "low 0\nhigh 0\nmax 7\noom 2\noom_kill 2\n",
		u + "cpu.stat": "usage_usec 2500000\nuser_usec 1\nnr_throttled 3\n", u + "pids.current": "5\n", u + "pids.peak": "90\n", u + "pids.max": "100\n", u + "pids.events": "max 4\n",
		u + "io.stat": "8:0 rbytes=1024 wbytes=2048 rios=1\n8:16 rbytes=1024 wbytes=0\n",
	})
	var got []string
	for _, e := range all {
		got = append(got, e.Message+" "+string(e.Attributes))
	}
	want := []string{
		`memory: 4.0 KiB in use, at most 1.0 GiB, killed for lack of it 2 times {"group":"memory","memory_peak":1073741824,"memory_used":4096,"memory_limit_hits":7,"oom_kills":2}`,
		`processor time: 2.50 seconds {"group":"processor","cpu_us":2500000,"throttled_periods":3}`,
		`processes and threads: 5, at most 90, 4 times more were wanted than are allowed {"group":"processes","pids":5,"pids_peak":90,"pids_limit":100,"pids_limit_hits":4}`,
		`disks: 2.0 KiB read, 2.0 KiB written {"group":"disks","bytes_read":2048,"bytes_written":2048}`,
	}
	if d := cmp.Diff(want, got); d != "" || len(skips) > 0 {
		t.Errorf("%v (-want +got):\n%s", skips, d)
	}
}

func TestDamage(t *testing.T) {
	all, skips := events(t, map[string]string{folder + "memory/memory.max_usage_in_bytes": "\x00\xff", folder + "pids/pids.current": "99999999999999999999999\n", folder + "cpu/cpu.stat": "usage_usec -5\n"})
	if len(all) != 0 || len(skips) != 3 {
		t.Errorf("%v, %v", all, skips)
	}
}

func FuzzNumber(f *testing.F) {
	f.Add("8:0 rbytes=1 wbytes=2\n", "rbytes")
	f.Add("8:0 Read 5\n8:16 Read 6\nTotal 11\n", "Read")
	f.Add("max", "")
	f.Fuzz(func(t *testing.T, s, key string) {
		if v, ok, bad := number(s, key); v < 0 || ok && bad {
			t.Fatalf("%d, %v, %v", v, ok, bad)
		}
	})
}
