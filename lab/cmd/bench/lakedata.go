package main

import (
	"bufio"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/lab/generate"
	"github.com/sherd-forensics/sherd/lake"
	"github.com/sherd-forensics/sherd/parse"
)

const seed = 1

// childLake writes a lake of n generated events.
func childLake(dir string, n int) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	debug.SetMemoryLimit(400 << 20) // as sherd does
	w, err := lake.NewWriter(dir, 0)
	if err != nil {
		return err
	}
	defer w.Abort()
	if err := generate.Events(n, seed, w.Write); err != nil {
		return err
	}
	_, err = w.Close("bench", &parse.Report{Events: int64(n)})
	return err
}

// childNothing generates the events and forgets them: what of the time of childLake is not the lake's.
func childNothing(n int) error {
	return generate.Events(n, seed, func(*event.Event) error { return nil })
}

// childPlain writes the rows of a lake to one Parquet file as DuckDB does by itself, in the order of time.
func childPlain(dir, file string) error {
	db, err := sql.Open("duckdb", "")
	if err != nil {
		return err
	}
	defer db.Close()
	l, err := lake.Open(dir)
	if err != nil {
		return err
	}
	defer l.Close()
	var runs []string
	for _, r := range l.Runs() {
		runs = append(runs, "'"+strings.ReplaceAll(r, "'", "''")+"'")
	}
	_, err = db.Exec("COPY (SELECT * FROM read_parquet([" + strings.Join(runs, ",") + "])) TO '" + file + "' (FORMAT parquet, COMPRESSION zstd)")
	return err
}

// childLines writes the events as JSON lines without what is empty, as logs are shipped.
func childLines(file string, n int) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	var a event.Attributes
	err = generate.Events(n, seed, func(e *event.Event) error {
		a.Reset()
		number := func(k string, v int64) {
			if v != 0 {
				a.Int(k, v)
			}
		}
		a.Int("time", e.Time)
		a.String("time_kind", string(e.TimeKind))
		a.String("kind", string(e.Kind))
		a.String("message", e.Message)
		for _, s := range [][2]string{
			{"container", e.Container}, {"container_id", e.ContainerID}, {"image_digest", e.ImageDigest}, {"pod", e.Pod}, {"namespace", e.Namespace}, {"node", e.Node},
			{"process", e.Process}, {"cmdline", e.Cmdline}, {"user", e.User}, {"identity", e.Identity}, {"path", e.Path}, {"sha256", e.SHA256},
			{"src_ip", e.SrcIP}, {"dst_ip", e.DstIP}, {"protocol", e.Protocol}, {"parser", e.Parser}, {"artifact", e.Artifact},
		} {
			a.String(s[0], s[1])
		}
		number("pid", int64(e.PID))
		number("ppid", int64(e.PPID))
		number("size", e.Size)
		number("src_port", int64(e.SrcPort))
		number("dst_port", int64(e.DstPort))
		number("offset", e.Offset)
		number("length", e.Length)
		a.Raw("attributes", e.Attributes)
		if _, err := w.Write(a.JSON()); err != nil {
			return err
		}
		return w.WriteByte('\n')
	})
	if err != nil {
		return err
	}
	return w.Flush()
}

// timelineChild plays one part of the timeline's benchmark.
func timelineChild(role string, args []string) error {
	need := map[string]int{"child-lake": 2, "child-nothing": 1, "child-plain": 2, "child-lines": 2, "child-ask": 3, "child-sql": 3}[role]
	if need == 0 || len(args) != need {
		return fmt.Errorf("unknown role %q with %d arguments", role, len(args))
	}
	n, _ := strconv.Atoi(args[need-1]) // of those that take a number
	switch role {
	case "child-lake":
		return childLake(args[0], n)
	case "child-nothing":
		return childNothing(n)
	case "child-plain":
		return childPlain(args[0], args[1])
	case "child-lines":
		return childLines(args[0], n)
	case "child-ask":
		return childAsk(args[0], args[1], n)
	}
	return childSQL(args[0], args[1], n)
}

// parts sums the files of a lake by what they are.
func parts(dir string) (map[string]int64, error) {
	out := map[string]int64{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		kind := filepath.Ext(e.Name())
		out[kind] += info.Size()
	}
	return out, nil
}
