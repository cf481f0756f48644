// Package l2tcsv reads the CSV of log2timeline in its 17 columns, which plaso's psort writes with -o l2tcsv.
//
// Specification: https://plaso.readthedocs.io/en/latest/sources/user/Output-format-l2t_csv.html
//
// A line proves what the tool that wrote it made of its evidence. It does not prove the fact; the evidence itself is elsewhere. Times have seconds only, in the zone that the line names.
package l2tcsv

import (
	"bytes"
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/parse"
)

// Format is log2timeline's CSV.
var Format = parse.Format{
	Name:  "l2tcsv",
	Title: "log2timeline CSV",
	Spec:  "https://plaso.readthedocs.io/en/latest/sources/user/Output-format-l2t_csv.html",
	Sniff: func(head []byte) parse.Confidence {
		if bytes.HasPrefix(bytes.TrimPrefix(head, []byte("\ufeff")), []byte(header)) {
			return parse.Certain
		}
		return parse.No
	},
	Read: read,
}

const (
	header = "date,time,timezone,MACB,source,sourcetype,type,user,host,short,desc,version,filename,inode,notes,format,extra"
	fields = 17
)

func read(ctx context.Context, in *parse.Input, emit parse.Emit) error {
	c := csv.NewReader(in)
	c.FieldsPerRecord = -1
	c.LazyQuotes = true
	c.ReuseRecord = true
	zones := map[string]*time.Location{}
	var a event.Attributes
	for n := 0; ; n++ {
		if n%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		from := c.InputOffset()
		f, err := c.Read()
		to := c.InputOffset()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if bad := (*csv.ParseError)(nil); errors.As(err, &bad) {
			in.Skip(from, to-from, "not a line of CSV: "+bad.Err.Error())
			continue
		}
		if err != nil {
			return err
		}
		if len(f) != fields {
			in.Skip(from, to-from, "it has other than 17 columns")
			continue
		}
		if n == 0 && strings.HasSuffix(f[0], "date") {
			continue
		}
		e := in.Base
		e.Offset, e.Length = from, to-from
		if !at(&e, f[0], f[1], f[2], zones) {
			in.Skip(from, to-from, "its time can't be read")
			continue
		}
		fill(&e, f, &a)
		if err := emit(&e); err != nil {
			return err
		}
	}
}

// at reads 11/24/2026, 03:02:11, UTC.
func at(e *event.Event, date, clock, zone string, zones map[string]*time.Location) bool {
	if strings.HasPrefix(date, "00/00/") || date == "" {
		return true // not known
	}
	where, ok := zones[zone]
	if !ok {
		loc, err := time.LoadLocation(zone)
		if err != nil || strings.ContainsAny(zone, "/.") && len(zone) > 64 {
			loc = time.UTC
		}
		if len(zones) < 64 {
			zones[zone] = loc
		}
		where = loc
	}
	t, err := time.ParseInLocation("01/02/2006 15:04:05", date+" "+clock, where)
	if err != nil || t.Year() < 1678 || t.Year() > 2261 {
		return false
	}
	e.Time = t.UnixNano()
	return true
}

func fill(e *event.Event, f []string, a *event.Attributes) {
	known := func(s string) string {
		if s == "-" {
			return ""
		}
		return s
	}
	e.Message, e.User, e.Node, e.Path = strings.Clone(cmp.Or(known(f[10]), known(f[9]))), strings.Clone(known(f[7])), strings.Clone(known(f[8])), strings.Clone(known(f[12]))
	e.TimeKind, e.Kind = Meaning(f[3], f[6])
	if e.Kind == event.LogLine && strings.EqualFold(f[4], "FILE") {
		e.Kind = event.FileChanged
	}
	a.Reset()
	a.String("source", known(f[4]))
	a.String("source_type", known(f[5]))
	a.String("timestamp_desc", known(f[6]))
	a.String("inode", known(f[13]))
	a.String("notes", known(f[14]))
	a.String("plaso_parser", known(f[15]))
	a.String("extra", known(f[16]))
	e.Attributes = a.JSON()
}

// Meaning turns the letters of MACB, or the words of a description, into ours.
func Meaning(macb, desc string) (event.TimeKind, event.Kind) {
	d := strings.ToLower(desc)
	switch {
	case strings.Contains(d, "creat") && strings.Contains(d, "time") || strings.Contains(d, "birth"):
		return event.Created, event.LogLine
	case strings.Contains(d, "modif"):
		return event.Modified, event.LogLine
	case strings.Contains(d, "access"):
		return event.Accessed, event.LogLine
	case strings.Contains(d, "change"):
		return event.Changed, event.LogLine
	case strings.Contains(d, "start"):
		return event.Started, event.LogLine
	case len(macb) == 4 && macb[3] == 'B':
		return event.Created, event.LogLine
	}
	return event.Logged, event.LogLine
}
