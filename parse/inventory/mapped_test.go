package inventory

import (
	"slices"
	"testing"

	"github.com/sherd-forensics/sherd/evidence/record"
)

// TestMapped: in a user namespace, an owner who is the same user seen from outside has not changed.
func TestMapped(t *testing.T) {
	o := owners{UIDMap: mapping{{0, 1_206_386_688, 65536}}, GIDMap: mapping{{0, 1_206_386_688, 65536}}}
	row := func(uid, gid, mode uint32) *Row {
		return &Row{File: record.File{UID: uid, GID: gid, Mode: mode}}
	}
	for name, c := range map[string]struct {
		o             owners
		before, after *Row
		kinds, want   []Kind
	}{
		"same":          {o, row(65532, 65532, 0o755), row(1_206_452_220, 1_206_452_220, 0o755), []Kind{Reowned}, []Kind{Touched}},
		"and mode":      {o, row(0, 0, 0o755), row(1_206_386_688, 1_206_386_688, 0o777), []Kind{Reowned, Remoded}, []Kind{Remoded}},
		"other user":    {o, row(0, 0, 0o755), row(1_206_386_689, 1_206_386_688, 0o755), []Kind{Reowned}, []Kind{Reowned}},
		"beyond":        {o, row(65536, 0, 0o755), row(1_206_452_224, 1_206_386_688, 0o755), []Kind{Reowned}, []Kind{Reowned}},
		"no namespace":  {owners{}, row(0, 0, 0o755), row(1000, 0, 0o755), []Kind{Reowned}, []Kind{Reowned}},
		"other changes": {o, row(0, 0, 0o755), row(0, 0, 0o777), []Kind{Remoded}, []Kind{Remoded}},
	} {
		ch := Change{Kind: c.kinds[0], Also: c.kinds[1:], Before: c.before, After: c.after}
		c.o.mapped(&ch)
		if got := append([]Kind{ch.Kind}, ch.Also...); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q", name, got)
		}
	}
}
