package behaviour

import (
	"fmt"
	"reflect"
	"slices"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/internal/printable"
)

// kind is one type of object that a condition can speak of.
type kind struct {
	name   string // "process"
	about  string
	fields []field // in the order in which they are documented
	by     map[string]*field
	typ    *cel.Type
}

// field is one field of a kind. get answers errAbsent for what an object does not have, and an *unseen for what was not collected.
type field struct {
	name   string
	typ    *cel.Type
	about  string
	secret bool // its value may be a secret: conditions may look at it, statements may not say it
	get    func(o *object) (ref.Val, error)
}

// object is one thing of the evidence as a condition sees it.
type object struct {
	kind *kind
	v    any // *detect.Process, *detect.Socket …
	in   *scope
}

// scope is what objects of one evaluation have in common.
type scope struct {
	*world
	// shown makes all text of objects fit to be shown, which statements need and conditions must not have.
	shown bool
	// touched are the objects that a statement spoke of, in the order in which it did.
	touched *[]*object
}

// unseen says that a part of the evidence was not collected, and why.
type unseen struct{ what, why string }

func (u *unseen) Error() string { return u.what + ": " + u.why }

// errAbsent says that an object has nothing by that name: a process without a parent in the container.
type errAbsent struct{ name string }

func (e errAbsent) Error() string { return "it has no " + e.name + ": ask has() first" }

// ConvertToNative implements ref.Val.
func (o *object) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("a %s is no %s", o.kind.name, t)
}

// ConvertToType implements ref.Val.
func (o *object) ConvertToType(t ref.Type) ref.Val {
	if t == types.TypeType {
		return o.kind.typ
	}
	return types.NewErr("a %s is no %s", o.kind.name, t.TypeName())
}

// Equal implements ref.Val: objects are equal if they are the same.
func (o *object) Equal(other ref.Val) ref.Val {
	x, ok := other.(*object)
	return types.Bool(ok && x.v == o.v)
}

// Type implements ref.Val.
func (o *object) Type() ref.Type { return o.kind.typ }

// Value implements ref.Val.
func (o *object) Value() any { return o }

// read gives a field's value.
func (f *field) read(target any) (any, error) {
	o, ok := target.(*object)
	if !ok || o.kind.by[f.name] != f {
		return nil, fmt.Errorf("what has a field %s is no %T", f.name, target)
	}
	o.touch()
	return f.get(o)
}

// touch notes that a statement speaks of an object.
func (o *object) touch() {
	if o.in.touched != nil && !slices.Contains(*o.in.touched, o) {
		*o.in.touched = append(*o.in.touched, o)
	}
}

// has reports whether the evidence holds a field's value. What was not collected is not there; what is there and empty is.
func (f *field) has(target any) bool {
	o, ok := target.(*object)
	if !ok || o.kind.by[f.name] != f {
		return false
	}
	_, err := f.get(o)
	return err == nil
}

// Values of fields.

func (o *object) text(s string) (ref.Val, error) {
	if o.in.shown {
		s = printable.Clip(s, maxWord)
	}
	return types.String(s), nil
}

// maxWord is how many runes of one text of the evidence a statement shows.
const maxWord = 160

func texts[T ~string](o *object, list []T) (ref.Val, error) {
	out := make([]string, len(list))
	for i, s := range list {
		if out[i] = string(s); o.in.shown {
			out[i] = printable.Clip(out[i], maxWord)
		}
	}
	return types.NewStringList(types.DefaultTypeAdapter, out), nil
}

func number[T ~int | ~int64 | ~uint32 | ~uint64 | ~uint8](n T) (ref.Val, error) {
	return types.Int(n), nil
}

func truth(b bool) (ref.Val, error) { return types.Bool(b), nil }

// moment is a time in nanoseconds UTC, of which 0 is unknown.
func moment(ns int64, what string) (ref.Val, error) {
	if ns == 0 {
		return nil, errAbsent{what}
	}
	return types.Timestamp{Time: time.Unix(0, ns).UTC()}, nil
}

func span(d time.Duration) (ref.Val, error) { return types.Duration{Duration: d}, nil }

func objects[T any](o *object, k *kind, list []T) (ref.Val, error) {
	out := make([]ref.Val, len(list))
	for i := range list {
		out[i] = o.in.object(k, list[i])
	}
	return types.NewRefValList(types.DefaultTypeAdapter, out), nil
}

// object wraps v, which must be of the pointer type that k's fields expect.
func (s *scope) object(k *kind, v any) *object { return &object{kind: k, v: v, in: s} }

// provider tells CEL of the kinds. Whether it knows fields that may hold secrets decides what a statement can say.
type provider struct {
	*types.Registry
	kinds   map[string]*kind
	secrets bool
}

func newProvider(secrets bool) (*provider, error) {
	r, err := types.NewRegistry()
	if err != nil {
		return nil, err
	}
	p := &provider{Registry: r, kinds: map[string]*kind{}, secrets: secrets}
	for _, k := range kinds() {
		p.kinds[k.typ.TypeName()] = k
	}
	return p, nil
}

// FindStructType implements types.Provider.
func (p *provider) FindStructType(name string) (*types.Type, bool) {
	if k := p.kinds[name]; k != nil {
		return types.NewTypeTypeWithParam(k.typ), true
	}
	return p.Registry.FindStructType(name)
}

// FindIdent implements types.Provider.
func (p *provider) FindIdent(name string) (ref.Val, bool) {
	if k := p.kinds[name]; k != nil {
		return k.typ, true
	}
	return p.Registry.FindIdent(name)
}

// FindStructFieldNames implements types.Provider.
func (p *provider) FindStructFieldNames(name string) ([]string, bool) {
	k := p.kinds[name]
	if k == nil {
		return p.Registry.FindStructFieldNames(name)
	}
	var out []string
	for i := range k.fields {
		if !k.fields[i].secret || p.secrets {
			out = append(out, k.fields[i].name)
		}
	}
	return out, true
}

// FindStructFieldType implements types.Provider.
func (p *provider) FindStructFieldType(name, fieldName string) (*types.FieldType, bool) {
	k := p.kinds[name]
	if k == nil {
		return p.Registry.FindStructFieldType(name, fieldName)
	}
	f := k.by[fieldName]
	if f == nil || f.secret && !p.secrets {
		return nil, false
	}
	return &types.FieldType{Type: f.typ, IsSet: f.has, GetFrom: f.read}, true
}

// NewValue implements types.Provider: objects are the evidence's, and no condition makes one.
func (p *provider) NewValue(name string, fields map[string]ref.Val) ref.Val {
	if p.kinds[name] != nil {
		return types.NewErr("a %s can't be made up", name)
	}
	return p.Registry.NewValue(name, fields)
}

// world is the evidence with what was computed of it on the way, for one asking of the rules.
type world struct {
	f         *detect.Facts
	foreign   map[*detect.Process]bool
	children  map[int][]*detect.Process
	sockets   map[int][]*detect.Socket // by owner
	byInode   map[uint64]*detect.Socket
	listening []int
	addresses map[string]bool
}

func newWorld(f *detect.Facts) *world {
	w := &world{f: f, foreign: map[*detect.Process]bool{}, children: map[int][]*detect.Process{}, sockets: map[int][]*detect.Socket{}, byInode: map[uint64]*detect.Socket{},
		addresses: map[string]bool{}}
	for i := range f.Processes {
		p := &f.Processes[i]
		w.foreign[p] = f.Foreign(p)
		if p.PPID != p.PID {
			w.children[p.PPID] = append(w.children[p.PPID], p)
		}
	}
	seen := map[int]bool{}
	for i := range f.Sockets {
		s := &f.Sockets[i]
		if s.Inode != 0 {
			w.byInode[s.Inode] = s
		}
		if s.LocalIP != "" {
			w.addresses[s.LocalIP] = true
		}
		if detect.Listening(s) && !seen[s.LocalPort] {
			seen[s.LocalPort] = true
			w.listening = append(w.listening, s.LocalPort)
		}
		for _, p := range f.Owners(s) {
			w.sockets[p.PID] = append(w.sockets[p.PID], s)
		}
	}
	slices.Sort(w.listening)
	return w
}
