package evidence

import (
	"archive/tar"
	"fmt"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The header is written here and not by archive/tar, whose Writer refuses the GNU sparse records and NUL bytes in values
// that SCHILY.xattr records may well hold, and allocates much for each of many small files.

const blockSize = 512

// appendHeader appends the tar headers (an extended one where needed, then the plain one) of an artifact whose content has
// size bytes, stored of which follow in the tar stream. link is the first copy's path for a hard link, else "".
func appendHeader(b []byte, m *Meta, typ byte, size, stored int64, link string) ([]byte, error) {
	name := m.Path
	if typ == tar.TypeDir {
		name += "/"
	}
	target := m.Linkname
	if link != "" {
		typ, target, size, stored = tar.TypeLink, link, 0, 0
	}
	recs := records(m, typ, size, stored, name, target)
	if recs != "" {
		if len(recs) > maxPAX {
			return nil, fmt.Errorf("extended header of %d bytes, more than %d", len(recs), maxPAX)
		}
		dir, file := path.Split(m.Path)
		b = appendBlock(b, ustar{name: path.Join(dir, "PaxHeaders.0", file), typ: tar.TypeXHeader, size: int64(len(recs)), mode: 0o600})
		b = append(b, recs...)
		b = pad(b, len(recs))
	}
	u := ustar{name: name, link: target, typ: typ, size: stored, mode: m.Mode & 0o7777, uid: m.UID, gid: m.GID, mtime: m.Mtime / 1e9,
		major: m.DevMajor, minor: m.DevMinor}
	if m.Sparse != nil && link == "" {
		u.name = path.Join(path.Dir(m.Path), "GNUSparseFile.0", path.Base(m.Path))
	}
	return appendBlock(b, u), nil
}

// appendGlobalHeader appends a global extended header with a comment, a keyword that every tar knows and none acts on. It tells
// a reader of a package that was cut short which evidence this is.
func appendGlobalHeader(b []byte, comment string) []byte {
	var r strings.Builder
	appendRecord(&r, "comment", comment)
	b = appendBlock(b, ustar{name: "pax_global_header", typ: tar.TypeXGlobalHeader, size: int64(r.Len()), mode: 0o600})
	b = append(b, r.String()...)
	return pad(b, r.Len())
}

// pad appends zeros after n bytes of content up to the next block.
func pad(b []byte, n int) []byte {
	return append(b, zeroBlock[:padding(int64(n))]...)
}

var zeroBlock [2 * blockSize]byte

func padding(n int64) int64 { return -n & (blockSize - 1) }

// sparseMap is the map that precedes a sparse file's data, GNU's version 1.0: count, then offset and length of each
// extent, each in decimal with a newline, padded to a block. A last extent of no bytes carries the real size, as GNU tar's does.
func sparseMap(x []Extent, size int64) []byte {
	if n := len(x); n == 0 || x[n-1].Offset+x[n-1].Length < size {
		x = append(slices.Clip(x), Extent{size, 0})
	}
	b := strconv.AppendInt(nil, int64(len(x)), 10)
	b = append(b, '\n')
	for _, e := range x {
		b = strconv.AppendInt(b, e.Offset, 10)
		b = append(b, '\n')
		b = strconv.AppendInt(b, e.Length, 10)
		b = append(b, '\n')
	}
	return pad(b, len(b))
}

// records gives the PAX records of an artifact, sorted by keyword, in one string; "" if a plain header says it all.
func records(m *Meta, typ byte, size, stored int64, name, target string) string {
	r := make(map[string]string, 8)
	if len(name) > 100 || !ascii(name) {
		r["path"] = name
	}
	if len(target) > 100 || !ascii(target) {
		r["linkpath"] = target
	}
	if !utf8.ValidString(name) || !utf8.ValidString(target) {
		r["hdrcharset"] = "BINARY"
	}
	if m.Sparse != nil && typ == tar.TypeReg {
		delete(r, "path")
		r["GNU.sparse.major"], r["GNU.sparse.minor"] = "1", "0"
		r["GNU.sparse.name"] = m.Path
		r["GNU.sparse.realsize"] = strconv.FormatInt(size, 10)
	}
	if stored > 0o77777777777 {
		r["size"] = strconv.FormatInt(stored, 10)
	}
	if m.UID > 0o7777777 || m.UID < 0 {
		r["uid"] = strconv.Itoa(m.UID)
	}
	if m.GID > 0o7777777 || m.GID < 0 {
		r["gid"] = strconv.Itoa(m.GID)
	}
	if s := m.Mtime / 1e9; m.Mtime%1e9 != 0 || s < 0 || s > 0o77777777777 {
		r["mtime"] = paxTime(m.Mtime)
	}
	for k, t := range map[string]int64{"atime": m.Atime, "ctime": m.Ctime, "SHERD.btime": m.Btime} {
		if t != 0 {
			r[k] = paxTime(t)
		}
	}
	for k, v := range m.Xattrs {
		r["SCHILY.xattr."+xattrKey.Replace(k)] = v
	}
	for k, v := range m.PAX {
		r[k] = v
	}
	if len(r) == 0 {
		return ""
	}
	keys := make([]string, 0, len(r))
	for k := range r {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	var b strings.Builder
	for _, k := range keys {
		appendRecord(&b, k, r[k])
	}
	return b.String()
}

// xattrKey writes an attribute's name as GNU tar does, since "=" ends a record's keyword.
var xattrKey = strings.NewReplacer("%", "%25", "=", "%3D")

// appendRecord writes "LENGTH KEY=VALUE\n", where LENGTH counts itself too.
func appendRecord(b *strings.Builder, k, v string) {
	n := len(k) + len(v) + 3
	total := n + len(strconv.Itoa(n))
	if d := n + len(strconv.Itoa(total)); d != total {
		total = d
	}
	b.WriteString(strconv.Itoa(total))
	b.WriteByte(' ')
	b.WriteString(k)
	b.WriteByte('=')
	b.WriteString(v)
	b.WriteByte('\n')
}

// paxTime writes nanoseconds since the epoch as decimal seconds, which may be negative.
func paxTime(ns int64) string {
	if ns == math.MinInt64 {
		ns++ // has no positive counterpart; the nanosecond lies in the year 1677
	}
	sign := ""
	if ns < 0 {
		sign, ns = "-", -ns
	}
	s := sign + strconv.FormatInt(ns/1e9, 10)
	if f := ns % 1e9; f != 0 {
		s += strings.TrimRight(fmt.Sprintf(".%09d", f), "0")
	}
	return s
}

func ascii(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// ustar holds the fields of one header block.
type ustar struct {
	name, link   string
	typ          byte
	mode, size   int64
	uid, gid     int
	mtime        int64
	major, minor int64
}

// appendBlock appends a POSIX.1-1988 ustar header. What does not fit is cut here and whole in the PAX records.
func appendBlock(b []byte, u ustar) []byte {
	n := len(b)
	b = append(b, zeroBlock[:blockSize]...)
	h := b[n:]
	copy(h[0:100], u.name)
	octal(h[100:108], u.mode)
	octal(h[108:116], int64(u.uid))
	octal(h[116:124], int64(u.gid))
	octal(h[124:136], u.size)
	octal(h[136:148], u.mtime)
	h[156] = u.typ
	copy(h[157:257], u.link)
	copy(h[257:265], "ustar\x0000")
	octal(h[329:337], u.major)
	octal(h[337:345], u.minor)
	copy(h[148:156], "        ")
	sum := int64(0)
	for _, c := range h {
		sum += int64(c)
	}
	octal(h[148:155], sum)
	return b
}

// octal writes v in octal, ended by NUL; one that does not fit becomes 0, its PAX record tells.
func octal(b []byte, v int64) {
	n := len(b) - 1
	if v < 0 || v >= 1<<(3*n) {
		v = 0
	}
	for i := n - 1; i >= 0; i-- {
		b[i] = '0' + byte(v&7)
		v >>= 3
	}
	b[n] = 0
}

// clip keeps hostile text in errors short.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
