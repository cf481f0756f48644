package runtimerecord

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/parsetest"
)

func events(t testing.TB, docs map[string][]byte) (out []event.Event, skips []parse.Skip) {
	t.Helper()
	artifacts := map[string][]byte{}
	for name, b := range docs {
		artifacts[folder+name] = b
	}
	err := Artifacts.Read(context.Background(), parsetest.Package(t, artifacts), func(s parse.Skip) { skips = append(skips, s) }, func(e *event.Event) error {
		c := *e
		c.Attributes = bytes.Clone(e.Attributes)
		b := docs[strings.TrimPrefix(e.Artifact, folder)]
		if e.Offset < 0 || e.Length < 1 || e.Offset+e.Length > int64(len(b)) {
			t.Fatalf("%q cites %d+%d of %d bytes", e.Message, e.Offset, e.Length, len(b))
		}
		if len(e.Attributes) > 0 && !json.Valid(e.Attributes) {
			t.Fatalf("attributes %q", e.Attributes)
		}
		out = append(out, c)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out, skips
}

// TestGolden reads what real runtimes wrote, and shows the bytes that each event cites.
func TestGolden(t *testing.T) {
	for _, runtime := range []string{"docker", "containerd", "podman"} {
		t.Run(runtime, func(t *testing.T) {
			files, err := filepath.Glob(filepath.Join("testdata", runtime, "*.json"))
			if err != nil || len(files) < 3 {
				t.Fatal(files, err)
			}
			docs := map[string][]byte{}
			for _, f := range files {
				if docs[filepath.Base(f)], err = os.ReadFile(f); err != nil {
					t.Fatal(err)
				}
			}
			all, skips := events(t, docs)
			if len(skips) != 0 {
				t.Errorf("skipped %v", skips)
			}
			var got bytes.Buffer
			enc := json.NewEncoder(&got)
			enc.SetEscapeHTML(false)
			for _, e := range all {
				cited := docs[strings.TrimPrefix(e.Artifact, folder)][e.Offset : e.Offset+e.Length]
				err := enc.Encode(map[string]any{"time": time.Unix(0, e.Time).UTC(), "time_kind": e.TimeKind, "kind": e.Kind, "message": e.Message, "parser": e.Parser,
					"artifact": e.Artifact, "cited": string(cited[:min(len(cited), 60)]), "attributes": e.Attributes})
				if err != nil {
					t.Fatal(err)
				}
			}
			parsetest.Compare(t, filepath.Join("testdata", runtime+".golden"), got.Bytes())
		})
	}
}

// TestLives tells how containers ended, and what they were allowed to do.
func TestLives(t *testing.T) {
	all, _ := events(t, map[string][]byte{
		"inspect.json": []byte(`{"Created":"2026-11-24T01:00:00Z","State":{"StartedAt":"2026-11-24T01:00:01Z","FinishedAt":"2026-11-24T01:00:09Z","ExitCode":137,"OOMKilled":true,
"Health":{"Log":[{"Start":"2026-11-24T01:00:05Z","End":"2026-11-24T01:00:06Z","ExitCode":1,"Output":"no"},{"Start":"2026-11-24T01:00:02Z","End":"2026-11-24T01:00:03Z","ExitCode":0}]}},"RestartCount":3}`),
		"target.json": []byte(`{"created":"2020-01-01T00:00:00Z","started":"2020-01-01T00:00:00Z"}`),
		"config.json": []byte(`{"process":{"args":["/app"],"user":{"uid":0},"capabilities":{"bounding":["CAP_SYS_ADMIN","CAP_CHOWN"]}},"linux":{"namespaces":[{"type":"mount"},{"type":"pid"},{"type":"ipc"},{"type":"uts"}]},
"mounts":[{"destination":"/host","type":"bind","source":"/"},{"destination":"/etc/hosts","type":"bind","source":"/x"}]}`),
		"image-config.json": []byte(`{"created":"1970-01-01T00:00:01Z","history":[{"created":"2026-01-01T00:00:00Z","created_by":"ENV A=b","empty_layer":true},{"created":"2026-01-01T00:00:01Z","created_by":"COPY"}],"rootfs":{"diff_ids":["sha256:aa"]}}`),
	})
	var got []string
	for _, e := range all {
		got = append(got, string(e.Kind)+": "+e.Message+" "+string(e.Attributes))
	}
	want := []string{
		`container.created: container created `,
		`container.started: container started, after 3 restarts {"restarts":3}`,
		`container.exited: container ended with exit code 137 (signal 9), killed for lack of memory {"exit_code":137,"oom_killed":true}`,
		`container.observed: health check failed with exit code 1 {"exit_code":1,"output":"no"}`,
		`container.observed: configured to run /app, with more capabilities than usual, the host's network namespace, folders of the host {"command":"/app","uid":0,"capabilities":"CAP_SYS_ADMIN","host_namespaces":"network","no_seccomp":true,"host_mounts":"/:/host"}`,
		`image.built: image built, by the time that its builder gave it `,
		`image.layer: image setting: ENV A=b {"empty_layer":true}`,
		`image.layer: image layer: COPY {"diff_id":"sha256:aa","layer":0}`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestDamage(t *testing.T) {
	for _, s := range []string{"", "null", "[]", "\x00\xff", `{"Created":"2026-11-24T01:00:00Z","State":{"Sta`, `{"Created":5}`, strings.Repeat(`{"State":`, 500)} {
		all, skips := events(t, map[string][]byte{"inspect.json": []byte(s)})
		if s == `{"Created":5}` {
			continue
		}
		if len(skips) != 1 || skips[0].Artifact != "target/inspect.json" {
			t.Errorf("%q: skips %v", s, skips)
		}
		if strings.HasPrefix(s, `{"Created"`) && len(all) != 1 {
			t.Errorf("%q: what stands before the cut is lost", s)
		}
	}
}

func FuzzDocuments(f *testing.F) {
	files, err := filepath.Glob("testdata/*/*.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, d := range documents {
			n := 0
			r := &reader{seen: map[event.Kind]int64{event.ContainerCreated: 1}, emit: func(e *event.Event) error {
				if n++; n > 2*maxLayers {
					t.Fatal("events without end")
				}
				if e.Offset < 0 || e.Length < 0 || e.Offset+e.Length > int64(len(b)) || len(e.Attributes) > 0 && !json.Valid(e.Attributes) {
					t.Fatalf("%+v of %d bytes", e, len(b))
				}
				return nil
			}}
			r.document("x", b, d.read)
		}
	})
}
