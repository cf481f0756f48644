package memory

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/sherd-forensics/sherd/evidence/record"
)

// maxSegments bounds the segments listed with one mapping; the core's program headers have all of them.
const maxSegments = 1024

// rows writes process/<pid>/memory.jsonl.
func (t *target) rows(ctx context.Context) error {
	lines := t.c.w.Lines(t.base+"/memory.jsonl", t.dir+"/maps, pagemap")
	changed := map[*mapping][]record.ChangedText{}
	for _, r := range t.plan.changed {
		changed[r.m] = append(changed[r.m], r.record())
	}
	at := int64(0)
	if t.head != nil {
		at = int64(t.head.data)
	}
	unhashed, why := 0, error(nil)
	for i := range t.maps.list {
		p := &t.maps.list[i]
		row := t.row(p)
		row.Segments, at = t.segmentsOf(p, at)
		row.Changed = changed[p]
		if p.kind == kindFile || p.kind == kindUnknown {
			var err error
			row.FileSHA256, err = t.c.files.hash(t.c.s.Proc, t.p.PID, p, t.maps.path(p))
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				unhashed, why = unhashed+1, err
			}
		}
		if err := lines.Write(row); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return errors.Join(err, lines.Close())
		}
	}
	if unhashed > 0 {
		t.miss(fmt.Sprintf("hashes of %d mappings' files: %v", unhashed, why), true)
	}
	return lines.Close()
}

func (t *target) row(p *mapping) record.Mapping {
	size := int64(t.pageSize)
	path := t.maps.path(p)
	row := record.Mapping{
		Start: p.start, End: p.end, Perms: p.perms.String(), Offset: int64(p.offset), Dev: fmt.Sprintf("%02x:%02x", p.major, p.minor),
		Inode: p.inode, Path: record.Name(path), Deleted: p.inode != 0 && strings.HasSuffix(path, deletedSuffix),
		Present: int64(p.present) * size, Anonymous: int64(p.anon) * size, Swapped: int64(p.swapped) * size,
		Dumped: int64(p.dumped) * size, Unreadable: int64(p.unreadable) * size, LeftOut: p.why.String(),
	}
	if row.LeftOut == "" && p.unreadable > 0 {
		row.LeftOut = leftUnreadable.String()
	}
	if t.head == nil {
		row.Dumped = 0
	}
	return row
}

// segmentsOf lists where p's bytes lie in the core, of which the next free offset is at.
func (t *target) segmentsOf(p *mapping, at int64) ([]record.Segment, int64) {
	if t.head == nil {
		return nil, at
	}
	var out []record.Segment
	for _, pc := range t.plan.pieces[p.first : p.first+p.count] {
		n := int64(pc.pages) * int64(t.pageSize)
		if k := len(out) - 1; k >= 0 && out[k].Addr+uint64(out[k].Length) == pc.addr {
			out[k].Length += n
		} else if len(out) < maxSegments {
			out = append(out, record.Segment{Addr: pc.addr, Length: n, CoreOffset: at})
		}
		at += n
	}
	return out, at
}

func (c *changedRun) record() record.ChangedText {
	r := record.ChangedText{
		Addr: c.addr, Length: int64(c.size), FileOffset: int64(c.offset), FileSHA256: c.fileSHA256,
		FileArtifact: c.fileArtifact, CoreOffset: -1, DiffBytes: c.diff,
	}
	if c.mem != nil && c.seen == c.size {
		r.MemSHA256 = hex.EncodeToString(c.mem.Sum(nil))
		r.CoreOffset = c.core
	}
	return r
}
