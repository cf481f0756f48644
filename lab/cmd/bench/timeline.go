package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sherd-forensics/sherd/lab/generate"
)

// timed runs a command that must succeed, and says how long it took, the most memory that one process of it had, and what it printed.
func timed(cmd *exec.Cmd) (took time.Duration, rss int64, out []byte, err error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	begin := time.Now()
	err = cmd.Run()
	took = time.Since(begin)
	if cmd.ProcessState != nil {
		if ru, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
			rss = ru.Maxrss * 1024
		}
	}
	if err != nil {
		text := stderr.String()
		err = fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, text[max(0, len(text)-2000):])
	}
	return took, rss, stdout.Bytes(), err
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

// ingest reads logs with sherd, and a part of them with sherd and plaso.
func (b *bench) ingest() error {
	dir, err := os.MkdirTemp(b.scratch, "sherd-bench-ingest-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	many, some := filepath.Join(dir, "many"), filepath.Join(dir, "some")
	size, err := makeLogs(many, b.logs)
	if err != nil {
		return err
	}
	fmt.Printf("\nlogs of a cluster, %d lines (%.0f MiB), to an index that answers; %d lines for plaso, which has its parsers for all but the Kubernetes audit log\n", b.logs, mib(size), b.plasoLogs)
	fmt.Printf("  %-52s %9s %10s %10s %10s %8s\n", "", "seconds", "events", "events/s", "peak MiB", "ratio")
	row := func(name string, took time.Duration, events, rss int64, ratio float64) {
		fmt.Printf("  %-52s %9.2f %10d %10.0f %10.0f %7.1fx\n", name, took.Seconds(), events, float64(events)/took.Seconds(), mib(rss), ratio)
	}
	best, events, rss, err := b.sherdLogs(many, dir)
	if err != nil {
		return err
	}
	row("sherd timeline, all lines", best, events, rss, 1)
	if _, err := makeLogs(some, b.plasoLogs); err != nil {
		return err
	}
	ours, events, rss, err := b.sherdLogs(some, dir)
	if err != nil {
		return err
	}
	row("sherd timeline, plaso's lines", ours, events, rss, 1)
	if b.plaso == "" {
		return nil
	}
	rate := float64(events) / ours.Seconds()
	for _, c := range []struct {
		name string
		args []string
	}{{"log2timeline and psort, workers as it chooses", nil}, {"log2timeline and psort, single process", []string{"--single_process"}}} {
		took, events, rss, err := b.plasoRun(some, filepath.Join(dir, "plaso"), c.args)
		if err != nil {
			return err
		}
		row(c.name, took, events, rss, rate*took.Seconds()/float64(events))
	}
	return nil
}

// makeLogs writes logs and gives their size.
func makeLogs(dir string, n int) (int64, error) {
	files, err := generate.Logs(dir, n, seed)
	sum := int64(0)
	for _, f := range files {
		sum += f.Bytes
	}
	return sum, err
}

// sherdLogs is the best of the turns from nothing to an answer.
func (b *bench) sherdLogs(logs, dir string) (best time.Duration, events, peak int64, err error) {
	lakes := filepath.Join(dir, "lakes")
	for range b.turns {
		if err := os.RemoveAll(lakes); err != nil {
			return 0, 0, 0, err
		}
		cmd := exec.Command(filepath.Join(b.bin, "sherd"), "timeline", logs, "--count")
		cmd.Env = append(os.Environ(), "SHERD_LAKES="+lakes)
		took, rss, out, err := timed(cmd)
		if err != nil {
			return 0, 0, 0, err
		}
		if events, err = firstNumber(string(out)); err != nil {
			return 0, 0, 0, err
		}
		if best == 0 || took < best {
			best = took
		}
		peak = max(peak, rss)
	}
	return best, events, peak, os.RemoveAll(lakes)
}

// firstNumber is the number at the beginning of an answer, whatever separates its thousands.
func firstNumber(s string) (int64, error) {
	field, _, _ := strings.Cut(strings.TrimSpace(s), " ")
	return strconv.ParseInt(strings.NewReplacer(",", "", "\n", "").Replace(field), 10, 64)
}

// plasoRun extracts and sorts, once; events of the files' own times are not counted.
func (b *bench) plasoRun(logs, dir string, args []string) (took time.Duration, events, peak int64, err error) {
	if err := os.RemoveAll(dir); err != nil {
		return 0, 0, 0, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 0, 0, 0, err
	}
	store, out := filepath.Join(dir, "out.plaso"), filepath.Join(dir, "out.jsonl")
	run := func(name string, args ...string) error {
		cmd := exec.Command(filepath.Join(b.plaso, "bin", name), append([]string{"-q", "-u", "--status_view", "none", "--logfile", filepath.Join(dir, name+".log")}, args...)...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "HOME="+dir)
		t, rss, text, err := timed(cmd)
		if err != nil {
			return fmt.Errorf("%w: %s", err, text[max(0, len(text)-1000):])
		}
		took += t
		peak = max(peak, rss)
		return nil
	}
	if err := run("log2timeline", append(args, "--storage_file", store, logs)...); err != nil {
		return 0, 0, 0, err
	}
	if err := run("psort", "-o", "json_line", "-w", out, store); err != nil {
		return 0, 0, 0, err
	}
	text, err := os.ReadFile(out)
	if err != nil {
		return 0, 0, 0, err
	}
	events = int64(bytes.Count(text, []byte("\n")) - bytes.Count(text, []byte(`"parser": "filestat"`)))
	return took, events, peak, nil
}

// lakes asks lakes of several sizes, and rivals over the same rows.
func (b *bench) lakes() error {
	var before map[string]time.Duration
	for i, n := range b.events {
		took, err := b.lake(n, i == 0, before)
		if err != nil {
			return err
		}
		if before == nil {
			before = took
		}
	}
	return nil
}

// lake makes a lake of n events and asks it. With lines, grep and ripgrep search the same events as JSON lines. before has the medians
// of a smaller lake.
func (b *bench) lake(n int, lines bool, before map[string]time.Duration) (map[string]time.Duration, error) {
	dir, err := os.MkdirTemp(b.scratch, "sherd-bench-lake-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	at, plain := filepath.Join(dir, "lake"), filepath.Join(dir, "plain.parquet")
	num := strconv.Itoa(n)
	nothing, _, _, err := timed(self("child-nothing", num))
	if err != nil {
		return nil, err
	}
	took, rss, _, err := timed(self("child-lake", at, num))
	if err != nil {
		return nil, err
	}
	fmt.Printf("\na lake of %d generated events\n", n)
	fmt.Printf("  written in %.1f s, %.1f s of which made the events: %.0f events/s, peak %.0f MiB\n", took.Seconds(), nothing.Seconds(), float64(n)/took.Seconds(), mib(rss))
	if _, _, _, err := timed(self("child-plain", at, plain)); err != nil {
		return nil, err
	}
	if err := disk(at, plain, n); err != nil {
		return nil, err
	}
	medians := map[string]time.Duration{}
	fmt.Printf("  %-46s %7s %9s %9s %9s %10s %7s %9s\n", "median of "+strconv.Itoa(b.asks), "rows", "first ms", "ms", "peak MiB", "DuckDB ms", "ratio", growth(before != nil))
	for _, q := range questions {
		if err := b.ask(&q, at, plain, medians, before); err != nil {
			return nil, err
		}
	}
	if lines {
		return medians, b.grep(dir, n, medians["word"])
	}
	return medians, nil
}

func growth(known bool) string {
	if known {
		return "growth"
	}
	return ""
}

// disk says what a lake takes.
func disk(at, plain string, n int) error {
	of, err := parts(at)
	if err != nil {
		return err
	}
	st, err := os.Stat(plain)
	if err != nil {
		return err
	}
	sum := int64(0)
	for _, s := range of {
		sum += s
	}
	per := func(s int64) float64 { return float64(s) / float64(n) }
	fmt.Printf("  bytes an event: %.1f in all: Parquet %.1f, text index %.1f, description %.2f; the plain Parquet file that DuckDB writes: %.1f\n", per(sum), per(of[".parquet"]), per(of[".index"]), per(of[".json"]), per(st.Size()))
	return nil
}

// ask puts one question to the lake and to the rival, each in a process of its own.
func (b *bench) ask(q *question, at, plain string, medians, before map[string]time.Duration) error {
	turns, processes := b.asks, 1
	if q.name == "open" {
		turns, processes = 1, b.asks // what counts is the whole of a fresh process
	}
	ours, rss, err := b.child(processes, "child-ask", at, q.name, strconv.Itoa(turns))
	if err != nil {
		return err
	}
	rival, _, err := b.child(processes, "child-sql", plain, q.name, strconv.Itoa(turns))
	if err != nil {
		return err
	}
	if q.want != 0 && ours.Rows != rival.Rows || q.want > 0 && ours.Rows != q.want {
		return fmt.Errorf("%s: %d rows, the rival %d; it should be %d (%d is any number)", q.title, ours.Rows, rival.Rows, q.want, asMany)
	}
	title := q.title
	if q.name == "open" {
		title = "a fresh process, until the first page is there"
	}
	medians[q.name] = ours.median()
	ms := func(d time.Duration) float64 { return float64(d) / 1e6 }
	fmt.Printf("  %-46s %7d %9.1f %9.1f %9.0f %10.1f %6.1fx", title, ours.Rows, ms(ours.Turns[0]), ms(ours.median()), mib(rss), ms(rival.median()), float64(rival.median())/float64(ours.median()))
	if before != nil {
		fmt.Printf(" %8.1fx", float64(ours.median())/float64(before[q.name]))
	}
	fmt.Println()
	return nil
}

// child runs a role in one process with several turns, or in several processes whose whole times are the turns.
func (b *bench) child(processes int, args ...string) (answer, int64, error) {
	var all answer
	peak := int64(0)
	for range processes {
		took, rss, out, err := timed(self(args...))
		if err != nil {
			return all, 0, err
		}
		var a answer
		if err := json.Unmarshal(out, &a); err != nil {
			return all, 0, err
		}
		peak = max(peak, rss)
		if processes == 1 {
			return a, peak, nil
		}
		all.Rows, all.Turns = a.Rows, append(all.Turns, took)
	}
	return all, peak, nil
}

// grep searches the events as JSON lines for the word.
func (b *bench) grep(dir string, n int, ours time.Duration) error {
	file := filepath.Join(dir, "events.jsonl")
	if _, _, _, err := timed(self("child-lines", file, strconv.Itoa(n))); err != nil {
		return err
	}
	st, err := os.Stat(file)
	if err != nil {
		return err
	}
	fmt.Printf("  the word in the same events as JSON lines (%.0f MiB), ratio to the lake's answer, which has whole rows in order:\n", mib(st.Size()))
	for _, args := range [][]string{{"rg", "-c", "-i", "-F", generate.Word, file}, {"grep", "-c", "-F", generate.Word, file}} {
		if _, err := exec.LookPath(args[0]); errors.Is(err, exec.ErrNotFound) {
			fmt.Printf("    %-44s is not installed\n", args[0])
			continue
		}
		best := time.Duration(0)
		for range b.turns {
			took, _, out, err := timed(exec.Command(args[0], args[1:]...))
			if err != nil {
				return err
			}
			if got, err := firstNumber(string(out)); err != nil || got != generate.WordCount {
				return fmt.Errorf("%s found %d lines: %w", args[0], got, errors.Join(err, fs.ErrInvalid))
			}
			if best == 0 || took < best {
				best = took
			}
		}
		fmt.Printf("    %-44s %9.1f ms %8.1fx\n", strings.Join(args[:len(args)-1], " "), float64(best)/1e6, float64(best)/float64(ours))
	}
	return nil
}
