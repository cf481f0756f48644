package sigma

import (
	"fmt"
	"strings"

	"github.com/sherd-forensics/sherd/lake/query"
)

// modifiers are those of one field, understood together.
type modifiers struct {
	how        string // what kind of comparison: "", exists, re, cidr, fieldref
	place      string // contains, startswith, endswith
	changes    []string
	flags      string // of re
	op         query.Op
	opName     string
	part       query.Part
	all, cased bool
	not        bool
}

// parseModifiers refuses by name what is not known or can't stand together.
func parseModifiers(names []string) (*modifiers, error) {
	m := &modifiers{}
	one := func(to *string, name string) error {
		if *to != "" && *to != name {
			return fmt.Errorf("modifiers %s and %s can't stand together", *to, name)
		}
		*to = name
		return nil
	}
	var err error
	for _, name := range names {
		switch name {
		case "contains", "startswith", "endswith":
			err = one(&m.place, name)
		case "all":
			m.all = true
		case "cased":
			m.cased = true
		case "neq":
			m.not = true
		case "exists", "re", "cidr", "fieldref":
			err = one(&m.how, name)
		case "i", "m", "s", "ignorecase", "multiline", "dotall":
			if m.how != "re" {
				return nil, fmt.Errorf("modifier %s stands after re alone", name)
			}
			f := map[string]string{"ignorecase": "i", "multiline": "m", "dotall": "s"}[name]
			if f == "" {
				f = name
			}
			if !strings.Contains(m.flags, f) {
				m.flags += f
			}
		case "lt", "lte", "gt", "gte":
			if err = one(&m.opName, name); err == nil {
				m.op = map[string]query.Op{"lt": query.Less, "lte": query.AtMost, "gt": query.More, "gte": query.AtLeast}[name]
			}
		case "minute", "hour", "day", "week", "month", "year":
			s := string(m.part)
			err = one(&s, name)
			m.part = query.Part(name)
		case "windash", "base64", "base64offset", "utf16", "utf16le", "utf16be", "wide", "expand":
			m.changes = append(m.changes, name)
		case "":
			return nil, fmt.Errorf("a modifier is missing after |")
		default:
			return nil, fmt.Errorf("modifier %s is not known", clip(name, 40))
		}
		if err != nil {
			return nil, err
		}
	}
	return m, m.check()
}

// check refuses what has no meaning together.
func (m *modifiers) check() error {
	kinds := []string{}
	if m.how != "" {
		kinds = append(kinds, m.how)
	}
	if m.part != "" {
		kinds = append(kinds, string(m.part))
	} else if m.opName != "" {
		kinds = append(kinds, m.opName)
	}
	if m.place != "" && m.how != "fieldref" {
		kinds = append(kinds, m.place)
	}
	if len(m.changes) > 0 && m.place == "" {
		kinds = append(kinds, m.changes[0])
	}
	if len(kinds) > 1 {
		return fmt.Errorf("modifiers %s and %s can't stand together", kinds[0], kinds[1])
	}
	if len(m.changes) > 0 && m.how == "fieldref" {
		return fmt.Errorf("modifiers fieldref and %s can't stand together", m.changes[0])
	}
	if len(m.changes) > 8 {
		return fmt.Errorf("more than 8 modifiers change one value")
	}
	return nil
}
