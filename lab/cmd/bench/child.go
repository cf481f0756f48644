package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/collect/filesystem"
	"github.com/sherd-forensics/sherd/collect/memory"
	"github.com/sherd-forensics/sherd/collect/subject"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/target"
)

// child plays one contestant's part in a process of its own, so that its memory can be measured.
func child(role string, args []string) error {
	if path := os.Getenv("BENCH_PROFILE"); path != "" && role != "child-victim" {
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	switch role {
	case "child-victim":
		size, err := strconv.ParseInt(args[0], 10, 64)
		if err != nil {
			return err
		}
		mem, err := unix.Mmap(-1, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err != nil {
			return err
		}
		if args[1] == "heap" {
			fillHeap(mem)
		} else {
			for i := 0; i < len(mem); i += 4096 {
				binary.LittleEndian.PutUint64(mem[i:], uint64(i)*2654435761)
			}
		}
		fmt.Println("ready")
		time.Sleep(10 * time.Minute)
		return nil
	case "child-tree":
		dir := args[0]
		c := &target.Container{URL: "bench://tree", Name: "bench", State: target.Exited, Rootfs: target.Rootfs{
			Driver: "overlay", Upper: filepath.Join(dir, "upper"),
		}}
		return seal(args[1], c, func(ctx context.Context, s subject.Subject, w *evidence.Writer) error {
			return filesystem.Collect(ctx, s, w, filesystem.Options{})
		})
	case "child-memory-make":
		size, err := strconv.ParseInt(args[0], 10, 64)
		if err != nil {
			return err
		}
		return makeMemory(size, args[1], args[2])
	case "child-memory":
		return childMemory(args[0], args[1])
	case "child-indicators":
		return childIndicators(args[0], args[1])
	case "child-yara":
		return childYara(args[0], args[1])
	case "child-core":
		pid, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		c := &target.Container{URL: "bench://core", Name: "bench", State: target.Running, PID: pid}
		return seal(args[1], c, func(ctx context.Context, s subject.Subject, w *evidence.Writer) error {
			p, err := subject.Identify(s.Proc, pid)
			if err != nil {
				return err
			}
			s.Processes = []subject.Process{p}
			return memory.Collect(ctx, s, w, memory.Options{})
		})
	}
	return timelineChild(role, args)
}

// seal runs one collector into a package.
func seal(path string, c *target.Container, collect func(context.Context, subject.Subject, *evidence.Writer) error) error {
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer out.Close()
	w, err := evidence.NewWriter(out, evidence.WriterOptions{Tool: "bench", Target: c})
	if err != nil {
		return err
	}
	if err := collect(context.Background(), subject.Subject{Container: c, Proc: "/proc"}, w); err != nil {
		return err
	}
	_, err = w.Close()
	return err
}
