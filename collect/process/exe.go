package process

import (
	"strconv"

	"github.com/sherd-forensics/sherd/evidence/record"
)

// exe fills in the row's executable and keeps its content unless the image holds it unchanged. An error is fatal.
func (c *collector) exe(row *record.Process, h *handle) error {
	e := &row.Exe
	if h.exe < 0 {
		// A zombie and a kernel thread have none.
		e.Path, e.Error = record.Name(h.exeLink), reason(h.exeErr)
		if row.State != "Z" && !gone(h.exeErr) {
			c.miss(row.Dir+"/exe", h.exeErr, false)
		}
		return nil
	}
	o, err := statx(h.exe, "", atEmptyPath)
	if err != nil {
		e.Path, e.Error = record.Name(h.exeLink), reason(err)
		c.miss(row.Dir+"/exe", err, false)
		return nil
	}
	e.Dev, e.Ino, e.Size, e.Mode, e.Mtime, e.Ctime, e.Btime = o.dev, o.ino, o.size, o.mode&0o7777, o.mtime, o.ctime, o.btm
	link, deleted := c.deleted(h, h.exeLink, o)
	e.Path, e.Deleted = record.Name(link), deleted

	f, err := c.open(h, "/proc/self/fd/"+strconv.Itoa(h.exe), o)
	if err != nil {
		e.Error = reason(err)
		c.miss(row.Dir+"/exe", err, false)
	} else {
		defer f.Close()
	}
	where, inside := c.where(h, link, o)
	switch {
	case where == record.ExeMemfd:
		e.Origin = where
	case deleted:
		e.Origin = record.ExeDeleted
	case where != "":
		e.Origin = where
	default:
		e.Origin, e.SHA256 = c.inRoot(inside, f)
	}
	if f == nil {
		return nil
	}
	if e.Origin == record.ExeImage {
		if e.SHA256 == "" {
			if e.SHA256, err = c.hash(f); err != nil {
				e.Error = reason(err)
				c.miss(row.Dir+"/exe", err, false)
			}
		}
		return nil
	}
	k, err := c.keep(row.Dir+"/exe", h.describe("exe")+" → "+h.exeLink, f)
	if err != nil {
		return err
	}
	e.Artifact = k.artifact
	if k.sum != "" {
		e.SHA256 = k.sum
	}
	if k.err != nil {
		e.Error = reason(k.err)
	}
	return nil
}
