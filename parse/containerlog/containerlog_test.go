package containerlog

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
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
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/applog"
	"github.com/sherd-forensics/sherd/parse/parsetest"
)

var fixtures = []string{"docker.json-file", "docker.json-file.1.gz", "docker.local", "podman.k8s-file", "kubelet.cri"}

// boot is where the kernel's log of these tests counts from.
const boot = 1_000_000_000

func testdata(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// lines gives all lines of a log and what was passed over.
func lines(t testing.TB, b []byte) (out []applog.Line, skips []parse.Skip) {
	t.Helper()
	in, err := parse.NewInput(bytes.NewReader(b), event.Event{Artifact: "log"})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	in.Boot = boot
	err = Each(context.Background(), in, func(l *applog.Line) error {
		c := *l
		c.Text = bytes.Clone(l.Text)
		out = append(out, c)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out, in.Skips()
}

// TestGolden reads what real runtimes wrote.
func TestGolden(t *testing.T) {
	for _, name := range fixtures {
		t.Run(name, func(t *testing.T) {
			parsetest.Golden(t, Format, filepath.Join("testdata", name), parsetest.Options{})
			_, skips := lines(t, testdata(t, name))
			if len(skips) > 0 {
				t.Errorf("a runtime's own file has skips: %v", skips)
			}
		})
	}
}

// TestCitations holds the cited bytes against the line.
func TestCitations(t *testing.T) {
	for _, name := range fixtures {
		a := testdata(t, name)
		if strings.HasSuffix(name, ".gz") {
			z, err := gzip.NewReader(bytes.NewReader(a))
			if err != nil {
				t.Fatal(err)
			}
			if a, err = io.ReadAll(z); err != nil {
				t.Fatal(err)
			}
		}
		next := int64(0)
		all, _ := lines(t, a)
		for _, l := range all {
			cited := a[l.Offset : l.Offset+l.Length]
			if want := l.Text[:min(len(l.Text), 20)]; l.Format != JSONFile && !bytes.Contains(cited, want) {
				t.Errorf("%q is not among the cited bytes %.100q", want, cited)
			}
			if l.Offset != next && l.Offset != next+1 { // the line feed of what has lines
				t.Errorf("%s: a line at %d, the one before ended at %d", name, l.Offset, next)
			}
			next = l.Offset + l.Length
		}
		if int64(len(a)) > next+1 {
			t.Errorf("%s: lines end at %d of %d bytes", name, next, len(a))
		}
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
	all, skips := lines(t, []byte(text))
	var got []string
	for _, l := range all {
		got = append(got, fmt.Sprintf("%s %q +%d (%d)", l.Stream, l.Text, l.Offset, l.Length))
	}
	want := []string{`stderr "other" +45 (45)`, `stdout "one two three" +0 (195)`, `stdout "" +196 (45)`, `stderr "" +242 (39)`, `stdout "cut off" +282 (47)`}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("lines (-want +got):\n%s", d)
	}
	if len(skips) != 1 || skips[0].Count != 2 || skips[0].Bytes != 8 || text[skips[0].Offset:skips[0].Offset+4] != "junk" {
		t.Errorf("skips %+v", skips)
	}
	if all[1].Time != time.Date(2026, 11, 24, 1, 0, 0, 1, time.UTC).UnixNano() || all[2].Time != time.Date(2026, 11, 24, 0, 0, 0, 5, time.UTC).UnixNano() {
		t.Errorf("times %d, %d", all[1].Time, all[2].Time)
	}
}

func TestKernel(t *testing.T) {
	text := "6,339,5140900,-;oom-kill:constraint=CONSTRAINT_MEMCG,task=app,pid=12\n KEY=v\n4,340,5140901,c;next\n"
	all, skips := lines(t, []byte(text))
	if len(all) != 2 || len(skips) != 0 || all[0].Stream != "kernel" || all[0].Time != boot+5140900_000 || string(all[1].Text) != "next" {
		t.Errorf("%+v %v", all, skips)
	}
	events, _ := parsetest.Events(t, Format, []byte(text))
	if len(events) != 2 || events[0].Kind != event.KernelLine || events[0].Time != 0 {
		t.Errorf("without the host's clock: %+v", events)
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
			all, skips := lines(t, whole)
			if len(all) != 20000 || len(skips) != 0 {
				t.Fatalf("whole: %d lines, %v", len(all), skips)
			}
			if last := all[19999]; text.String()[last.Offset:last.Offset+4] != "2026" {
				t.Errorf("offset %d is not where the line begins", last.Offset)
			}
			all, skips = lines(t, whole[:len(whole)/2])
			if len(all) < 5000 || len(all) > 15000 || len(skips) == 0 {
				t.Errorf("half: %d lines, %v", len(all), skips)
			}
			if !strings.Contains(skips[len(skips)-1].Reason, "can't be read further") {
				t.Errorf("problem %v", skips[len(skips)-1])
			}
			_, skips = lines(t, whole[:5])
			if len(skips) == 0 {
				t.Error("five bytes of a compressed file pass for a log")
			}
		})
	}
}

// TestDockerLocalResync reads on after damage.
func TestDockerLocalResync(t *testing.T) {
	whole := testdata(t, "docker.local")
	want, _ := lines(t, whole)
	for name, b := range map[string][]byte{
		"junk between": append(append(append([]byte(nil), whole...), "\x00\x00junk"...), whole...),
		"cut off":      append(append([]byte(nil), whole...), whole[:100]...),
		"huge length":  append(append(append([]byte(nil), whole...), 0x7f, 0xff, 0xff, 0xff, 0x0a, 0x06, 's', 't', 'd'), whole...),
	} {
		all, skips := lines(t, b)
		n := 2 * len(want)
		if name == "cut off" {
			n = len(want)
		}
		if len(all) != n || len(skips) != 1 {
			t.Errorf("%s: %d lines for %d, skips %v", name, len(all), n, skips)
		}
	}
}

// TestZeros reads a json-file whose machine lost power.
func TestZeros(t *testing.T) {
	entry := `{"log":"hello\n","stream":"stdout","time":"2026-11-24T01:00:00Z"}` + "\n"
	all, skips := lines(t, []byte(entry+strings.Repeat("\x00", 5000)+entry+"{\"log\":\"half"))
	if len(all) != 2 || len(skips) != 2 || skips[0].Bytes != 5000 || skips[1].Bytes != 12 {
		t.Errorf("%d lines, %v", len(all), skips)
	}
}

// endless gives a long line without making it.
type endless struct{ head, tail string }

func (e endless) reader(n int64) io.Reader {
	return io.MultiReader(strings.NewReader(e.head), io.LimitReader(letters{}, n), strings.NewReader(e.tail))
}

// stream is content that is read once, from its beginning.
type stream struct{ io.Reader }

func (stream) ReadAt([]byte, int64) (int, error) { return 0, errors.New("not here") }
func (stream) Size() int64                       { return 0 }

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
		Kmsg:     "6,339,5140900,-;next\n",
	}
	for format, e := range map[string]endless{
		CRI: {"2026-11-24T01:00:00Z stdout F ", "\n"}, JSONFile: {`{"log":"`, `"}` + "\n"}, Kmsg: {"6,1,2,-;", "\n"},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var texts []string
		in, err := parse.NewInput(stream{io.MultiReader(e.reader(2<<30), strings.NewReader(next[format]))}, event.Event{Artifact: "log"})
		if err != nil {
			t.Fatal(err)
		}
		read := func(l *applog.Line) error {
			if len(l.Text) > maxText {
				t.Errorf("%s: a text of %d bytes", format, len(l.Text))
			}
			texts = append(texts, string(l.Text))
			return nil
		}
		if err := Each(context.Background(), in, read); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		if len(texts) == 0 || texts[len(texts)-1] != "next" {
			t.Errorf("%s: %d lines, skips %v", format, len(texts), in.Skips())
		}
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20 {
			t.Errorf("%s: allocated %d bytes", format, grown)
		}
	}
}

// TestStops ends reading where the caller does.
func TestStops(t *testing.T) {
	stop := errors.New("enough")
	for limit := range 3 {
		in, err := parse.NewInput(bytes.NewReader(testdata(t, "podman.k8s-file")), event.Event{})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		err = Each(context.Background(), in, func(*applog.Line) error {
			if n++; n > limit {
				return stop
			}
			return nil
		})
		if !errors.Is(err, stop) || n != limit+1 {
			t.Errorf("limit %d: %d lines, %v", limit, n, err)
		}
	}
}

// TestJoins: a stack trace that a runtime kept line by line is one event, whatever the other stream says meanwhile.
func TestJoins(t *testing.T) {
	text := "2026-11-24T01:00:00.000000001Z stderr F Traceback (most recent call last):\n" +
		"2026-11-24T01:00:00.000000002Z stdout F {\"level\":\"info\",\"msg\":\"still here\"}\n" +
		"2026-11-24T01:00:00.000000003Z stderr F   File \"/app.py\", line 3, in f\n" +
		"2026-11-24T01:00:00.000000004Z stderr F KeyError: 'x'\n" +
		"2026-11-24T01:00:00.000000005Z stderr F next\n"
	events, _ := parsetest.Events(t, Format, []byte(text))
	var got []string
	for _, e := range events {
		got = append(got, fmt.Sprintf("%d %s %d+%d", e.Time%1000, e.Message, e.Offset, e.Length))
	}
	want := []string{"2 still here 75+75", `1 Traceback (most recent call last):\n  File "/app.py", line 3, in f\nKeyError: 'x' 0+275`, "5 next 276+44"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("events (-want +got):\n%s", d)
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
	parsetest.Fuzz(f, Format)
}

func BenchmarkRead(b *testing.B) {
	var cri, docker bytes.Buffer
	for i := range 10_000 {
		line := fmt.Sprintf(`{"level":"info","ts":%d.5,"logger":"shop","msg":"request done","method":"GET","path":"/cart/%d","status":200,"remote":"10.0.0.9:%d","took":"%dms"}`, 1795489331+i, i, i, i)
		fmt.Fprintf(&cri, "2026-11-24T01:00:00.%09dZ stdout F %s\n", i, line)
		fmt.Fprintf(&docker, "{\"log\":\"%s\\n\",\"stream\":\"stdout\",\"time\":\"2026-11-24T01:00:00.%09dZ\"}\n", strings.ReplaceAll(line, `"`, `\"`), i)
	}
	b.Run("cri", func(b *testing.B) { parsetest.Bench(b, Format, cri.Bytes()) })
	b.Run("docker", func(b *testing.B) { parsetest.Bench(b, Format, docker.Bytes()) })
}
