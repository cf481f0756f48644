package report_test

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/sherd-forensics/sherd/detect/detecttest"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/investigate"
	"github.com/sherd-forensics/sherd/report"
)

var update = flag.Bool("update", false, "write the golden files anew")

func dropped() *detecttest.Scene {
	s := detecttest.Busy()
	at := detecttest.Attack
	s.Request(at.Add(204*time.Millisecond), "10.0.7.31:40022", "POST", "/avatar?name=../../usr/lib/conv", 201)
	s.Request(at.Add(630*time.Millisecond), "10.0.7.31:40024", "GET", "/convert", 202)
	p := s.Foreign(4017, 17, 4001, "/usr/lib/conv", record.ExeDeleted, detecttest.ELF+"implant", at.Add(610*time.Millisecond))
	p.Exe.Btime, p.Exe.Ctime = at.Add(203*time.Millisecond).UnixNano(), at.Add(900*time.Millisecond).UnixNano()
	p.Comm = "kworker/0:1"
	s.Connect(p, 3, "203.0.113.9", 4444, 11469, 3174)
	return s
}

func judge(t *testing.T, s *detecttest.Scene, without ...string) *investigate.Result {
	t.Helper()
	r, err := investigate.Investigate(context.Background(), s.Write(t, without...), investigate.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// settled takes out what is not the verdict's: the package's own hash and size depend on its signature.
func settled(r *investigate.Result) *investigate.Result {
	r.Verdict.Target.SHA256 = strings.Repeat("5f", 32)
	r.Header.PackageSize = 18 << 20
	return r
}

// Where a row stands in its list, and the list's hash, change whenever the format of records gains a field.
var (
	placeJSON = regexp.MustCompile(`("artifact": "[^"]*[.]jsonl",\s*"offset": )[0-9]+(,\s*"length": )[0-9]+(,\s*"sha256": ")[0-9a-f]{64}`)
	placeText = regexp.MustCompile(`([.]jsonl [+])[0-9,]+ [(][^)]*[)]`)
)

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	got = placeJSON.ReplaceAll(got, []byte("${1}0${2}0${3}0"))
	got = placeText.ReplaceAll(got, []byte("${1}N (N B)"))
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (go test ./report -update writes it anew):\n%s", path, got)
	}
}

func TestGolden(t *testing.T) {
	for _, c := range []struct {
		name    string
		scene   *detecttest.Scene
		without []string
		o       report.Options
	}{
		{"clean", detecttest.Busy(), nil, report.Options{}},
		{"dropped", dropped(), nil, report.Options{}},
		{"dropped-verbose", dropped(), nil, report.Options{Verbose: true, Width: 100}},
		{"blind", dropped(), []string{"processes", "memory"}, report.Options{}},
		{"nothing-but-files", detecttest.Busy(), []string{"processes", "environ", "memory", "sockets"}, report.Options{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := settled(judge(t, c.scene, c.without...))
			var text, js bytes.Buffer
			if err := report.Text(&text, r, c.o); err != nil {
				t.Fatal(err)
			}
			golden(t, c.name+".txt", text.Bytes())
			if err := report.JSON(&js, &r.Verdict); err != nil {
				t.Fatal(err)
			}
			golden(t, c.name+".json", js.Bytes())
			width := max(c.o.Width, 80)
			for _, l := range strings.Split(text.String(), "\n") {
				if n := len([]rune(l)); n > width {
					t.Errorf("line of %d columns: %s", n, l)
				}
			}
		})
	}
}

// What an attacker names must not reach a terminal as control bytes, in any field.
func TestHostileNames(t *testing.T) {
	const evil = "\x1b[2J\x1b]0;owned\x07\u202e\xff\xfe\n\r\x00x\u009b31m"
	s := dropped()
	s.Container.Name, s.Container.URL, s.Container.Runtime, s.Container.Image.Name = evil, evil, evil, evil
	s.Container.State = evil
	s.Container.Distroless.Reason = evil
	s.Host.Hostname = evil
	s.Container.Name = strings.ReplaceAll(evil, "\x00", "")
	noNUL := record.Name(strings.ReplaceAll(evil, "\x00", ""))
	for i := range s.Processes {
		p := &s.Processes[i]
		p.Comm = record.Name(evil)
		p.Cmdline = []record.Name{record.Name(evil), "[" + record.Name(evil) + "]"}
		p.LSM, p.Cgroup, p.Cwd = evil, evil, record.Name(evil)
	}
	s.Processes[1].Exe.Path = "/" + noNUL
	s.Env[4017] = append(s.Env[4017], "LD_PRELOAD=/tmp/"+strings.ReplaceAll(evil, "\x00", ""), "TOKEN\x1b[31m=x")
	s.Maps[4017][0].Path = "/" + noNUL
	s.Files = append(s.Files, record.File{Tree: record.TreeRoot, Path: "/tmp/" + noNUL, Type: record.TypeFile, Mode: 0o4755, SHA256: detecttest.Hash("e"), Magic: []byte(detecttest.ELF),
		Layer: record.WritableLayer, Error: evil, Btime: detecttest.Attack.UnixNano()})
	s.Mounts = append(s.Mounts, record.Mounted{Point: "/mnt" + noNUL, FSType: "tmpfs", Kind: "tmpfs", Writable: true})
	s.MountFile("/mnt"+string(noNUL), "/mnt"+strings.ReplaceAll(string(noNUL), "/", "_")+"/x", detecttest.ELF, 0o755, detecttest.Attack)
	delete(s.Extra, "volumes/mnt"+strings.ReplaceAll(string(noNUL), "/", "_")+"/x")
	s.Request(detecttest.Attack.Add(210*time.Millisecond), evil, "POST", "/x?"+evil, 200)
	s.Logs = append(s.Logs, detecttest.Log{Time: detecttest.Attack.Add(205 * time.Millisecond), Text: `10.1.1.1 "POST /` + evil + ` HTTP/1.1" 200`})
	s.Sockets[len(s.Sockets)-1].State = evil
	s.Missed = append(s.Missed, record.Miss{What: evil, Kind: "logs", Reason: evil, Partial: true, Count: 1})
	s.Container.Name = "evil"
	p := s.Write(t)
	r, err := investigate.Investigate(context.Background(), p, investigate.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r.Verdict.Target.Name, r.Verdict.Target.Evidence = evil, evil
	var text, js bytes.Buffer
	if err := report.Text(&text, r, report.Options{Verbose: true}); err != nil {
		t.Fatal(err)
	}
	if err := report.JSON(&js, &r.Verdict); err != nil {
		t.Fatal(err)
	}
	for name, out := range map[string]string{"text": text.String(), "json": js.String()} {
		for _, c := range out {
			if c != '\n' && (unicode.IsControl(c) || name == "text" && unicode.Is(unicode.Cf, c)) {
				t.Errorf("%s holds %U", name, c)
			}
		}
	}
	if strings.Contains(text.String(), "hunter2") || strings.Contains(js.String(), "hunter2") {
		t.Error("a secret's value is shown")
	}
}

func TestTogether(t *testing.T) {
	scene := func(id, name string, s *detecttest.Scene) *investigate.Result {
		s.ID, s.Container.Name, s.Container.ID = id, name, strings.Repeat(id[:2], 32)
		return judge(t, s)
	}
	results := []*investigate.Result{scene("a1", "shop", dropped()), scene("b2", "web", detecttest.Busy()), scene("c3", "payments", dropped())}
	r := investigate.Together(results)
	if err := r.Verdict.Check(); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := report.Text(&out, r, report.Options{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"3 containers: shop, payments, web", "COMPROMISED", "web clean", "not touched, as far as was seen", "address 203.0.113.9 in shop, payments", "sha256 " + detecttest.Hash(detecttest.ELF+"implant"),
		"[1] shop.sherd logs/0.log", "sherd show FILE ARTIFACT", "web is made from the same image"} {
		if !strings.Contains(strings.Join(strings.Fields(out.String()), " "), want) {
			t.Errorf("lacks %q:\n%s", want, out.String())
		}
	}
}

func TestSameBytesSameVerdict(t *testing.T) {
	p := dropped().Write(t)
	var first []byte
	for range 5 {
		r, err := investigate.Investigate(context.Background(), p, investigate.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := report.JSON(&b, &r.Verdict); err != nil {
			t.Fatal(err)
		}
		if err := report.Text(&b, r, report.Options{Verbose: true}); err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = b.Bytes()
		} else if !bytes.Equal(first, b.Bytes()) {
			t.Fatal("the same package gave another report")
		}
	}
}
