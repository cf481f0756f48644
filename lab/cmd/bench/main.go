// Bench compares what Sherd does with what a user would run instead, in one run on one machine, and prints times,
// ratios and peak memory. Each contestant runs as a process of its own, the best of several turns counts, and turns
// alternate, so that the machine's moods meet all alike.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) > 1 && strings.HasPrefix(os.Args[1], "child-") {
		if err := child(os.Args[1], os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	turns := flag.Int("turns", 3, "turns of each contestant; the best counts")
	size := flag.Int64("mib", 1024, "size of the tree and of the memory, MiB")
	bin := flag.String("bin", "bin", "folder of the built programs")
	venv := flag.String("varc", "", "python of an environment that has varc, for the comparison; empty: left out")
	only := flag.String("only", "", "tree, core, yara, size, investigate, large, indicators, memory, ingest, lake, timeline for those two, or kubernetes; empty: all")
	quick := flag.Bool("quick", false, "small sizes: to see that everything works, not for figures")
	plaso := flag.String("plaso", "", "folder of an environment that has plaso, for the comparison; empty: left out")
	scratch := flag.String("scratch", "", "folder for what the timeline's part writes, up to 12 GiB; empty: the usual one")
	events := flag.String("events", "10,50", "sizes of lakes, in millions of events")
	logs := flag.Int("logs", 3_000_000, "lines of logs that are read")
	flag.Parse()
	b := bench{turns: *turns, size: *size << 20, bin: *bin, varc: *venv, plaso: *plaso, scratch: *scratch, logs: *logs, plasoLogs: 200_000, asks: 7}
	for _, s := range strings.Split(*events, ",") {
		n, err := strconv.ParseFloat(s, 64)
		if err != nil || n <= 0 {
			fmt.Fprintf(os.Stderr, "bench: -events %s: numbers with commas are expected\n", *events)
			os.Exit(2)
		}
		b.events = append(b.events, int(n*1e6))
	}
	if *quick {
		b.turns, b.size, b.logs, b.plasoLogs, b.events, b.asks = 1, min(b.size, 64<<20), 50_000, 5_000, []int{200_000, 400_000}, 3
	}
	for _, part := range []struct {
		name string
		run  func() error
	}{{"size", b.sizes}, {"tree", b.tree}, {"core", b.core}, {"yara", b.yara}, {"investigate", b.investigate}, {"large", b.large}, {"indicators", b.indicators}, {"memory", b.memory}, {"ingest", b.ingest}, {"lake", b.lakes}, {"kubernetes", b.kubernetes}} {
		both := *only == "timeline" && (part.name == "ingest" || part.name == "lake")
		if *only != "" && *only != part.name && !both {
			continue
		}
		if err := part.run(); err != nil {
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", part.name, err)
			os.Exit(1)
		}
	}
}

type bench struct {
	turns int
	size  int64
	bin   string
	varc  string

	// of the timeline
	plaso     string
	scratch   string
	logs      int   // lines
	plasoLogs int   // lines
	events    []int // sizes of lakes
	asks      int   // of each question
}

// contestant is one way to do the job.
type contestant struct {
	name  string
	make  func() *exec.Cmd
	clean func()
	turns int // 0: as many as the others
	best  time.Duration
	cpu   time.Duration
	rss   int64 // bytes, the most that one process of it had
}

// run lets the contestants take turns and prints a table with the first one's time as the measure.
func (b *bench) run(title string, cs []*contestant) error {
	fmt.Printf("\n%s\n", title)
	for turn := range b.turns {
		for _, c := range cs {
			if c.turns != 0 && turn >= c.turns {
				continue
			}
			cmd := c.make()
			cmd.Stderr = os.Stderr
			begin := time.Now()
			err := cmd.Run()
			took := time.Since(begin)
			if c.clean != nil {
				c.clean()
			}
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			ru, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
			if ok && c.rss < ru.Maxrss*1024 {
				c.rss = ru.Maxrss * 1024
			}
			if c.best == 0 || took < c.best {
				c.best, c.cpu = took, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime()
			}
		}
	}
	fmt.Printf("  %-44s %9s %9s %10s %8s\n", "", "seconds", "cpu s", "peak MiB", "ratio")
	for _, c := range cs {
		fmt.Printf("  %-44s %9.2f %9.2f %10.0f %7.2fx\n", c.name, c.best.Seconds(), c.cpu.Seconds(), float64(c.rss)/(1<<20),
			c.best.Seconds()/cs[0].best.Seconds())
	}
	return nil
}

// self re-executes this program in a child's role.
func self(args ...string) *exec.Cmd {
	exe, err := os.Executable()
	if err != nil {
		exe = os.Args[0]
	}
	return exec.Command(exe, args...)
}

func (b *bench) sizes() error {
	fmt.Println("size of the programs")
	for _, name := range []string{"sherd-collector", "sherd"} {
		st, err := os.Stat(filepath.Join(b.bin, name))
		if err != nil {
			return err
		}
		fmt.Printf("  %-44s %9.1f MiB\n", name, float64(st.Size())/(1<<20))
	}
	return nil
}

// tree seals a writable layer of 20,000 files.
func (b *bench) tree() error {
	dir, err := os.MkdirTemp("", "sherd-bench-tree-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := makeTree(filepath.Join(dir, "upper"), 20000, b.size); err != nil {
		return err
	}
	// The rival's output goes nowhere, so ours does too; the third row is ours with the package kept.
	return b.run(fmt.Sprintf("a writable layer of %d MiB in 20,000 files", b.size>>20), []*contestant{
		{name: "sherd: inventory, hash each file, seal", make: func() *exec.Cmd { return self("child-tree", dir, "/dev/null") }},
		{name: "tar | zstd -1 -T2 | sha256sum", make: func() *exec.Cmd {
			return exec.Command("sh", "-c", "tar -C "+filepath.Join(dir, "upper")+" -cf - . | zstd -q -1 -T2 -c | sha256sum >/dev/null")
		}},
		{name: "sherd, the package written to disk", make: func() *exec.Cmd { return self("child-tree", dir, filepath.Join(dir, "out.sherd")) },
			clean: func() { os.Remove(filepath.Join(dir, "out.sherd")) }},
	})
}

// core takes the memory of a process that has touched it all.
func (b *bench) core() error {
	dir, err := os.MkdirTemp("", "sherd-bench-core-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := b.coreOf("heap", "like a service's heap: records, text, random bytes and zeros, a quarter each", dir); err != nil {
		return err
	}
	return b.coreOf("sparse", "each page touched once, mostly zeros", dir)
}

// coreOf takes the memory of one kind of process.
func (b *bench) coreOf(kind, words, dir string) error {
	victim := self("child-victim", fmt.Sprint(b.size), kind)
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
	pid := fmt.Sprint(victim.Process.Pid)
	sealed := filepath.Join(dir, "core.sherd")
	cs := []*contestant{
		{name: "sherd: read, hash, compress, seal", make: func() *exec.Cmd { return self("child-core", pid, sealed) }, clean: func() { os.Remove(sealed) }},
		{name: "gcore (gdb)", make: func() *exec.Cmd { return quiet("gcore", "-o", filepath.Join(dir, "gcore"), pid) },
			clean: func() { os.Remove(filepath.Join(dir, "gcore."+pid)) }},
	}
	if b.varc != "" && kind == "heap" {
		script := filepath.Join(dir, "varc.py")
		if err := os.WriteFile(script, []byte(varcScript), 0o644); err != nil {
			return err
		}
		cs = append(cs, &contestant{name: "varc (memory of this process only)", turns: 1, make: func() *exec.Cmd {
			return quiet(b.varc, script, pid, filepath.Join(dir, "varc.zip"))
		}})
	}
	return b.run(fmt.Sprintf("core of a process with %d MiB of touched memory, %s", b.size>>20, words), cs)
}

// varcScript drives varc's own reader over one process, which its command line can't.
const varcScript = `import sys, logging
from varc_core.systems.linux import LinuxSystem, IOVec
import ctypes
s = LinuxSystem.__new__(LinuxSystem)
s.libc = ctypes.CDLL("libc.so.6")
s.process_vm_readv = s.libc.process_vm_readv
s._MAX_VIRTUAL_PAGE_CHUNK = 256 * 1000**2
s.own_pid, s.yara_hit_pids, s.yara_file, s.extract_dumps = 0, [], None, False
s.output_path = sys.argv[2]
s.process_info = [{"Process ID": int(sys.argv[1]), "Name": "victim"}]
s.dump_processes()
`

func quiet(name string, args ...string) *exec.Cmd {
	return exec.Command("sh", append([]string{"-c", `exec "$0" "$@" >/dev/null 2>&1`, name}, args...)...)
}

// investigate goes from the command to the verdict on a container that was broken into.
func (b *bench) investigate() error {
	url := os.Getenv("TARGET")
	if url == "" {
		fmt.Println("\ninvestigate: left out, since TARGET names no container (scripts/bench.sh starts one)")
		return nil
	}
	dir, err := os.MkdirTemp("", "sherd-bench-investigate-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	pkg := filepath.Join(dir, "x.sherd")
	clean := func() { os.Remove(pkg); os.Remove(pkg + ".custody.jsonl") }
	return b.run("from start to verdict on the demo's container", []*contestant{
		{name: "sherd investigate " + url, clean: clean, make: func() *exec.Cmd {
			// Status 3 is what it should end with; the shell turns it into success and everything else into failure.
			return exec.Command("sh", "-c", `"$0" investigate "$1" -o "$2" >/dev/null; [ $? = 3 ]`, filepath.Join(b.bin, "sherd"), url, pkg)
		}},
		{name: "sherd-collector collect " + url, clean: clean, make: func() *exec.Cmd {
			return quiet(filepath.Join(b.bin, "sherd-collector"), "collect", url, "-o", pkg)
		}},
	})
}
