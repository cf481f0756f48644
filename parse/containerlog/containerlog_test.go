package containerlog

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
)

var update = flag.Bool("update", false, "write the golden files anew")

var fixtures = []string{"docker.json-file", "docker.json-file.1.gz", "docker.local", "podman.k8s-file"}

// seal makes a package of logs by their names, with a host whose kernel log counts from one second after the epoch.
func seal(t testing.TB, logs map[string][]byte) *evidence.Package {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.sherd")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	w, err := evidence.NewWriter(out, evidence.WriterOptions{Tool: "test", ID: "0123456789abcdef0123456789abcdef"})
	if err != nil {
		t.Fatal(err)
	}
	host, err := json.Marshal(record.Host{Realtime: 3_000_000_000, Monotonic: 2_000_000_000})
	if err != nil {
		t.Fatal(err)
	}
	add := func(name string, b []byte) {
		if _, err := w.Add(evidence.Meta{Path: name, Origin: "test"}, b); err != nil {
			t.Fatal(err)
		}
	}
	add("host/host.json", host)
	add("logs/files.jsonl", []byte("{\"artifact\":\"logs/x\"}\n"))
	for name, b := range logs {
		add("logs/"+name, b)
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	p, err := evidence.Open(path, evidence.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func testdata(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile("testdata/"+name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff(string(testdata(t, name)), string(got)); d != "" {
		t.Errorf("%s differs (-want +got):\n%s", name, d)
	}
}

// short keeps golden files readable.
func short(s string) string {
	if len(s) <= 256 {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return fmt.Sprintf("%s… %d bytes sha256 %s", s[:32], len(s), hex.EncodeToString(sum[:]))
}

// read gives all lines of a package and its problems.
func read(t testing.TB, p *evidence.Package) (lines []Line, problems []*Problem) {
	t.Helper()
	for l, err := range Read(p) {
		var pr *Problem
		switch {
		case errors.As(err, &pr):
			problems = append(problems, pr)
		case err != nil:
			t.Fatal(err)
		default:
			lines = append(lines, l)
		}
	}
	return lines, problems
}

// TestRead reads what real runtimes wrote.
func TestRead(t *testing.T) {
	for _, name := range fixtures {
		t.Run(name, func(t *testing.T) {
			p := seal(t, map[string][]byte{name: testdata(t, name)})
			lines, problems := read(t, p)
			if len(problems) > 0 {
				t.Errorf("a runtime's own file has problems: %v", problems)
			}
			var b bytes.Buffer
			for _, l := range lines {
				q, isRequest := HTTP(l)
				fmt.Fprintf(&b, "%s %s %s +%d (%d) %q", time.Unix(0, l.Time).UTC().Format(time.RFC3339Nano), l.Stream, l.Format, l.Cite.Offset, l.Cite.Length, short(l.Text))
				if isRequest {
					fmt.Fprintf(&b, " %+v", q)
				}
				b.WriteByte('\n')
			}
			golden(t, name+".golden", b.Bytes())
		})
	}
}

// TestCitations holds the cited bytes against the line.
func TestCitations(t *testing.T) {
	logs := map[string][]byte{}
	for _, name := range fixtures {
		logs[name] = testdata(t, name)
	}
	p := seal(t, logs)
	lines, _ := read(t, p)
	next := map[string]int64{}
	for _, l := range lines {
		e, ok := p.Artifact(l.Cite.Artifact)
		if !ok || e.SHA256 != l.Cite.SHA256 || l.Cite.Offset+l.Cite.Length > e.Size {
			t.Fatalf("citation %+v of an artifact %+v", l.Cite, e)
		}
		if l.Compressed {
			if l.Cite.Offset != 0 || l.Cite.Length != e.Size {
				t.Errorf("a compressed file is cited in part: %+v", l.Cite)
			}
			continue
		}
		a := logs[strings.TrimPrefix(l.Cite.Artifact, "logs/")]
		cited := a[l.Cite.Offset : l.Cite.Offset+l.Cite.Length]
		if want := l.Text[:min(len(l.Text), 20)]; l.Format != JSONFile && !bytes.Contains(cited, []byte(want)) {
			t.Errorf("%q is not among the cited bytes %q", want, short(string(cited)))
		}
		if l.Cite.Offset != next[l.Cite.Artifact] {
			t.Errorf("%s: a line at %d, the one before ended at %d", l.Cite.Artifact, l.Cite.Offset, next[l.Cite.Artifact])
		}
		next[l.Cite.Artifact] = l.Cite.Offset + l.Cite.Length
	}
	for name, end := range next {
		if e, _ := p.Artifact(name); e.Size != end {
			t.Errorf("%s: lines end at %d of %d bytes", name, end, e.Size)
		}
	}
}

func TestEvents(t *testing.T) {
	logs := map[string][]byte{"kernel.txt": []byte("6,339,5140900,-;server[4711]: segfault at 0 ip 0\n SUBSYSTEM=pci\n"), "plain.log": []byte("2026-11-24T02:40:02.5Z GET /healthz 200\nno time\n")}
	for _, name := range fixtures {
		logs[name] = testdata(t, name)
	}
	p := seal(t, logs)
	var b bytes.Buffer
	seen := map[string]bool{}
	err := Events(p, func(e event.Event) error {
		if e.EvidenceID != p.ID() || e.Parser != parser {
			t.Errorf("event %+v", e)
		}
		if id := e.ID(); seen[id] && !strings.HasSuffix(e.Artifact, ".gz") {
			t.Errorf("two events with one identity: %+v", e)
		} else {
			seen[id] = true
		}
		e.Message = short(e.Message)
		return json.NewEncoder(&b).Encode(e)
	})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "events.golden", b.Bytes())
}

func TestEventsAreBounded(t *testing.T) {
	p := seal(t, map[string][]byte{"a.log": []byte("one\ntwo\nthree\nfour\n")})
	var got []string
	err := artifactEvents(p, Artifacts(p)[0], 2, func(e event.Event) error { got = append(got, e.Message); return nil })
	if want := []string{"one", "two", "2 further lines of this log are left out of the timeline"}; err != nil || !cmp.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
}

// TestCRI joins pieces of two streams that are written in turns.
func TestCRI(t *testing.T) {
	text := "2026-11-24T01:00:00.000000001Z stdout P one \n" +
		"2026-11-24T01:00:00.000000002Z stderr F other\n" +
		"2026-11-24T01:00:00.000000003Z stdout P:tag two \n" +
		"junk\n" +
		"junk\n" +
		"2026-11-24T01:00:00.000000004Z stdout F three\n" +
		"2026-11-24T01:00:00.000000005+01:00 stdout F \n" +
		"2026-11-24T01:00:00.000000006Z stderr F\n" +
		"2026-11-24T01:00:00.000000007Z stdout P cut off"
	lines, problems := read(t, seal(t, map[string][]byte{"0.log": []byte(text)}))
	var got []string
	for _, l := range lines {
		got = append(got, fmt.Sprintf("%s %q +%d (%d)", l.Stream, l.Text, l.Cite.Offset, l.Cite.Length))
	}
	want := []string{`stderr "other" +45 (46)`, `stdout "one two three" +0 (196)`, `stdout "" +196 (46)`, `stderr "" +242 (40)`, `stdout "cut off" +282 (47)`}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("lines (-want +got):\n%s", d)
	}
	if len(problems) != 1 || problems[0].Count != 2 || problems[0].Length != 10 || text[problems[0].Offset:problems[0].Offset+4] != "junk" {
		t.Errorf("problems %+v", problems)
	}
	if lines[1].Time != time.Date(2026, 11, 24, 1, 0, 0, 1, time.UTC).UnixNano() || lines[2].Time != time.Date(2026, 11, 24, 0, 0, 0, 5, time.UTC).UnixNano() {
		t.Errorf("times %d, %d", lines[1].Time, lines[2].Time)
	}
}

func TestKernel(t *testing.T) {
	text := "6,339,5140900,-;oom-kill:constraint=CONSTRAINT_MEMCG,task=app,pid=12\n KEY=v\n4,340,5140901,c;next\n"
	lines, problems := read(t, seal(t, map[string][]byte{"kernel.txt": []byte(text)}))
	if len(lines) != 2 || len(problems) != 0 || lines[0].Stream != "kernel" || lines[0].Time != 1_000_000_000+5140900_000 || lines[1].Text != "next" {
		t.Errorf("%+v %v", lines, problems)
	}
}

// compressions are the ways in which a rotated log may come.
var compressions = map[string]func([]byte) []byte{
	"gzip": func(b []byte) []byte {
		var out bytes.Buffer
		z := gzip.NewWriter(&out)
		_, _ = z.Write(b)
		_ = z.Close()
		return out.Bytes()
	},
	"zstd": func(b []byte) []byte {
		z, _ := zstd.NewWriter(nil)
		return z.EncodeAll(b, nil)
	},
}

// TestTruncated reads what is left of files that were cut off, whole lines first.
func TestTruncated(t *testing.T) {
	var text bytes.Buffer
	for i := range 20000 {
		sum := sha256.Sum256([]byte{byte(i), byte(i >> 8)})
		fmt.Fprintf(&text, "2026-11-24T01:00:00.%09dZ stdout F line %d %x\n", i, i, sum)
	}
	for name, compress := range compressions {
		t.Run(name, func(t *testing.T) {
			whole := compress(text.Bytes())
			lines, problems := read(t, seal(t, map[string][]byte{"0.log.gz": whole}))
			if len(lines) != 20000 || len(problems) != 0 {
				t.Fatalf("whole: %d lines, %v", len(lines), problems)
			}
			if last := lines[19999]; text.String()[last.Position:last.Position+4] != "2026" || !last.Compressed {
				t.Errorf("position %d is not where the line begins", last.Position)
			}
			lines, problems = read(t, seal(t, map[string][]byte{"0.log.gz": whole[:len(whole)/2]}))
			if len(lines) < 5000 || len(lines) > 15000 || len(problems) == 0 {
				t.Errorf("half: %d lines, %v", len(lines), problems)
			}
			if !strings.Contains(problems[len(problems)-1].Reason, "can't be read further") {
				t.Errorf("problem %v", problems[len(problems)-1])
			}
			_, problems = read(t, seal(t, map[string][]byte{"0.log.gz": whole[:5]}))
			if len(problems) == 0 {
				t.Error("five bytes of a compressed file pass for a log")
			}
		})
	}
}

// TestDockerLocalResync reads on after damage.
func TestDockerLocalResync(t *testing.T) {
	whole := testdata(t, "docker.local")
	all, _ := read(t, seal(t, map[string][]byte{"c.log": whole}))
	for name, b := range map[string][]byte{
		"junk between": append(append(append([]byte(nil), whole...), "\x00\x00junk"...), whole...),
		"cut off":      append(append([]byte(nil), whole...), whole[:100]...),
		"huge length":  append(append(append([]byte(nil), whole...), 0x7f, 0xff, 0xff, 0xff, 0x0a, 0x06, 's', 't', 'd'), whole...),
	} {
		lines, problems := read(t, seal(t, map[string][]byte{"c.log": b}))
		want := 2 * len(all)
		if name == "cut off" {
			want = len(all)
		}
		if len(lines) != want || len(problems) != 1 {
			t.Errorf("%s: %d lines for %d, problems %v", name, len(lines), want, problems)
		}
	}
}

// TestZeros reads a json-file whose machine lost power.
func TestZeros(t *testing.T) {
	entry := `{"log":"hello\n","stream":"stdout","time":"2026-11-24T01:00:00Z"}` + "\n"
	lines, problems := read(t, seal(t, map[string][]byte{"x-json.log": []byte(entry + strings.Repeat("\x00", 5000) + entry + "{\"log\":\"half")}))
	if len(lines) != 2 || len(problems) != 2 || problems[0].Length != 5000 || problems[1].Length != 12 {
		t.Errorf("%d lines, %v", len(lines), problems)
	}
}

// endless gives a long line without making it.
type endless struct{ head, tail string }

func (e endless) reader(n int64) io.Reader {
	return io.MultiReader(strings.NewReader(e.head), io.LimitReader(letters{}, n), strings.NewReader(e.tail))
}

type letters struct{}

func (letters) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'a'
	}
	return len(p), nil
}

// TestLongLine reads a line of 2 GiB in every format that has lines, in little memory.
func TestLongLine(t *testing.T) {
	if testing.Short() {
		t.Skip("reads gigabytes")
	}
	next := map[string]string{
		CRI:      "2026-11-24T01:00:00Z stdout F next\n",
		JSONFile: `{"log":"next\n","stream":"stdout","time":"2026-11-24T01:00:00Z"}` + "\n",
		Plain:    "next\n",
		Kmsg:     "6,339,5140900,-;next\n",
	}
	for format, e := range map[string]endless{
		CRI: {"2026-11-24T01:00:00Z stdout F ", "\n"}, JSONFile: {`{"log":"`, `"}` + "\n"}, Plain: {"", "\n"}, Kmsg: {"6,1,2,-;", "\n"},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var texts []string
		problems := 0
		r := newReader(evidence.Entry{Path: "logs/x"}, 0, func(l Line, err error) bool {
			if err != nil {
				problems++
			} else {
				texts = append(texts, l.Text)
				if len(l.Text) > maxText {
					t.Errorf("%s: a text of %d bytes", format, len(l.Text))
				}
			}
			return true
		})
		if err := r.run(io.MultiReader(e.reader(2<<30), strings.NewReader(next[format]))); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		if len(texts) == 0 || texts[len(texts)-1] != "next" || r.format != format {
			t.Errorf("%s: read as %s, %d lines, %d problems", format, r.format, len(texts), problems)
		}
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20 {
			t.Errorf("%s: allocated %d bytes", format, grown)
		}
	}
}

// TestStops ends reading where the caller does.
func TestStops(t *testing.T) {
	p := seal(t, map[string][]byte{"a.log": []byte("one\ntwo\n"), "b.log": []byte("three\n"), "c.log": []byte("2026-11-24T01:00:00Z stdout F x\njunk\n")})
	for limit := range 6 {
		n := 0
		for _, err := range Read(p) {
			_ = err // lines and problems count alike here
			if n++; n > limit {
				break
			}
		}
		if want := min(limit+1, 5); n != want {
			t.Errorf("limit %d: %d", limit, n)
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, name := range fixtures {
		b := testdata(f, name)
		f.Add(append(append([]byte(nil), b[:min(len(b), 700)]...), b[max(0, len(b)-300):]...)) // large seeds make the fuzzer slow
	}
	for _, s := range []string{"6,339,5140900,-;x\n K=v\n", "2026-11-24T01:00:00Z stdout P x\n2026-11-24T01:00:00Z stderr F y\n", "\x00\x00\n", "\x1f\x8b\x08", "\x28\xb5\x2f\xfd",
		"{\"log\":\"x\"}\n\x00{\"log\":null}\n", "\x00\x00\x00\x05\x0a\x06std"} {
		f.Add([]byte(s))
	}
	for _, c := range compressions {
		f.Add(c([]byte("2026-11-24T01:00:00Z stdout F x\n")))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		size := int64(len(b))
		r := newReader(evidence.Entry{Path: "logs/x", Size: size}, 1, func(l Line, err error) bool {
			var pr *Problem
			if err != nil {
				if !errors.As(err, &pr) || pr.Count < 1 || pr.Offset < 0 || pr.Length < 0 {
					t.Fatalf("problem %v", err)
				}
				return true
			}
			if c := l.Cite; c.Offset < 0 || c.Length < 0 || c.Offset+c.Length > size || len(l.Text) > maxText || l.Time < 0 {
				t.Fatalf("line %+v of %d bytes", l, size)
			}
			if !l.Compressed && l.Position != l.Cite.Offset {
				t.Fatalf("position %d, citation %+v", l.Position, l.Cite)
			}
			if _, err := lineEvent("", l); err != nil {
				t.Fatal(err)
			}
			return true
		})
		if err := r.run(bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
	})
}
