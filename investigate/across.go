package investigate

import (
	"slices"
	"strings"

	"github.com/sherd-forensics/sherd/verdict"
)

// Link is something that more than one investigated container's scope holds.
type Link struct {
	Type  string // verdict.EntityAddress, or verdict.EntityFile for a program's or file's hash
	Value string // an address without its port where ports differ, or a SHA-256
	In    []int  // indexes of the results, ascending
}

// Across finds hashes and addresses that several results share, so that one intrusion in many containers is seen as one. The
// order is that of first occurrence.
func Across(results []*Result) []Link {
	var out []Link
	add := func(kind, value string, i int) {
		k := slices.IndexFunc(out, func(l Link) bool { return l.Type == kind && l.Value == value })
		if k < 0 {
			out = append(out, Link{Type: kind, Value: value})
			k = len(out) - 1
		}
		if !slices.Contains(out[k].In, i) {
			out[k].In = append(out[k].In, i)
		}
	}
	for i, r := range results {
		for _, e := range r.Verdict.Scope {
			switch {
			case e.Type == verdict.EntityAddress:
				add(verdict.EntityAddress, host(e.Value), i)
			case e.SHA256 != "" && (e.Role == "foreign" || e.Role == "changed"):
				add(verdict.EntityFile, e.SHA256, i)
			}
		}
	}
	return slices.DeleteFunc(out, func(l Link) bool { return len(l.In) < 2 })
}

// host is an address without its port: one listener may be called on several.
func host(s string) string {
	if h, ok := strings.CutPrefix(s, "["); ok {
		h, _, _ = strings.Cut(h, "]")
		return h
	}
	if strings.Count(s, ":") == 1 {
		s, _, _ = strings.Cut(s, ":")
	}
	return s
}
