package behaviour

import (
	"math/bits"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/internal/printable"
)

// function is one that conditions can call beside those of CEL itself.
type function struct {
	name, call, about string
	opts              []cel.FunctionOpt
}

func functions() []function {
	s, b := cel.StringType, cel.BoolType
	one := func(id string, arg, result *cel.Type, f func(ref.Val) ref.Val) cel.FunctionOpt {
		return cel.Overload(id, []*cel.Type{arg}, result, cel.UnaryBinding(f))
	}
	two := func(id string, x, y, result *cel.Type, f func(x, y ref.Val) ref.Val) cel.FunctionOpt {
		return cel.Overload(id, []*cel.Type{x, y}, result, cel.BinaryBinding(f))
	}
	address := func(name, about string, is func(netip.Addr) bool) function {
		return function{name, name + "(ip)", about, []cel.FunctionOpt{one(name+"_string", s, b, func(v ref.Val) ref.Val {
			a, err := netip.ParseAddr(str(v))
			return types.Bool(err == nil && is(a.Unmap()))
		})}}
	}
	return []function{
		{"inside", "inside(path, folder)", "whether a path is a folder or below it; folder may be a list of them", []cel.FunctionOpt{
			two("inside_string", s, s, b, func(x, y ref.Val) ref.Val { return types.Bool(below(str(x), str(y))) }),
			two("inside_list", s, textsType, b, insideAny)}},
		{"base", "base(path)", "the last part of a path", []cel.FunctionOpt{one("base_string", s, s, func(v ref.Val) ref.Val { return types.String(path.Base(str(v))) })}},
		{"folder", "folder(path)", "all but the last part of a path", []cel.FunctionOpt{one("folder_string", s, s, func(v ref.Val) ref.Val { return types.String(path.Dir(str(v))) })}},
		{"glob", "glob(path, pattern)", "whether a pattern describes all of a path: * is any text without a slash, ** any text, ? one character but a slash", []cel.FunctionOpt{
			two("glob_string", s, s, b, func(x, y ref.Val) ref.Val {
				re, err := globbed(str(y))
				if err != nil {
					return types.WrapErr(err)
				}
				return types.Bool(re.MatchString(str(x)))
			})}},
		{"join", "join(texts, between)", "the texts of a list in one, with something between them", []cel.FunctionOpt{two("join_list", textsType, s, s, joined)}},
		{"lower", "lower(text)", "a text in lower-case letters", []cel.FunctionOpt{one("lower_string", s, s, func(v ref.Val) ref.Val { return types.String(strings.ToLower(str(v))) })}},
		{"within", "within(ip, network)", "whether an address lies in a network, 10.0.0.0/8", []cel.FunctionOpt{two("within_string", s, s, b, func(x, y ref.Val) ref.Val {
			n, err := netip.ParsePrefix(str(y))
			if err != nil {
				return types.WrapErr(err)
			}
			a, err := netip.ParseAddr(str(x))
			return types.Bool(err == nil && n.Contains(a.Unmap()))
		})}},
		address("loopback", "whether an address is the machine's own loopback", netip.Addr.IsLoopback),
		address("private", "whether an address belongs to a private network (RFC 1918, RFC 4193)", netip.Addr.IsPrivate),
		address("link_local", "whether an address is link-local, as clouds' metadata services are", netip.Addr.IsLinkLocalUnicast),
		address("any_address", "whether an address stands for all of the machine's: 0.0.0.0 or ::", netip.Addr.IsUnspecified),
		{"describe", "describe(process)", `a process as statements name it: process 17 "server"`, []cel.FunctionOpt{one("describe_process", typeOf("process"), s, func(v ref.Val) ref.Val {
			o, ok := v.(*object)
			if !ok {
				return types.MaybeNoSuchOverloadErr(v)
			}
			p, ok := o.v.(*detect.Process)
			if !ok {
				return types.MaybeNoSuchOverloadErr(v)
			}
			o.touch()
			return types.String(detect.Describe(p))
		})}},
		{"holds", "container.holds(sha256)", "whether the image has a program or library with this content", []cel.FunctionOpt{cel.MemberOverload("container_holds", []*cel.Type{typeOf("container"), s}, b, cel.BinaryBinding(holds))}},
		{"told", "container.told(regexp)", "whether a setting of image or runtime, a variable's value or an argument, matches a regular expression", []cel.FunctionOpt{
			cel.MemberOverload("container_told", []*cel.Type{typeOf("container"), s}, b, cel.BinaryBinding(told))}},
	}
}

func str(v ref.Val) string {
	s, _ := v.(types.String) // the checker let nothing else through
	return string(s)
}

func below(p, folder string) bool {
	return p == folder || strings.HasPrefix(p, strings.TrimSuffix(folder, "/")+"/")
}

func insideAny(x, y ref.Val) ref.Val {
	list, ok := y.(traits.Lister)
	if !ok {
		return types.MaybeNoSuchOverloadErr(y)
	}
	for it := list.Iterator(); it.HasNext() == types.True; {
		if below(str(x), str(it.Next())) {
			return types.True
		}
	}
	return types.False
}

// maxJoined bounds what becomes of a list.
const maxJoined = 64 << 10

func joined(x, y ref.Val) ref.Val {
	list, ok := x.(traits.Lister)
	if !ok {
		return types.MaybeNoSuchOverloadErr(x)
	}
	var b strings.Builder
	for it := list.Iterator(); it.HasNext() == types.True && b.Len() < maxJoined; {
		if b.Len() > 0 {
			b.WriteString(str(y))
		}
		b.WriteString(str(it.Next()))
	}
	return types.String(b.String()[:min(b.Len(), maxJoined)])
}

func holds(v, hash ref.Val) ref.Val {
	o, ok := v.(*object)
	if !ok {
		return types.MaybeNoSuchOverloadErr(v)
	}
	for _, need := range []detect.Fact{detect.Inventory, detect.Baseline} {
		if why, missing := o.in.f.Missing[need]; missing {
			return types.WrapErr(&unseen{"files of the image", why})
		}
	}
	return types.Bool(str(hash) != "" && o.in.f.Files.Image[str(hash)] != "")
}

func told(v, pattern ref.Val) ref.Val {
	o, ok := v.(*object)
	if !ok {
		return types.MaybeNoSuchOverloadErr(v)
	}
	if why, missing := o.in.f.Missing[detect.Config]; missing {
		return types.WrapErr(&unseen{"configuration of the image and the runtime", why})
	}
	re, err := compiled(str(pattern), func() (*regexp.Regexp, error) { return regexp.Compile(str(pattern)) })
	if err != nil {
		return types.WrapErr(err)
	}
	return types.Bool(o.in.f.Told(re.MatchString))
}

// patterns keeps compiled patterns: they are literals of rules, so there are only so many.
var patterns sync.Map

func compiled(key string, make func() (*regexp.Regexp, error)) (*regexp.Regexp, error) {
	if re, ok := patterns.Load(key); ok {
		return re.(*regexp.Regexp), nil //nolint:forcetypeassert // nothing else is ever stored
	}
	re, err := make()
	if err != nil {
		return nil, err
	}
	patterns.Store(key, re)
	return re, nil
}

func globbed(pattern string) (*regexp.Regexp, error) {
	return compiled("glob "+pattern, func() (*regexp.Regexp, error) {
		var b strings.Builder
		b.WriteString(`(?s)\A`)
		for rest := pattern; rest != ""; {
			switch {
			case strings.HasPrefix(rest, "**"):
				b.WriteString(`.*`)
				rest = rest[2:]
			case rest[0] == '*':
				b.WriteString(`[^/]*`)
				rest = rest[1:]
			case rest[0] == '?':
				b.WriteString(`[^/]`)
				rest = rest[1:]
			default:
				i := strings.IndexAny(rest, "*?")
				if i < 0 {
					i = len(rest)
				}
				b.WriteString(regexp.QuoteMeta(rest[:i]))
				rest = rest[i:]
			}
		}
		b.WriteString(`\z`)
		return regexp.Compile(b.String())
	})
}

// capabilityList names capabilities by their numbers, see capabilities(7) and linux/capability.h.
var capabilityList = []string{
	"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST",
	"NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
	"SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM",
	"BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
}

func capabilityNames(set uint64) []string {
	out := make([]string, 0, bits.OnesCount64(set))
	for i, name := range capabilityList {
		if set&(1<<i) != 0 {
			out = append(out, "CAP_"+name)
		}
	}
	return out
}

func ports(list []int) ref.Val {
	slices.Sort(list)
	out := make([]int64, len(list))
	for i, p := range list {
		out[i] = int64(p)
	}
	return types.DefaultTypeAdapter.NativeToValue(out)
}

func printablePath(r *detect.File) string { return printable.Clip(string(r.Path), maxWord) }
