package detect

import (
	"bytes"
	"encoding/binary"
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/sherd-forensics/sherd/verdict"
)

// class is what the constants of a class file say: https://docs.oracle.com/javase/specs/jvms/se17/html/jvms-4.html
type class struct {
	name, super string
	interfaces  []string
	text        map[string]bool // all of its texts: names, descriptors, literals
	size        int             // bytes up to the end of its interfaces
}

var (
	errNoClass = errors.New("no class file")
	errDull    = errors.New("a class that starts nothing")
)

// telling are the texts of which a class that starts programs or defines further code has at least one.
var telling = map[string]bool{
	"java/lang/Runtime": true, "java/lang/ProcessBuilder": true, "java/lang/ProcessImpl": true, "java/lang/UNIXProcess": true, "java.lang.Runtime": true,
	"java.lang.ProcessBuilder": true, "java.lang.ProcessImpl": true, "java.lang.UNIXProcess": true, "defineClass": true, "javax/script/ScriptEngineManager": true,
}

// parseClass reads a class file as far as its interfaces, if one of its texts is telling.
func parseClass(b []byte) (*class, error) {
	if len(b) < 10 || binary.BigEndian.Uint32(b) != 0xcafebabe {
		return nil, errNoClass
	}
	count := int(binary.BigEndian.Uint16(b[8:]))
	texts := make([][]byte, count)
	names := make([]uint16, count) // of a class, the index of its text
	tells := false
	at := 10
	for i := 1; i < count; i++ {
		if at+3 > len(b) {
			return nil, errNoClass
		}
		n := 0
		switch b[at] {
		case 1: // text
			n = 2 + int(binary.BigEndian.Uint16(b[at+1:]))
			if at+1+n > len(b) {
				return nil, errNoClass
			}
			texts[i] = b[at+3 : at+1+n]
			tells = tells || telling[string(texts[i])]
		case 7: // class
			n, names[i] = 2, binary.BigEndian.Uint16(b[at+1:])
		case 8, 16, 19, 20: // string, method type, module, package
			n = 2
		case 15: // method handle
			n = 3
		case 3, 4, 9, 10, 11, 12, 17, 18: // numbers, fields, methods, names with types, what is linked at run time
			n = 4
		case 5, 6: // long numbers take two places
			n = 8
			i++
		default:
			return nil, errNoClass
		}
		at += 1 + n
	}
	named := func(i int) (string, bool) {
		if i <= 0 || i >= count || int(names[i]) >= count {
			return "", false
		}
		return string(texts[names[i]]), len(texts[names[i]]) > 0
	}
	switch {
	case at+8 > len(b):
		return nil, errNoClass
	case !tells:
		return nil, errDull
	}
	c := &class{text: make(map[string]bool, count)}
	for _, t := range texts {
		if t != nil {
			c.text[string(t)] = true
		}
	}
	u2 := func(off int) int { return int(binary.BigEndian.Uint16(b[off:])) }
	var ok bool
	if c.name, ok = named(u2(at + 2)); !ok {
		return nil, errNoClass
	}
	c.super, _ = named(u2(at + 4)) // only java/lang/Object has none
	n := u2(at + 6)
	if at += 8; at+2*n > len(b) {
		return nil, errNoClass
	}
	for i := range n {
		if s, ok := named(u2(at + 2*i)); ok {
			c.interfaces = append(c.interfaces, s)
		}
	}
	c.size = at + 2*n
	return c, nil
}

// serving matches types by which classes serve requests.
var serving = regexp.MustCompile(`^(com/sun/net/httpserver/(HttpHandler|Filter)|(javax|jakarta)/(servlet|websocket|ws/rs)/.+|org/apache/(catalina|coyote|tomcat)/.+|org/springframework/(web|http)/.+|` +
	`io/(netty/channel|undertow|vertx|helidon|micronaut/http)/.+|org/eclipse/jetty/.+|org/glassfish/grizzly/.+|reactor/netty/.+|org/apache/(struts2|dubbo|thrift)/.+)$`)

// starts says how a class gets at programs or further code, "" if it doesn't.
func (c *class) starts() string {
	switch {
	case c.text["java/lang/Runtime"] && c.text["exec"], c.text["java/lang/ProcessBuilder"], c.text["java/lang/ProcessImpl"], c.text["java/lang/UNIXProcess"]:
		return "starts programs"
	case c.text["java.lang.Runtime"], c.text["java.lang.ProcessBuilder"], c.text["java.lang.ProcessImpl"], c.text["java.lang.UNIXProcess"]:
		return "reaches for what starts programs by its name"
	case c.text["defineClass"] && !strings.Contains(c.super, "ClassLoader"), c.text["javax/script/ScriptEngineManager"]:
		return "defines further code"
	}
	return ""
}

// serves reports whether a class serves requests.
func (c *class) serves() bool {
	if serving.MatchString(c.super) || slices.ContainsFunc(c.interfaces, serving.MatchString) {
		return true
	}
	for t := range c.text {
		// A type that it mentions, or the descriptor of one of its methods.
		if serving.MatchString(t) || strings.HasPrefix(t, "(") && strings.Contains(t, "L") && slices.ContainsFunc(strings.Split(t, "L"), func(p string) bool {
			name, _, ok := strings.Cut(p, ";")
			return ok && serving.MatchString(name)
		}) {
			return true
		}
	}
	return false
}

// member is one file of an archive as the archive's directory has it.
type member struct {
	crc, size uint32
}

// archives are the directories of the archives that a Java program has open, which it keeps in memory:
// https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, 4.3.12.
type archives struct {
	classes map[string]bool // names of class files, without .class
	members map[member]bool
	whole   bool
}

const maxMembers = 2_000_000

// directory is the length of an array of Java's that begins at an address and holds the directory of an archive with its end, and nothing
// else: so java.util.zip keeps those that are open. 0 is none: an archive that a client sent has its files before its directory.
func (s *space) directory(addr uint64) uint64 {
	const tail, largest = 22, 1 << 30
	for _, before := range []uint64{4, 8} { // the length stands right before the content, or before four bytes of padding
		b := s.read(addr-before, 4)
		if len(b) < 4 {
			continue
		}
		n := uint64(binary.LittleEndian.Uint32(b))
		if n > tail && n < largest && string(s.read(addr+n-tail, 4)) == "PK\x05\x06" {
			return n
		}
	}
	return 0
}

// archivesOf reads them once for each process.
func (f *Facts) archivesOf(p *Process, s *space) *archives {
	if r := f.opened[p.PID]; r != nil {
		return r
	}
	r := &archives{classes: map[string]bool{}, members: map[member]bool{}}
	const head, longest = 46, 1024
	end := uint64(0) // of the directory that is being read
	r.whole = s.scan(head+longest, func(addr uint64, b []byte) {
		for off := 0; ; {
			i := bytes.Index(b[off:], []byte("PK\x01\x02"))
			if i < 0 || off+i+head > len(b) {
				return
			}
			e, at := b[off+i:], addr+uint64(off+i)
			off += i + 4
			if at >= end {
				n := s.directory(at)
				if n == 0 {
					continue
				}
				end = at + n
			}
			n := int(binary.LittleEndian.Uint16(e[28:]))
			if n == 0 || n > longest || head+n > len(e) || len(r.members) >= maxMembers || len(r.classes) >= maxMembers {
				continue
			}
			r.members[member{binary.LittleEndian.Uint32(e[16:]), binary.LittleEndian.Uint32(e[24:])}] = true
			name := string(e[head : head+n])
			for _, ending := range []string{".class", ".classdata", ".esclazz"} {
				if s, ok := strings.CutSuffix(name, ending); ok {
					r.classes[s] = true
				}
			}
		}
	})
	if f.opened == nil {
		f.opened = map[int]*archives{}
	}
	f.opened[p.PID] = r
	return r
}

// holds reports whether an archive holds a class.
func (r *archives) holds(name string) bool {
	if r.classes[name] {
		return true
	}
	for _, root := range []string{"BOOT-INF/classes/", "WEB-INF/classes/", "inst/", "META-INF/versions/9/", "META-INF/versions/11/", "META-INF/versions/17/", "META-INF/versions/21/"} {
		if r.classes[root+name] {
			return true
		}
	}
	return false
}

// symbols finds names among the virtual machine's symbols: it keeps each name of what it has loaded with its length before it, in memory
// of its own. HotSpot's layouts since version 9, and before: https://github.com/openjdk/jdk/blob/master/src/hotspot/share/oops/symbol.hpp
func (s *space) symbols(names map[string]bool) map[string]uint64 {
	found := map[string]uint64{}
	longest := 0
	for n := range names {
		longest = max(longest, len(n))
	}
	sorted := make([]string, 0, len(names))
	for n := range names {
		sorted = append(sorted, n)
	}
	slices.Sort(sorted)
	s.scan(longest+8, func(addr uint64, b []byte) {
		for _, n := range sorted {
			if _, done := found[n]; done {
				continue
			}
			for off := 0; ; {
				i := bytes.Index(b[off:], []byte(n))
				if i < 0 {
					break
				}
				i += off
				off = i + 1
				a := addr + uint64(i)
				switch {
				case i >= 6 && (a-6)%8 == 0 && int(binary.LittleEndian.Uint16(b[i-2:])) == len(n) && binary.LittleEndian.Uint16(b[i-6:])|binary.LittleEndian.Uint16(b[i-4:]) != 0:
				case i >= 8 && a%8 == 0 && int(binary.LittleEndian.Uint16(b[i-8:])) == len(n) && binary.LittleEndian.Uint16(b[i-6:]) != 0:
				default:
					continue
				}
				found[n] = a
				break
			}
		}
	})
	return found
}

const (
	maxClasses    = 100_000
	maxConstants  = 20_000_000
	maxClassBytes = 1 << 20
	maxLoaded     = 32 // classes that are looked for among the symbols
)

func classesWithoutFile(f *Facts, a *Answer) {
	for i := range f.Processes {
		p := &f.Processes[i]
		if !isJVM(p) || f.otherRoot(p) {
			continue
		}
		if s := f.memoryOf(a, p, "which classes"); s != nil {
			f.fileless(a, p, s)
		}
	}
}

// fileless tells of classes of one program.
func (f *Facts) fileless(a *Answer, p *Process, s *space) {
	type held struct {
		c    *class
		addr uint64
	}
	found := map[string]held{}
	var order []string
	n, constants := 0, 0
	whole := s.scan(16, func(addr uint64, b []byte) {
		for off := 0; n < maxClasses && constants < maxConstants; {
			i := bytes.Index(b[off:], []byte("\xca\xfe\xba\xbe\x00\x00\x00"))
			if i < 0 {
				return
			}
			i += off
			off = i + 4
			n++
			if len(b) >= i+10 {
				constants += int(binary.BigEndian.Uint16(b[i+8:]))
			}
			body := b[i:min(len(b), i+maxClassBytes)]
			c, err := parseClass(body)
			if errors.Is(err, errNoClass) && i+maxClassBytes > len(b) {
				// It may go on in the next piece.
				c, err = parseClass(s.read(addr+uint64(i), maxClassBytes))
			}
			if err != nil || c.starts() == "" || strings.HasPrefix(c.name, "java/") || strings.HasPrefix(c.name, "jdk/") {
				continue
			}
			if _, known := found[c.name]; !known {
				found[c.name] = held{c, addr + uint64(i)}
				order = append(order, c.name)
			}
		}
	})
	if !whole || n >= maxClasses || constants >= maxConstants {
		a.blind("which classes "+Describe(p)+" compiled", "its memory is larger than what is looked at")
	}
	if len(found) == 0 {
		return
	}
	opened := f.archivesOf(p, s)
	names := map[string]bool{}
	for _, name := range order {
		if !opened.holds(name) && !f.Files.classFile(name) && len(names) < maxLoaded {
			names[name] = true
		}
	}
	if len(names) == 0 {
		return
	}
	loaded := s.symbols(names)
	for _, name := range order {
		at, ok := loaded[name]
		if !ok {
			continue
		}
		h := found[name]
		fd := Finding{PID: p.PID, Path: string(p.Exe.Path)}
		what := h.c.starts()
		if fd.Severity = verdict.Medium; h.c.serves() {
			fd.Severity, what = verdict.High, "serves requests and "+what
		}
		fd.Statement = Describe(p) + " has loaded the class " + say(strings.ReplaceAll(name, "/", ".")) + ", which is in no archive that it has open and in no file of the image; it " + what
		fd.Citations = append(s.cite(h.addr, h.c.size), s.cite(at, len(name))...)
		if len(fd.Citations) > 0 {
			a.hit(fd)
		}
	}
}
