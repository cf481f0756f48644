// Package bodyfile reads the body file of The Sleuth Kit 3, which fls, mac-robber and many others write and mactime sorts: one file on a line, with up to four times
// in seconds.
//
// Specification: https://wiki.sleuthkit.org/index.php?title=Body_file
//
// A line proves what the program that wrote it found in the file system, in its words. It does not prove that the times are true: all but the change of metadata can be
// set by whoever owns the file.
package bodyfile

import (
	"bytes"
	"context"
	"strconv"
	"strings"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/parse"
)

// Format is the body file.
var Format = parse.Format{
	Name:  "bodyfile",
	Title: "body file of The Sleuth Kit",
	Spec:  "https://wiki.sleuthkit.org/index.php?title=Body_file",
	Sniff: sniff,
	Read:  read,
}

func sniff(head []byte) parse.Confidence {
	lines, good := 0, 0
	for lines < 16 {
		line, rest, more := bytes.Cut(head, []byte("\n"))
		if !more && lines > 0 {
			break
		}
		if len(line) > 0 && line[0] != '#' {
			lines++
			if _, ok := split(string(line)); ok {
				good++
			}
		}
		if head = rest; !more {
			break
		}
	}
	if good > 0 && good == lines {
		return 85
	}
	return parse.No
}

// entry is a line: MD5|name|inode|mode|UID|GID|size|atime|mtime|ctime|crtime.
type entry struct {
	md5, name, inode, mode, uid, gid string
	size                             int64
	times                            [4]int64 // accessed, modified, changed, created; 0 is not known
}

func split(s string) (e entry, ok bool) {
	f := strings.Split(strings.TrimSuffix(s, "\r"), "|")
	if len(f) < 11 {
		return e, false
	}
	// A name may itself have bars: what is left of the last nine and right of the first is its.
	n := len(f)
	e.md5, e.name, e.inode, e.mode, e.uid, e.gid = f[0], strings.Join(f[1:n-9], "|"), f[n-9], f[n-8], f[n-7], f[n-6]
	size, err := strconv.ParseInt(f[n-5], 10, 64)
	if err != nil {
		return e, false
	}
	e.size = size
	for i := range e.times {
		t, ok := seconds(f[n-4+i])
		if !ok {
			return e, false
		}
		e.times[i] = t
	}
	return e, true
}

// seconds reads seconds with or without a fraction, in nanoseconds. 0 and below 0 mean that the time is not known.
func seconds(s string) (int64, bool) {
	whole, frac, _ := strings.Cut(s, ".")
	n, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || n > 9_000_000_000 {
		return 0, false
	}
	if n <= 0 {
		return 0, true
	}
	n *= 1e9
	if frac != "" {
		frac = (frac + "000000000")[:9]
		f, err := strconv.ParseInt(frac, 10, 64)
		if err != nil || f < 0 {
			return 0, false
		}
		n += f
	}
	return n, true
}

var kinds = [4]struct {
	time event.TimeKind
	kind event.Kind
	text string
}{
	{event.Accessed, event.FileAccessed, " read"},
	{event.Modified, event.FileModified, " modified"},
	{event.Changed, event.FileChanged, ": metadata changed"},
	{event.Created, event.FileCreated, " created"},
}

func read(ctx context.Context, in *parse.Input, emit parse.Emit) error {
	var a event.Attributes
	n := 0
	for l, err := range in.Lines() {
		if err != nil {
			return err
		}
		if n++; n%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if len(l.Data) == 0 || l.Data[0] == '#' {
			continue
		}
		b, ok := split(string(l.Data))
		if !ok {
			in.Skip(l.Offset, l.Length, "not a line of a body file")
			continue
		}
		e := in.Base
		e.Offset, e.Length, e.Size, e.User = l.Offset, l.Length, max(b.size, 0), b.uid
		name, target, link := strings.Cut(b.name, " -> ")
		e.Path = strings.TrimSuffix(name, " (deleted)")
		a.Reset()
		if b.md5 != "0" {
			a.String("md5", b.md5)
		}
		a.String("inode", b.inode)
		a.String("mode", b.mode)
		a.String("gid", b.gid)
		if link {
			a.String("target", target)
		}
		if e.Path != name || strings.Contains(name, "(deleted") {
			a.Bool("deleted", true)
		}
		e.Attributes = a.JSON()
		for i, t := range b.times {
			if t == 0 {
				continue
			}
			e.Time, e.TimeKind, e.Kind, e.Message = t, kinds[i].time, kinds[i].kind, name+kinds[i].text
			if err := emit(&e); err != nil {
				return err
			}
		}
		if b.times == [4]int64{} {
			e.Time, e.TimeKind, e.Kind, e.Message = 0, event.Observed, event.FileChanged, name+" is there, at times that are not known"
			if err := emit(&e); err != nil {
				return err
			}
		}
	}
	return nil
}
