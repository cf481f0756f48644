package inventory

import (
	"encoding/json"
	"slices"

	"github.com/sherd-forensics/sherd/evidence"
)

// mapping is how the ids of users or groups inside a container are those outside.
type mapping []struct{ Inside, Outside, Size uint32 }

// owners are the mappings of a container in a user namespace of its own. What it writes has the ids outside, and the files of its image, which
// are mapped when they are mounted, have those inside.
type owners struct {
	UIDMap mapping `json:"uid_map"`
	GIDMap mapping `json:"gid_map"`
}

func ownersOf(p *evidence.Package) owners {
	var o owners
	if json.Unmarshal(p.Manifest().Target, &o) != nil {
		return owners{}
	}
	return o
}

// is reports whether an id of the image's is another outside.
func (m mapping) is(inside, outside uint32) bool {
	return inside == outside || slices.ContainsFunc(m, func(r struct{ Inside, Outside, Size uint32 }) bool {
		at := int64(inside) - int64(r.Inside)
		return at >= 0 && at < int64(r.Size) && int64(r.Outside)+at == int64(outside)
	})
}

// mapped takes back a change of owner that is none: the same user, seen from outside.
func (o owners) mapped(c *Change) {
	if c.Before == nil || c.After == nil || !c.Is(Reowned) || !o.UIDMap.is(c.Before.UID, c.After.UID) || !o.GIDMap.is(c.Before.GID, c.After.GID) {
		return
	}
	kinds := slices.DeleteFunc(append([]Kind{c.Kind}, c.Also...), func(k Kind) bool { return k == Reowned })
	if len(kinds) == 0 {
		kinds = []Kind{Touched}
	}
	c.Kind, c.Also = kinds[0], kinds[1:]
}
