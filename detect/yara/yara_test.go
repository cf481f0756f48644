package yara

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/detect/detecttest"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/verdict"
)

// answers asks a set of a scene.
func answers(t testing.TB, s *Set, p *evidence.Package) []detect.Answer {
	t.Helper()
	f, err := detect.Load(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.Answers(context.Background(), detect.Input{Facts: f, Package: p})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// hits are the findings of a rule.
func hits(all []detect.Answer, id string) []detect.Finding {
	for i := range all {
		if all[i].Rule.ID == id {
			return all[i].Hits
		}
	}
	return nil
}

// rules makes a set of a user's rules alone.
func rules(t testing.TB, src string) *Set {
	t.Helper()
	s := Empty()
	if _, refused := s.Add("/rules/mine.yar", []byte(src)); len(refused) > 0 {
		t.Fatalf("refused: %+v", refused)
	}
	return s
}

const pageSize = 4096

// core puts contents of a process's mappings into a core; the others are left as they are. What holds the core's bytes is not an ELF file, for
// nobody here reads its head.
func core(s *detecttest.Scene, pid int, contents map[uint64]string) {
	b := make([]byte, pageSize)
	maps := s.Maps[pid]
	for i := range maps {
		m := &maps[i]
		text, ok := contents[m.Start]
		if !ok {
			continue
		}
		n := (len(text) + pageSize - 1) / pageSize * pageSize
		m.LeftOut, m.Dumped = "", int64(n)
		m.Segments = []record.Segment{{Addr: m.Start, Length: int64(n), CoreOffset: int64(len(b))}}
		b = append(b, text...)
		b = append(b, make([]byte, n-len(text))...)
	}
	s.Cores[pid] = b
}

// cited are the bytes of a citation.
func cited(t testing.TB, p *evidence.Package, c verdict.Citation) string {
	t.Helper()
	a, err := p.Open(c.Artifact)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, c.Length)
	if _, err := a.ReadAt(b, c.Offset); err != nil {
		t.Fatal(err)
	}
	if a.Entry().SHA256 != c.SHA256 {
		t.Errorf("the citation's hash is %s, the artifact's %s", c.SHA256, a.Entry().SHA256)
	}
	return string(b)
}

const marker = `rule marker : low { meta: description = "a marker" severity = "high" strings: $a = "MARKER-7f3a" condition: $a }`

func TestFileMatchIsCited(t *testing.T) {
	s := detecttest.Busy()
	s.AddFile("/usr/lib/conv", detecttest.ELF+strings.Repeat("x", 5000)+"MARKER-7f3a", 0o755, detecttest.Attack)
	p := s.Write(t)
	got := hits(answers(t, rules(t, marker), p), "yara:marker")
	if len(got) != 1 {
		t.Fatalf("%d hits, want 1: %+v", len(got), got)
	}
	f := got[0]
	if want := "/usr/lib/conv matches the YARA rule marker (a marker): $a at byte 5008"; f.Statement != want {
		t.Errorf("statement %q, want %q", f.Statement, want)
	}
	if f.Severity != verdict.High || f.Path != "/usr/lib/conv" || f.When != detecttest.Attack.UnixNano() || !f.Foreign || f.PID != 0 || f.SHA256 == "" {
		t.Errorf("finding %+v", f)
	}
	if text := cited(t, p, f.Citations[0]); text != "MARKER-7f3a" {
		t.Errorf("cited %q", text)
	}
}

func TestProgramThatRan(t *testing.T) {
	s := detecttest.Busy()
	s.Foreign(4020, 17, 4001, "/memfd:x (deleted)", record.ExeMemfd, detecttest.ELF+"MARKER-7f3a", detecttest.Attack)
	s.Foreign(4021, 18, 4001, "/memfd:y (deleted)", record.ExeMemfd, detecttest.ELF+"MARKER-7f3a", detecttest.Attack)
	got := hits(answers(t, rules(t, marker), s.Write(t)), "yara:marker")
	if len(got) != 1 {
		t.Fatalf("%d hits, want 1, for the contents are the same: %+v", len(got), got)
	}
	if f := got[0]; f.PID != 4020 || !strings.Contains(f.Statement, "the same content in 1 more places") || !strings.HasPrefix(f.Statement, `process 17 "`) {
		t.Errorf("finding %+v", f)
	}
}

func TestImageIsTheBaseline(t *testing.T) {
	s := detecttest.Busy()
	text := detecttest.ELF + "MARKER-7f3a"
	s.ImageFile("/usr/bin/tool", text, 0o755)
	s.AddFile("/tmp/tool", text, 0o755, detecttest.Attack)
	p := s.Write(t)
	got := hits(answers(t, rules(t, marker), p), "yara:marker")
	if len(got) != 1 || got[0].Severity != verdict.High || got[0].Foreign || !strings.HasPrefix(got[0].Statement, "the image's own file /usr/bin/tool matches") {
		t.Errorf("a user's rule on the image's file: %+v", got)
	}
	own := Empty()
	own.add("own.yar", []byte(marker), true)
	got = hits(answers(t, own, p), "yara-marker")
	if len(got) != 1 || got[0].Severity != verdict.Info {
		t.Errorf("Sherd's own rule on the image's file: %+v", got)
	}
}

// A file that can't run may hold what clients sent.
func TestDataFilesAreGradedLow(t *testing.T) {
	s := detecttest.Busy()
	s.AddFile("/data/access.log", "GET /?q=MARKER-7f3a\n", 0o644, detecttest.Attack)
	own := Empty()
	own.add("own.yar", []byte(marker), true)
	p := s.Write(t)
	if got := hits(answers(t, own, p), "yara-marker"); len(got) != 1 || got[0].Severity != verdict.Low || got[0].Foreign {
		t.Errorf("Sherd's own rule: %+v", got)
	}
	if got := hits(answers(t, rules(t, marker), p), "yara:marker"); len(got) != 1 || got[0].Severity != verdict.High {
		t.Errorf("a user's rule: %+v", got)
	}
}

func TestMemoryIsGradedByPlace(t *testing.T) {
	const text = "....MARKER-7f3a...."
	code := record.Mapping{Start: 0x7f0000000000, End: 0x7f0000010000, Perms: "rwxp", Present: 0x10000, Anonymous: 0x10000}
	for _, c := range []struct {
		name string
		make func(*detecttest.Scene)
		rule string
		want verdict.Severity
		says string
	}{
		{"heap", func(s *detecttest.Scene) { core(s, 4001, map[uint64]string{0x600000: text}) }, marker, verdict.Low,
			`process 1 "server" holds in its data what the YARA rule marker (a marker) looks for: $a at 0x600004 in [heap] (rw-p)`},
		{"heap, a rule for memory", func(s *detecttest.Scene) { core(s, 4001, map[uint64]string{0x600000: text}) },
			strings.Replace(marker, "severity", "memory = true severity", 1), verdict.High, "in [heap]"},
		{"heap, scan_context", func(s *detecttest.Scene) { core(s, 4001, map[uint64]string{0x600000: text}) },
			strings.Replace(marker, "severity", `scan_context = "file, memory" severity`, 1), verdict.High, "in [heap]"},
		{"image's program", func(s *detecttest.Scene) { core(s, 4001, map[uint64]string{0x400000: text}) }, marker, verdict.Info, "memory that is the image's file"},
		{"changed text", func(s *detecttest.Scene) {
			s.Maps[4001][0].Changed = []record.ChangedText{{Addr: 0x400000, Length: 4096, DiffBytes: 40, CoreOffset: 4096}}
			core(s, 4001, map[uint64]string{0x400000: text})
		}, marker, verdict.High, "executable and not the image's"},
		{"anonymous code", func(s *detecttest.Scene) {
			s.Maps[4001] = append(s.Maps[4001][:2:2], code)
			core(s, 4001, map[uint64]string{0x600000: text, code.Start: text})
		}, marker, verdict.High, "$a at 0x7f0000000004 in memory of no file (rwxp)"},
		{"foreign process", func(s *detecttest.Scene) {
			s.Foreign(4020, 17, 4001, "/tmp/x", record.ExeDeleted, detecttest.ELF, detecttest.Attack)
			core(s, 4020, map[uint64]string{0x600000: text})
		}, marker, verdict.High, `process 17 "x" holds in its memory`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := detecttest.Busy()
			c.make(s)
			p := s.Write(t)
			got := hits(answers(t, rules(t, c.rule), p), "yara:marker")
			if len(got) != 1 || got[0].Severity != c.want || !strings.Contains(got[0].Statement, c.says) {
				t.Fatalf("got %+v, want %s and %q", got, c.want, c.says)
			}
			if text := cited(t, p, got[0].Citations[0]); text != "MARKER-7f3a" {
				t.Errorf("cited %q", text)
			}
		})
	}
}

// Matches over the border of windows are seen once, and addresses are true.
func TestLargeRegions(t *testing.T) {
	const size = 3*window + 12345
	big := make([]byte, size)
	places := []int{0, window - 5, window + 100, 2*window + overlap - 3, size - 11}
	for _, at := range places {
		copy(big[at:], "MARKER-7f3a")
	}
	s := detecttest.Busy()
	s.Maps[4001][1].End = 0x600000 + 4*window
	core(s, 4001, map[uint64]string{0x600000: string(big)})
	p := s.Write(t)
	src := strings.Replace(marker, "condition: $a", fmt.Sprintf("condition: #a == %d and uint8(@a[4]) == 0x4d", len(places)), 1)
	got := hits(answers(t, rules(t, src), p), "yara:marker")
	if len(got) != 1 {
		t.Fatalf("hits %+v", got)
	}
	for _, c := range got[0].Citations[:len(places)] {
		if text := cited(t, p, c); text != "MARKER-7f3a" {
			t.Errorf("cited %q at %d", text, c.Offset)
		}
	}
}

// Holes within a mapping read as zeroes, and strings on both sides make one rule true.
func TestHolesAndConditionsOverTheWhole(t *testing.T) {
	s := detecttest.Busy()
	core(s, 4001, map[uint64]string{0x600000: "first-half", 0x400000: "second-half"})
	m := &s.Maps[4001][1]
	s.Cores[4001] = append(s.Cores[4001], append([]byte("third-part"), make([]byte, pageSize-10)...)...)
	m.Segments = append(m.Segments, record.Segment{Addr: m.Start + 3*pageSize, Length: pageSize, CoreOffset: int64(len(s.Cores[4001]) - pageSize)})
	p := s.Write(t)
	src := `rule marker { strings: $a = "first-half" $b = "second-half" $c = "third-part" condition: all of them and uint32(0x602000) == 0 and @c == 0x603000 and not defined filesize }`
	got := hits(answers(t, rules(t, src), p), "yara:marker")
	if len(got) != 1 {
		t.Fatalf("hits %+v", got)
	}
	if text := cited(t, p, got[0].Citations[1]); text != "second-half" && text != "third-part" {
		t.Errorf("cited %q", text)
	}
}

func TestBlind(t *testing.T) {
	s := detecttest.Busy()
	core(s, 4001, map[uint64]string{0x600000: "x"})
	for _, c := range []struct{ without, what, why string }{
		{"memory", "memory", "the package does not hold it"},
		{"cores", `memory of process 1 "server"`, "its contents were not kept"},
		{"processes", "memory maps", "the package does not hold it"},
	} {
		all := answers(t, rules(t, marker), s.Write(t, c.without))
		if len(all) != 1 || all[0].State() != detect.Blind || !strings.Contains(all[0].Blind[0].What, c.what) || !strings.Contains(all[0].Blind[0].Why, c.why) {
			t.Errorf("without %s: %+v", c.without, all)
		}
	}
	if all := answers(t, rules(t, marker), s.Write(t)); len(all) != 0 {
		t.Errorf("with all of it: %+v, want nothing, for the rule is clean and a user's", all)
	}
	all := answers(t, rules(t, marker), s.Write(t, "inventory", "upper"))
	if len(all) != 1 || all[0].State() != detect.Blind {
		t.Errorf("without files: %+v", all)
	}
	// Files are looked through without the inventory.
	s.AddFile("/tmp/x", "MARKER-7f3a", 0o755, detecttest.Attack)
	if got := hits(answers(t, rules(t, marker), s.Write(t, "inventory")), "yara:marker"); len(got) != 1 || got[0].Path != "/tmp/x" {
		t.Errorf("without the inventory: %+v", got)
	}
}

// A rule without end is named, and the others are asked all the same.
func TestSlowRuleIsNamed(t *testing.T) {
	s := detecttest.Busy()
	s.AddFile("/tmp/x", "MARKER-7f3a", 0o755, detecttest.Attack)
	set := rules(t, marker+`
private rule helper { condition: true }
rule endless { condition: helper and for all i in (1 .. 2000000000) : (for all j in (1 .. 2000000000) : (i * j != 7)) }
rule other { strings: $a = "MARKER" condition: helper and $a }`)
	set.patience = time.Second
	all := answers(t, set, s.Write(t))
	if len(hits(all, "yara:marker")) != 1 || len(hits(all, "yara:other")) != 1 {
		t.Errorf("the other rules: %+v", all)
	}
	for _, a := range all {
		if a.Rule.ID == "yara:endless" && (a.State() != detect.Blind || !slices.ContainsFunc(a.Blind, func(b detect.Blindness) bool { return strings.Contains(b.Why, "not done within") }) ||
			!slices.ContainsFunc(a.Blind, func(b detect.Blindness) bool { return strings.Contains(b.Why, "set aside") })) {
			t.Errorf("the slow rule: %+v", a)
		}
	}
}

func TestExternalVariables(t *testing.T) {
	s := detecttest.Busy()
	s.AddFile("/srv/page.jsp", "x", 0o644, detecttest.Attack)
	src := `rule v { condition: filename == "page.jsp" and filepath == "/srv/page.jsp" and extension == ".jsp" and owner == "65532" and filetype == "" }`
	if got := hits(answers(t, rules(t, src), s.Write(t)), "yara:v"); len(got) != 1 || got[0].Citations[0].Length != 1 {
		t.Errorf("hits %+v", got)
	}
}

// The same package gives the same answers.
func TestSameAnswers(t *testing.T) {
	s := detecttest.Busy()
	for i := range 30 {
		s.AddFile(fmt.Sprintf("/tmp/x%d", i), fmt.Sprintf("%d MARKER-7f3a", i), 0o755, detecttest.Attack)
	}
	core(s, 4001, map[uint64]string{0x600000: "MARKER-7f3a"})
	p := s.Write(t)
	first := fmt.Sprintf("%+v", hits(answers(t, rules(t, marker), p), "yara:marker"))
	for range 3 {
		if again := fmt.Sprintf("%+v", hits(answers(t, rules(t, marker), p), "yara:marker")); again != first {
			t.Fatalf("first %s\nthen %s", first, again)
		}
	}
}

func TestCancelled(t *testing.T) {
	s := detecttest.Busy()
	p := s.Write(t)
	f, err := detect.Load(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := rules(t, marker).Answers(ctx, detect.Input{Facts: f, Package: p}); err == nil {
		t.Error("no error when the context has ended")
	}
}
