package process

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
)

// maxMapped bounds the files of one process that are mapped as code and not the image's.
const maxMapped = 512

// region is a file mapped as code.
type region struct {
	start, end uint64
	id         string // device and inode, as maps has them
	path       string
}

// code gives the files that maps (proc_pid_maps(5)) shows as executable, each once. Only newlines are escaped in it.
func code(maps []byte) []region {
	var out []region
	seen := map[string]bool{}
	for line := range strings.Lines(string(maps)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 6)
		if len(f) < 6 || len(f[1]) < 3 || f[1][2] != 'x' || f[4] == "0" {
			continue
		}
		lo, hi, _ := strings.Cut(f[0], "-")
		start, err := strconv.ParseUint(lo, 16, 64)
		if err != nil {
			continue
		}
		end, err := strconv.ParseUint(hi, 16, 64)
		if err != nil {
			continue
		}
		id := f[3] + " " + f[4]
		if seen[id] {
			continue
		}
		seen[id] = true
		out = append(out, region{start, end, id, unescape(strings.TrimLeft(f[5], " "))})
	}
	return out
}

// mapped lists files that are mapped as code and are not the image's, and keeps what no other collector finds: all but those of the
// writable layer. The executable is left out, as it has a row already. An error is fatal.
func (c *collector) mapped(row *record.Process, h *handle, maps []byte) error {
	var exe object
	if h.exe >= 0 {
		var err error
		if exe, err = statx(h.exe, "", atEmptyPath); err != nil {
			exe = object{}
		}
	}
	var rows *evidence.Lines
	n := 0
	for _, r := range code(maps) {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		m, err := c.library(row, h, r, exe)
		if err != nil {
			return err
		}
		if m == nil {
			continue
		}
		if n++; n > maxMapped {
			c.miss(row.Dir+"/mapped", fmt.Errorf("more than %d files that are not the image's are mapped as code", maxMapped), true)
			break
		}
		if rows == nil {
			rows = c.w.Lines(row.Dir+"/mapped.jsonl", h.describe("map_files"))
		}
		if err := rows.Write(m); err != nil {
			return err
		}
	}
	if rows == nil {
		return nil
	}
	return rows.Close()
}

// library describes one file mapped as code; nil if it is the image's, the executable, or unmapped by now.
func (c *collector) library(row *record.Process, h *handle, r region, exe object) (*record.Mapped, error) {
	span := fmt.Sprintf("%x-%x", r.start, r.end)
	name := "map_files/" + span
	m := &record.Mapped{Start: r.start, End: r.end, Path: record.Name(r.path), Origin: record.ExeUnknown}
	link, err := h.readlink(name)
	if err != nil {
		// Without CAP_SYS_ADMIN only maps' own text tells, and for a process whose first thread ended there are no links.
		if !strings.HasSuffix(r.path, deletedSuffix) {
			return nil, nil
		}
		if gone(err) && h.via == "" {
			return nil, nil
		}
		m.Error = reason(err)
		c.miss(row.Dir+"/mapped/"+span, err, false)
		return m, nil
	}
	o, err := h.stat(name)
	if err != nil {
		if gone(err) {
			return nil, nil
		}
		m.Error = reason(err)
		c.miss(row.Dir+"/mapped/"+span, err, false)
		return m, nil
	}
	if o.same(exe) {
		return nil, nil
	}
	target, deleted := c.deleted(h, link, o)
	m.Path, m.Deleted = record.Name(target), deleted
	m.Dev, m.Ino, m.Size, m.Mtime, m.Ctime, m.Btime = o.dev, o.ino, o.size, o.mtime, o.ctime, o.btm
	where, inside := c.where(h, target, o)
	if where == "" && !deleted {
		if r, _ := c.layers.find(inside); r != nil && c.layers.overlay && c.layers.upper != nil && !c.layers.written(inside) {
			return nil, nil // the image's: not even opened
		}
	}
	if h.onPseudo(o) {
		m.Origin, m.Error = record.ExeVolume, errPseudo.Error()
		return m, nil
	}
	f, err := c.open(h, h.path(name), o)
	if err != nil {
		if gone(err) {
			return nil, nil
		}
		m.Error = reason(err)
		c.miss(row.Dir+"/mapped/"+span, err, false)
		return m, nil
	}
	defer f.Close()
	switch {
	case where == record.ExeMemfd:
		m.Origin = where
	case deleted:
		m.Origin = record.ExeDeleted
	case where != "":
		m.Origin = where
	default:
		m.Origin, m.SHA256 = c.inRoot(inside, f)
	}
	switch m.Origin {
	case record.ExeImage:
		return nil, nil
	case record.ExeDrift, record.ExeUnknown:
		// The file collector keeps these with the writable layer, or the root.
		if m.SHA256 == "" {
			if m.SHA256, err = c.hash(f); err != nil {
				m.Error = reason(err)
			}
		}
		return m, nil
	}
	k, err := c.keep(row.Dir+"/mapped/"+span, h.describe(name)+" → "+link, f)
	if err != nil {
		return nil, err
	}
	m.SHA256, m.Artifact = k.sum, k.artifact
	if k.err != nil {
		m.Error = reason(k.err)
	}
	return m, nil
}
