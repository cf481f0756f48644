package behaviour

import (
	"slices"
	"strings"
	"sync"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/evidence/record"
)

// Types of fields.
var (
	textType   = cel.StringType
	numberType = cel.IntType
	truthType  = cel.BoolType
	timeType   = cel.TimestampType
	spanType   = cel.DurationType
	textsType  = cel.ListType(cel.StringType)
	pairsType  = cel.MapType(cel.StringType, cel.StringType)
)

// typeOf is the type of a kind, by a name that no variable has.
func typeOf(name string) *cel.Type { return cel.ObjectType("sherd." + name) }

// kinds are all kinds of objects. Fields that lead from one kind to another need all of them to exist.
var kinds = sync.OnceValue(func() []*kind {
	all := []*kind{processKind, descriptorKind, mappingKind, variableKind, socketKind, changeKind, fileKind, mountKind, eventKind, containerKind}
	fill := map[*kind][]field{
		processKind: processFields(), descriptorKind: descriptorFields(), mappingKind: mappingFields(), variableKind: variableFields(), socketKind: socketFields(),
		changeKind: changeFields(), fileKind: fileFields(), mountKind: mountFields(), eventKind: eventFields(), containerKind: containerFields(),
	}
	for _, k := range all {
		k.typ, k.fields, k.by = typeOf(k.name), fill[k], map[string]*field{}
		for i := range k.fields {
			k.by[k.fields[i].name] = &k.fields[i]
		}
	}
	return all
})

var (
	processKind    = &kind{name: "process", about: "a process that ran when the capture was taken"}
	descriptorKind = &kind{name: "descriptor", about: "an open file descriptor of a process"}
	mappingKind    = &kind{name: "mapping", about: "a memory mapping of a process"}
	variableKind   = &kind{name: "variable", about: "a variable of a process's environment"}
	socketKind     = &kind{name: "socket", about: "a socket of the container's network"}
	changeKind     = &kind{name: "change", about: "a path at which the container differs from its image"}
	fileKind       = &kind{name: "file", about: "a file as it is, or as the image has it"}
	mountKind      = &kind{name: "mount", about: "a mount of the container"}
	eventKind      = &kind{name: "event", about: "a row of the timeline"}
	containerKind  = &kind{name: "container", about: "the container, always there beside what a rule ranges over"}
)

// as makes a getter of a function on the Go value of a kind.
func as[T any](get func(o *object, v T) (ref.Val, error)) func(*object) (ref.Val, error) {
	return func(o *object) (ref.Val, error) { return get(o, o.v.(T)) }
}

func (o *object) maybe(k *kind, v any, there bool, name string) (ref.Val, error) {
	if !there {
		return nil, errAbsent{name}
	}
	return o.in.object(k, v), nil
}

// ofProcess makes a field of a process that /proc/<pid>/FILE tells: if that could not be read, it is unseen.
func ofProcess(name string, t *cel.Type, about, file string, get func(o *object, p *detect.Process) (ref.Val, error)) field {
	return field{name: name, typ: t, about: about, get: as(func(o *object, p *detect.Process) (ref.Val, error) {
		for _, e := range p.Errors {
			// Of a command line that is too long for a row, the beginning is there.
			if why, ok := strings.CutPrefix(e, file+": "); ok && file != "" && (file != "cmdline" || len(p.Cmdline) == 0) {
				return nil, &unseen{"the " + file + " of " + detect.Describe(p), why}
			}
		}
		return get(o, p)
	})}
}

func processFields() []field {
	return slices.Concat(processItself(), processRights(), processAround())
}

// processItself is what a process is and runs.
func processItself() []field {
	type P = *detect.Process
	f := ofProcess
	return []field{
		f("pid", numberType, "its number in the container, 0 if it is not in the container's own pid namespace", "", func(_ *object, p P) (ref.Val, error) { return number(p.ContainerPID) }),
		f("host_pid", numberType, "its number as the machine has it", "", func(_ *object, p P) (ref.Val, error) { return number(p.PID) }),
		f("comm", textType, "the name that it goes by", "stat", func(o *object, p P) (ref.Val, error) { return o.text(string(p.Comm)) }),
		f("cmdline", textsType, "its command line, the program first", "cmdline", func(o *object, p P) (ref.Val, error) { return texts(o, p.Cmdline) }),
		f("exe", textType, "its program's path, or memfd:NAME; empty for a dead process", "", func(o *object, p P) (ref.Val, error) { return o.text(detect.ExeName(p)) }),
		f("origin", textType, "where its program comes from: image, drift, deleted, memfd, volume, outside, unknown", "", func(o *object, p P) (ref.Val, error) { return o.text(p.Exe.Origin) }),
		f("sha256", textType, "the hash of its program, empty if unknown", "", func(o *object, p P) (ref.Val, error) { return o.text(p.Exe.SHA256) }),
		f("state", textType, "R, S, D, T, Z …, as the kernel has it", "stat", func(o *object, p P) (ref.Val, error) { return o.text(p.State) }),
		f("foreign", truthType, "whether its program is one that image and configuration don't explain", "", func(o *object, p P) (ref.Val, error) { return truth(o.in.foreign[p]) }),
		f("own", truthType, "whether it lives in the container's own root, and is not the runtime's first stage; false for sidecars and debug containers", "", func(o *object, p P) (ref.Val, error) {
			return truth(!o.in.f.OtherRoot(p) && !o.in.f.RuntimeStage(p))
		}),
		f("other_root", truthType, "whether it lives in another mount namespace than the container's first process: a sidecar, a debug container", "", func(o *object, p P) (ref.Val, error) {
			return truth(o.in.f.OtherRoot(p))
		}),
		f("first", truthType, "whether it is the container's first process", "", func(o *object, p P) (ref.Val, error) { return truth(o.in.f.Init() == p) }),
		f("from_outside", truthType, "whether its parent is no process of the container, although it has the container's numbers: the runtime started it", "", func(o *object, p P) (ref.Val, error) {
			return truth(o.in.f.BornOutside(p))
		}),
		f("translates", truthType, "whether it makes code while it runs, by its program or a library of the image", "", func(o *object, p P) (ref.Val, error) { return truth(o.in.f.Translates(p)) }),
		f("relation", textType, "why it is the container's: cgroup, namespaces, descendant", "", func(o *object, p P) (ref.Val, error) { return o.text(p.Relation) }),
		f("started", timeType, "when it started", "stat", func(_ *object, p P) (ref.Val, error) { return moment(p.StartTime, "start time") }),
	}
}

// processRights is what a process may do and use.
func processRights() []field {
	type P = *detect.Process
	f := ofProcess
	return []field{
		f("uid", numberType, "its real user", "status", func(_ *object, p P) (ref.Val, error) { return number(p.UID) }),
		f("euid", numberType, "its effective user", "status", func(_ *object, p P) (ref.Val, error) { return number(p.EUID) }),
		f("gid", numberType, "its real group", "status", func(_ *object, p P) (ref.Val, error) { return number(p.GID) }),
		f("egid", numberType, "its effective group", "status", func(_ *object, p P) (ref.Val, error) { return number(p.EGID) }),
		f("capabilities", textsType, "its effective capabilities, CAP_SYS_ADMIN and so on", "status", func(o *object, p P) (ref.Val, error) { return texts(o, capabilityNames(p.CapEff)) }),
		f("seccomp", numberType, "0 no filter, 1 strict, 2 a filter", "status", func(_ *object, p P) (ref.Val, error) { return number(p.Seccomp) }),
		f("no_new_privs", truthType, "whether it and its children can't gain rights by what they run", "status", func(_ *object, p P) (ref.Val, error) { return truth(p.NoNewPrivs) }),
		f("lsm", textType, "its AppArmor or SELinux label", "", func(o *object, p P) (ref.Val, error) { return o.text(p.LSM) }),
		f("namespaces", cel.MapType(cel.StringType, cel.IntType), "the kernel's numbers of its namespaces: pid, mnt, net, user, ipc, uts, cgroup, time", "", func(_ *object, p P) (ref.Val, error) {
			m := make(map[string]int64, len(p.Namespaces))
			for k, v := range p.Namespaces {
				m[k] = int64(v)
			}
			return types.DefaultTypeAdapter.NativeToValue(m), nil
		}),
		f("cgroup", textType, "the path of its cgroup", "cgroup", func(o *object, p P) (ref.Val, error) { return o.text(p.Cgroup) }),
		f("cwd", textType, "its working directory", "", func(o *object, p P) (ref.Val, error) {
			if p.Cwd == "" {
				return nil, errAbsent{"working directory"}
			}
			return o.text(string(p.Cwd))
		}),
		f("threads", numberType, "how many threads it has", "stat", func(_ *object, p P) (ref.Val, error) { return number(p.Threads) }),
		f("cpu", spanType, "the processor time that it spent", "stat", func(_ *object, p P) (ref.Val, error) { return span(time.Duration(p.CPUTime)) }),
		f("memory", numberType, "bytes of it that are in memory", "stat", func(_ *object, p P) (ref.Val, error) { return number(p.RSS) }),
	}
}

// processAround leads from a process to others and to what it has.
func processAround() []field {
	type P = *detect.Process
	f := ofProcess
	return []field{
		f("parent", typeOf("process"), "the process that started it or took it over; absent if that is none of the container's", "stat", func(o *object, p P) (ref.Val, error) {
			up := o.in.f.Process(p.PPID)
			return o.maybe(processKind, up, up != nil && up != p, "parent in the container")
		}),
		f("ancestors", cel.ListType(typeOf("process")), "its parent, that one's parent and so on, as far as they are the container's", "stat", ancestors),
		f("children", cel.ListType(typeOf("process")), "the processes whose parent it is", "stat", func(o *object, p P) (ref.Val, error) { return objects(o, processKind, o.in.children[p.PID]) }),
		f("tracer", numberType, "the number (the machine's) of the process that traces it, 0 if none does", "status", func(_ *object, p P) (ref.Val, error) { return number(p.TracerPID) }),
		f("descriptors", cel.ListType(typeOf("descriptor")), "its open files", "fd", func(o *object, p P) (ref.Val, error) {
			out := make([]*descriptor, len(p.FDs))
			for i := range p.FDs {
				out[i] = &descriptor{&p.FDs[i], p}
			}
			return objects(o, descriptorKind, out)
		}),
		f("sockets", cel.ListType(typeOf("socket")), "the sockets that it holds", "", func(o *object, p P) (ref.Val, error) {
			if why, missing := o.in.f.Missing[detect.Sockets]; missing {
				return nil, &unseen{"sockets", why}
			}
			return objects(o, socketKind, o.in.sockets[p.PID])
		}),
		f("mappings", cel.ListType(typeOf("mapping")), "its memory mappings", "", func(o *object, p P) (ref.Val, error) {
			if !p.HasMaps {
				return nil, &unseen{"memory of " + detect.Describe(p), "its mappings were not collected"}
			}
			out := make([]*mapping, len(p.Maps))
			for i := range p.Maps {
				out[i] = &mapping{&p.Maps[i], p}
			}
			return objects(o, mappingKind, out)
		}),
		f("variables", textsType, "the names of its environment's variables", "", func(o *object, p P) (ref.Val, error) {
			if !p.HasEnv {
				return nil, &unseen{"environment of " + detect.Describe(p), "it was not collected"}
			}
			out := make([]string, len(p.Env))
			for i := range p.Env {
				out[i] = p.Env[i].Name
			}
			return texts(o, out)
		}),
		secret(f("environment", pairsType, "its environment: names and values", "", func(_ *object, p P) (ref.Val, error) {
			if !p.HasEnv {
				return nil, &unseen{"environment of " + detect.Describe(p), "it was not collected"}
			}
			m := make(map[string]string, len(p.Env))
			for i := range p.Env {
				m[p.Env[i].Name] = p.Env[i].Value
			}
			return types.NewStringStringMap(types.DefaultTypeAdapter, m), nil
		})),
	}
}

func secret(f field) field {
	f.secret = true
	return f
}

// maxAncestors bounds the way up: pid namespaces nest at most 32 deep, process trees far deeper only if made for it.
const maxAncestors = 64

func ancestors(o *object, p *detect.Process) (ref.Val, error) {
	var out []*detect.Process
	for up := o.in.f.Process(p.PPID); up != nil && up != p && len(out) < maxAncestors && !slices.Contains(out, up); up = o.in.f.Process(up.PPID) {
		out = append(out, up)
	}
	return objects(o, processKind, out)
}

// Descriptors, mappings and variables belong to a process.
type (
	descriptor struct {
		*record.FD
		of *detect.Process
	}
	mapping struct {
		*detect.Mapping
		of *detect.Process
	}
	variable struct {
		*detect.Variable
		of *detect.Process
	}
)

func descriptorFields() []field {
	f := func(name string, t *cel.Type, about string, get func(o *object, d *descriptor) (ref.Val, error)) field {
		return field{name: name, typ: t, about: about, get: as(get)}
	}
	return []field{
		f("n", numberType, "its number", func(_ *object, d *descriptor) (ref.Val, error) { return number(d.N) }),
		f("target", textType, "what it leads to, as the kernel writes it: /path, socket:[123], /memfd:x (deleted)", func(o *object, d *descriptor) (ref.Val, error) { return o.text(string(d.Target)) }),
		f("kind", textType, "file, dir, socket, pipe, memfd, device, anon or other", func(o *object, d *descriptor) (ref.Val, error) { return o.text(d.Kind) }),
		f("deleted", truthType, "whether the file has no name any more", func(_ *object, d *descriptor) (ref.Val, error) { return truth(d.Deleted) }),
		f("size", numberType, "bytes", func(_ *object, d *descriptor) (ref.Val, error) { return number(d.Size) }),
		f("writable", truthType, "whether it was opened for writing", func(_ *object, d *descriptor) (ref.Val, error) { return truth(d.Flags&3 != 0) }),
		f("elf", truthType, "whether its content is an ELF file", func(_ *object, d *descriptor) (ref.Val, error) {
			return truth(strings.HasPrefix(string(d.Magic), "\x7fELF"))
		}),
		f("script", truthType, "whether its content is a script", func(_ *object, d *descriptor) (ref.Val, error) {
			return truth(strings.HasPrefix(string(d.Magic), "#!"))
		}),
		f("sha256", textType, "the hash of its content, empty if unknown", func(o *object, d *descriptor) (ref.Val, error) { return o.text(d.SHA256) }),
		f("is_program", truthType, "whether it is the file that the process runs", func(_ *object, d *descriptor) (ref.Val, error) {
			return truth(d.Ino != 0 && d.Ino == d.of.Exe.Ino && d.Dev == d.of.Exe.Dev)
		}),
	}
}

func mappingFields() []field {
	f := func(name string, t *cel.Type, about string, get func(o *object, m *mapping) (ref.Val, error)) field {
		return field{name: name, typ: t, about: about, get: as(get)}
	}
	perm := func(i int, c byte) func(*object, *mapping) (ref.Val, error) {
		return func(_ *object, m *mapping) (ref.Val, error) { return truth(len(m.Perms) > i && m.Perms[i] == c) }
	}
	return []field{
		f("start", numberType, "its first address", func(_ *object, m *mapping) (ref.Val, error) { return number(m.Start) }),
		f("size", numberType, "bytes", func(_ *object, m *mapping) (ref.Val, error) { return number(m.End - m.Start) }),
		f("path", textType, "/path, [heap], /memfd:x (deleted), or empty", func(o *object, m *mapping) (ref.Val, error) { return o.text(string(m.Path)) }),
		f("readable", truthType, "", perm(0, 'r')),
		f("writable", truthType, "", perm(1, 'w')),
		f("executable", truthType, "", perm(2, 'x')),
		f("shared", truthType, "", perm(3, 's')),
		f("offset", numberType, "where in the file it begins", func(_ *object, m *mapping) (ref.Val, error) { return number(m.Offset) }),
		f("present", numberType, "bytes that are in memory", func(_ *object, m *mapping) (ref.Val, error) { return number(m.Present) }),
		f("private", numberType, "bytes that are the process's own", func(_ *object, m *mapping) (ref.Val, error) { return number(m.Anonymous) }),
		f("anonymous", truthType, "whether no file is behind it", func(_ *object, m *mapping) (ref.Val, error) { return truth(!strings.HasPrefix(string(m.Path), "/")) }),
		f("deleted", truthType, "whether the file behind it has no name any more", func(_ *object, m *mapping) (ref.Val, error) {
			return truth(m.Deleted || strings.HasSuffix(string(m.Path), " (deleted)"))
		}),
		f("sha256", textType, "the hash of the file behind it, empty if unknown", func(o *object, m *mapping) (ref.Val, error) { return o.text(m.FileSHA256) }),
		f("changed", numberType, "bytes of code that differ from the file's", func(_ *object, m *mapping) (ref.Val, error) {
			n := int64(0)
			for _, c := range m.Changed {
				n += max(c.DiffBytes, 0)
			}
			return number(n)
		}),
	}
}

func variableFields() []field {
	f := func(name string, t *cel.Type, about string, get func(o *object, v *variable) (ref.Val, error)) field {
		return field{name: name, typ: t, about: about, get: as(get)}
	}
	return []field{
		f("name", textType, "", func(o *object, v *variable) (ref.Val, error) { return o.text(v.Name) }),
		secret(f("value", textType, "", func(o *object, v *variable) (ref.Val, error) { return o.text(v.Value) })),
		f("told", truthType, "whether image or runtime set it to this value", func(o *object, v *variable) (ref.Val, error) {
			if why, missing := o.in.f.Missing[detect.Config]; missing {
				return nil, &unseen{"configuration of the image and the runtime", why}
			}
			set, ok := o.in.f.Config.Env[v.Name]
			return truth(ok && set == v.Value)
		}),
	}
}
