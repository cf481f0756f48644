package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/internal/redact"
	"github.com/sherd-forensics/sherd/lake"
	"github.com/sherd-forensics/sherd/lake/query"
)

// revealFlag is for whatever prints events.
func (a *app) revealFlag(c *cobra.Command) {
	c.Flags().BoolVar(&a.reveal, "reveal", false, "show secrets in events as they are")
}

// veiled answers with secrets taken out of what events say. A query still looks at what is there, so that a secret that somebody has can
// be looked for.
type veiled struct{ lake.Engine }

func (v veiled) Page(ctx context.Context, r lake.PageRequest) (*lake.Page, error) {
	p, err := v.Engine.Page(ctx, r)
	if err != nil {
		return nil, err
	}
	for i := range p.Rows {
		hideSecrets(&p.Rows[i].Event)
	}
	return p, nil
}

func (v veiled) Scan(ctx context.Context, q *query.Query, fn func(*lake.Row) error) error {
	return v.Engine.Scan(ctx, q, func(r *lake.Row) error {
		hideSecrets(&r.Event)
		return fn(r)
	})
}

func (v veiled) Facets(ctx context.Context, q *query.Query, columns []string, top int) ([]lake.Facet, error) {
	found, err := v.Engine.Facets(ctx, q, columns, top)
	if err != nil {
		return nil, err
	}
	for _, f := range found {
		named := redact.Name(f.Column[strings.LastIndexByte(f.Column, '.')+1:])
		for i := range f.Values {
			f.Values[i].Value = hideValue(named, f.Values[i].Value)
		}
	}
	return found, nil
}

func hideValue(named bool, s string) string {
	if named && s != "" {
		return hiddenMark
	}
	return redact.Text(s)
}

const hiddenMark = "***"

// hideSecrets takes secrets out of what an event says in words. What it says in columns of their own, addresses and hashes, holds none.
func hideSecrets(e *event.Event) {
	e.Message, e.Cmdline, e.Path = redact.Text(e.Message), redact.Text(e.Cmdline), redact.Text(e.Path)
	if len(e.Attributes) == 0 {
		return
	}
	if hidden, n := redact.Bytes(e.Attributes); n == 0 || bytes.Equal(hidden, e.Attributes) {
		return
	}
	d := json.NewDecoder(bytes.NewReader(e.Attributes))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		e.Attributes = json.RawMessage(`{"hidden":"attributes that hold a secret and are not JSON"}`)
		return
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(hideIn(v, false, 0)); err != nil {
		e.Attributes = json.RawMessage(`{"hidden":"attributes that hold a secret and can't be written"}`)
		return
	}
	e.Attributes = bytes.TrimSpace(out.Bytes())
}

// maxNested bounds how deep attributes are looked into; what lies deeper is hidden.
const maxNested = 64

func hideIn(v any, named bool, depth int) any {
	if depth > maxNested {
		return hiddenMark
	}
	switch x := v.(type) {
	case string:
		return hideValue(named, x)
	case json.Number:
		if named {
			return hiddenMark
		}
	case []any:
		for i := range x {
			x[i] = hideIn(x[i], named, depth+1) // a list of secrets; an object below such a name may only describe one
		}
	case map[string]any:
		for k, inner := range x {
			x[k] = hideIn(inner, redact.Name(k), depth+1)
		}
	}
	return v
}
