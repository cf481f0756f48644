package jsonrecords

import (
	"context"

	"github.com/sherd-forensics/sherd/parse"
)

// Read calls fn with each record of in. fn says whether it is one of its format; those that are not, and damaged ones, are told as
// skipped. An error of fn ends the reading and is returned.
func Read(ctx context.Context, in *parse.Input, o Options, fn func(rec Record, root Node) (bool, error)) error {
	var t Tree
	n := 0
	for rec, err := range Each(in, o) {
		if err != nil {
			return err
		}
		if n++; n%512 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		root, whole := t.Parse(rec.Data)
		ok, err := fn(rec, root)
		if err != nil {
			return err
		}
		switch {
		case rec.Cut || !whole:
			in.Skip(rec.Offset, rec.Length, "a record is damaged or breaks off")
		case !ok:
			in.Skip(rec.Offset, rec.Length, "a record is not of this format")
		}
	}
	return nil
}

// Sniff reports whether one of the first records of head satisfies fn. A record may be cut by the end of head.
func Sniff(head []byte, o Options, fn func(root Node) bool) bool {
	if !plausible(head) {
		return false
	}
	var t Tree
	for _, rec := range Head(head, o, 5) {
		if root, _ := t.Parse(rec.Data); root.Type() == Object && fn(root) {
			return true
		}
	}
	return false
}

// plausible says cheaply that head can't be JSON.
func plausible(head []byte) bool {
	for i, c := range head {
		switch c {
		case '{', '[':
			return true
		case ' ', '\n', '\r', '\t', 0xef, 0xbb, 0xbf, 0x1e, 0:
		default:
			// A line that was cut when the log was rotated, and then records.
			for _, c := range head[i:min(len(head), i+4096)] {
				if c == '{' {
					return true
				}
			}
			return false
		}
	}
	return false
}
