package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sherd-forensics/sherd/cmd/internal/console"
	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/detect/carve"
	"github.com/sherd-forensics/sherd/detect/core"
	elf "github.com/sherd-forensics/sherd/detect/program"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/printable"
)

func newCarve(a *app) *cobra.Command {
	var dir string
	var pids []int
	var asJSON bool
	c := &cobra.Command{
		Use:   "carve EVIDENCE",
		Short: "find programs in memory that no file backs, and write them out",
		Long: `Carve looks for ELF programs in anonymous and memfd memory of the processes in a package, also inside of heaps: those that lie there byte for
byte as a file, and those that were laid out to run. It lists where each lies, how much of it memory has, its hash and what it is. -o writes them into a folder,
under names of Sherd's own, without permission to run, with carved.json that says the same as the list. What memory lacks is written as zeros.`,
		Example: `  sherd carve case7.sherd
  sherd carve case7.sherd --pid 1 -o carved/`,
		Args: exactly(1, "the package"),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := a.open(args[0])
			if err != nil {
				return err
			}
			defer p.Close()
			return a.carve(cmd.Context(), p, pids, dir, asJSON)
		},
	}
	c.Flags().StringVarP(&dir, "output", "o", "", "write the programs and carved.json into `DIR`, which is made if it is not there")
	c.Flags().IntSliceVar(&pids, "pid", nil, "only the process of this `NUMBER`, the container's or the host's (repeatable)")
	c.Flags().BoolVar(&asJSON, "json", false, "print the list as JSON")
	a.identityFlag(c)
	return c
}

// carvedRow is one program found in memory.
type carvedRow struct {
	PID        int        `json:"pid"` // as the container sees it, or the host where it does not say
	HostPID    int        `json:"host_pid"`
	Process    string     `json:"process"`
	Address    string     `json:"address"`
	Mapping    string     `json:"mapping"`
	Perms      string     `json:"perms"`
	Artifact   string     `json:"artifact"`
	Offset     int64      `json:"offset"`
	Form       carve.Form `json:"form"` // "file" or "loaded"
	Executable bool       `json:"executable"`
	Size       int64      `json:"size"`
	Have       int64      `json:"have"`
	Complete   bool       `json:"complete"`
	SHA256     string     `json:"sha256"` // of what is written
	File       string     `json:"file,omitempty"`
	Facts      *elf.Facts `json:"facts"`
}

func (a *app) carve(ctx context.Context, p *evidence.Package, pids []int, dir string, asJSON bool) error {
	if dir != "" {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("making the folder for what is carved: %w", err)
		}
	}
	rows := []carvedRow{}
	var failed error
	err := a.memories(ctx, p, pids, func(proc *detect.Process, m *core.Image, bar *memoryProgress) error {
		images, err := carve.Find(ctx, m, carve.Anonymous, bar.done)
		for _, x := range images {
			r := carvedRow{
				PID: insidePID(proc), HostPID: proc.PID, Process: printable.Text(string(proc.Comm)), Address: fmt.Sprintf("%#x", x.Addr),
				Mapping: printable.Clip(string(m.Maps[x.Mapping].Path), 80), Perms: printable.Clip(m.Maps[x.Mapping].Perms, 8), Artifact: record.Escape(m.Artifact), Offset: x.Offset,
				Form: x.Form, Executable: x.Executable, Size: x.Size, Have: x.Have, Complete: x.Complete(), SHA256: x.SHA256, Facts: x.Facts,
			}
			if dir != "" {
				r.File = fmt.Sprintf("%d-%x-%s.elf", proc.PID, x.Addr, x.SHA256[:12])
				if failed = writeCarved(filepath.Join(dir, r.File), x); failed != nil {
					return failed
				}
			}
			rows = append(rows, r)
		}
		return err
	})
	if err = errors.Join(failed, err); err != nil {
		return err
	}
	if dir != "" {
		err := writeAside(filepath.Join(dir, "carved.json"), func(w io.Writer) error { return indented(w, rows) })
		if err != nil {
			return fmt.Errorf("writing the list of what was carved: %w", err)
		}
	}
	if asJSON {
		return indented(a.out, rows)
	}
	if len(rows) == 0 {
		a.note("no program lies in memory that belongs to no file")
		return nil
	}
	out := make([][]string, len(rows))
	for i := range rows {
		r := &rows[i]
		have := "whole"
		if !r.Complete {
			have = fmt.Sprintf("%d%%", 100*r.Have/max(r.Size, 1))
		}
		mapping := r.Mapping
		if mapping == "" {
			mapping = "(anonymous)"
		}
		out[i] = []string{fmt.Sprint(r.PID), r.Address, mapping, string(r.Form), console.Bytes(r.Size), have, r.SHA256[:12], r.Facts.Summary()}
	}
	width := console.Width(a.out)
	if !console.IsTerminal(a.out) {
		width = 4000
	}
	console.Table(a.out, width, []string{"PID", "ADDRESS", "MAPPING", "FORM", "SIZE", "HAVE", "SHA256", "WHAT"}, out)
	if dir != "" {
		a.note("written to %s, with carved.json", printable.Text(dir))
	}
	return nil
}

// writeCarved writes a program for people to read, not to run.
func writeCarved(path string, x *carve.ELF) error {
	err := writeAside(path, func(w io.Writer) error {
		_, err := x.WriteTo(w)
		return err
	})
	if err != nil {
		return fmt.Errorf("writing what was carved: %w", err)
	}
	return nil
}

func indented(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
