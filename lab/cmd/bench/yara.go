package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/detect/yara"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/verdict"
)

// makeRules writes n rules of the kinds that collections have: texts, some of them wide or in any case, bytes with jumps, expressions. One in
// a hundred is true of fillText's words.
func makeRules(path string, n int) error {
	rng := rand.New(rand.NewPCG(5, 6))
	word := func(k int) string {
		b := make([]byte, k)
		for i := range b {
			b[i] = "abcdefghijklmnopqrstuvwxyz_/.-"[rng.IntN(30)]
		}
		return string(b)
	}
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, "rule bench_%d {\n  meta:\n    score = %d\n  strings:\n", i, rng.IntN(100))
		for k := range 3 {
			fmt.Fprintf(&b, "    $t%d = \"%s\"%s\n", k, word(8+rng.IntN(16)), []string{"", " nocase", " wide ascii", " fullword"}[rng.IntN(4)])
		}
		fmt.Fprintf(&b, "    $h = { %02x %02x %02x %02x [2-6] %02x ?? %02x %02x }\n", rng.IntN(256), rng.IntN(256), rng.IntN(256), rng.IntN(256), rng.IntN(256), rng.IntN(256), rng.IntN(256))
		fmt.Fprintf(&b, "    $r = /%s[0-9]{1,8}%s/\n", strings.ReplaceAll(word(6), "/", "_"), strings.ReplaceAll(word(4), "/", "_"))
		if i%100 == 0 {
			fmt.Fprintf(&b, "    $known = \"%s\"\n", []string{"/api/v1/orders/ 4711", "Mozilla/5.0 77", "checkout 333", "duration_ms 421"}[i/100%4])
			b.WriteString("  condition:\n    #known > 2 or 2 of ($t*) or $h or $r\n}\n")
			continue
		}
		b.WriteString("  condition:\n    2 of ($t*) or $h or $r\n}\n")
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}

// childYara asks the rules of a file of the memory in a sealed package, and prints how many are true.
func childYara(sealed, rules string) error {
	p, err := evidence.Open(sealed, evidence.OpenOptions{})
	if err != nil {
		return err
	}
	defer p.Close()
	src, err := os.ReadFile(rules)
	if err != nil {
		return err
	}
	s := yara.Empty()
	if _, refused := s.Add(rules, src); len(refused) > 0 {
		return fmt.Errorf("line %d: %s", refused[0].Line, refused[0].Why)
	}
	ctx := context.Background()
	f, err := detect.Load(ctx, p)
	if err != nil {
		return err
	}
	if f.Processes, err = processes(p); err != nil {
		return err
	}
	f.Index()
	answers, err := s.Answers(ctx, detect.Input{Facts: f, Package: p})
	if err != nil {
		return err
	}
	hit := 0
	for i := range answers {
		if answers[i].State() == detect.Hit {
			hit++
		}
	}
	fmt.Println(hit)
	return nil
}

// processes are those whose memory a package holds, with nothing but that.
func processes(p *evidence.Package) ([]detect.Process, error) {
	var out []detect.Process
	for _, e := range p.Artifacts("process/") {
		dir, name := filepath.Split(e.Path)
		if name != "memory.jsonl" {
			continue
		}
		x := detect.Process{Process: record.Process{Dir: filepath.Clean(dir), Relation: record.InCgroup}, HasMaps: true, Cite: citation(e)}
		for l, err := range p.Lines(e.Path) {
			if err != nil {
				return nil, err
			}
			m := detect.Mapping{Cite: citation(e)}
			if err := json.Unmarshal(l.Data, &m.Mapping); err != nil {
				return nil, err
			}
			x.Maps = append(x.Maps, m)
		}
		out = append(out, x)
	}
	return out, nil
}

// yara compares rules over memory with the yara command over the same bytes.
func (b *bench) yara() error {
	command, err := exec.LookPath("yara")
	if err != nil {
		fmt.Println("\nyara: left out, for the yara command is not there (scripts/setup.sh installs it)")
		return nil
	}
	dir, err := os.MkdirTemp("", "sherd-bench-yara-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	sealed, core := filepath.Join(dir, "core.sherd"), filepath.Join(dir, "core")
	if err := b.sealVictim(sealed); err != nil {
		return err
	}
	if err := unpackCore(sealed, core); err != nil {
		return err
	}
	for _, n := range []int{100, 1000} {
		rules := filepath.Join(dir, fmt.Sprintf("%d.yar", n))
		if err := makeRules(rules, n); err != nil {
			return err
		}
		ours, theirs := self("child-yara", sealed, rules), exec.Command(command, "-w", rules, core)
		ours.Stderr, theirs.Stderr = os.Stderr, os.Stderr
		said, err := ours.Output()
		if err != nil {
			return err
		}
		lines, err := theirs.Output()
		if err != nil {
			return err
		}
		if got, want := strings.TrimSpace(string(said)), bytes.Count(lines, []byte("\n")); got != fmt.Sprint(want) {
			return fmt.Errorf("%s rules are true for sherd, %d for yara", got, want)
		}
		err = b.run(fmt.Sprintf("%d rules over %d MiB of memory", n, b.size>>20), []*contestant{
			{name: "sherd: from the sealed package, cited", make: func() *exec.Cmd { return self("child-yara", sealed, rules) }},
			{name: "yara: from the unpacked core", make: func() *exec.Cmd { return quiet(command, "-w", rules, core) }},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// sealVictim seals the memory of a process that looks like a service's.
func (b *bench) sealVictim(sealed string) error {
	victim := self("child-victim", fmt.Sprint(b.size), "heap")
	out, err := victim.StdoutPipe()
	if err != nil {
		return err
	}
	if err := victim.Start(); err != nil {
		return err
	}
	defer func() {
		if err := victim.Process.Kill(); err == nil {
			_ = victim.Wait() // killed on purpose
		}
	}()
	if _, err := out.Read(make([]byte, 8)); err != nil {
		return fmt.Errorf("the process to be read did not come up: %w", err)
	}
	return self("child-core", fmt.Sprint(victim.Process.Pid), sealed).Run()
}

func unpackCore(sealed, path string) error {
	p, err := evidence.Open(sealed, evidence.OpenOptions{})
	if err != nil {
		return err
	}
	defer p.Close()
	for _, e := range p.Artifacts("process/") {
		if filepath.Base(e.Path) != "core" {
			continue
		}
		a, err := p.Open(e.Path)
		if err != nil {
			return err
		}
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(f, a)
		return err
	}
	return fmt.Errorf("%s holds no core", sealed)
}

func citation(e evidence.Entry) verdict.Citation {
	return verdict.Citation{Artifact: e.Path, SHA256: e.SHA256}
}
