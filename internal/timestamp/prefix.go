package timestamp

import (
	"strings"
	"time"
)

// fields is what a text says of a time.
type fields struct {
	y, mo, d   int // y is -1 when there is no year, mo is 0 when there is no date
	h, mi, sec int
	frac       int64
	offset     int
	zoned      bool
}

// Prefix reads a time at the beginning of s, which may stand in brackets or quotes, and says how many bytes of s it takes.
// It knows:
//
//	2026-11-24T03:02:11.204Z     RFC 3339 and ISO 8601: T or a space, comma or point, with any or no zone
//	20261124T030211Z             ISO 8601, basic
//	2026/11/24 03:02:11.204      Go's log, nginx's error log; also 2026.11.24
//	24/Nov/2026:03:02:11 +0000   NCSA
//	Tue Nov 24 03:02:11 2026     asctime and ctime; with a zone before the year as date(1) prints it; Apache's fraction
//	Nov 24 03:02:11              RFC 3164, also with a year after the day or the clock
//	Tue, 24 Nov 2026 03:02:11 +0000  RFC 1123 and 5322; also without the weekday
//	24-Nov-2026 03:02:11.204     Tomcat, BIND
//	11/24/2026 03:02:11          month first, unless it can't be one; the order is a rule, not a reading
//	03:02:11.204                 a clock alone
func (r *Resolver) Prefix(s string) (nanos int64, m Mark, n int, ok bool) {
	start := 0
	closer := byte(0)
	if len(s) > 0 {
		switch s[0] {
		case '[':
			closer = ']'
		case '(':
			closer = ')'
		case '"', '\'':
			closer = s[0]
		}
		if closer != 0 {
			start = 1
		}
	}
	if len(s) < start+5 {
		return 0, 0, 0, false
	}
	if len(s) > start+64 {
		s = s[:start+64] // no form is longer
	}
	var f fields
	var end int
	switch c := s[start]; {
	case c >= '0' && c <= '9':
		f, end, ok = numeric(s, start)
	case c >= 'A' && c <= 'Z':
		f, end, ok = worded(s, start)
	}
	if !ok {
		return 0, 0, 0, false
	}
	if closer != 0 {
		if end >= len(s) || s[end] != closer {
			return 0, 0, 0, false
		}
		end++
	} else if end < len(s) && !boundary(s, end) {
		return 0, 0, 0, false
	}
	nanos, m, ok = r.resolve(&f)
	return nanos, m, end, ok
}

func numeric(s string, i int) (f fields, end int, ok bool) {
	f.y = -1
	digits := 0
	for i+digits < len(s) && s[i+digits] >= '0' && s[i+digits] <= '9' && digits < 9 {
		digits++
	}
	next := byte(0)
	if i+digits < len(s) {
		next = s[i+digits]
	}
	at := i + digits
	switch {
	case digits == 4 && (next == '-' || next == '/' || next == '.'): // year first
		y, _ := num(s, i, 4)
		mo, ok1 := num(s, i+5, 2)
		d, ok2 := num(s, i+8, 2)
		if !ok1 || !ok2 || s[i+7] != next {
			return f, 0, false
		}
		f.y, f.mo, f.d = y, mo, d
		return withClock(f, s, i+10)
	case digits == 8 && (next == 'T' || next == 't'): // basic
		f.y, _ = num(s, i, 4)
		f.mo, _ = num(s, i+4, 2)
		f.d, _ = num(s, i+6, 2)
		h, ok1 := num(s, i+9, 2)
		mi, ok2 := num(s, i+11, 2)
		sec, ok3 := num(s, i+13, 2)
		if !ok1 || !ok2 || !ok3 {
			return f, 0, false
		}
		f.h, f.mi, f.sec = h, mi, sec
		f.frac, end = fraction(s, i+15)
		f, end = withZone(f, s, end)
		return f, end, true
	case digits == 2 && next == ':': // a clock alone
		f.h, f.mi, f.sec, f.frac, end, ok = clock(s, i)
		if !ok || end < i+8 {
			return f, 0, false
		}
		f, end = withZone(f, s, end)
		return f, end, true
	case digits <= 2 && digits > 0 && (next == '/' || next == '-' || next == ' ' || next == '.'):
		return dayFirst(f, s, i, at, next)
	}
	return f, 0, false
}

// dayFirst reads 24/Nov/2026:…, 24-Nov-2026 …, 24 Nov 2026 … and 11/24/2026 ….
func dayFirst(f fields, s string, i, at int, sep byte) (fields, int, bool) {
	first, _ := num(s, i, at-i)
	if mo, ok := month(s, at+1); ok {
		j := at + 4
		if j >= len(s) || s[j] != sep {
			return f, 0, false
		}
		y, ok := num(s, j+1, 4)
		if !ok {
			return f, 0, false
		}
		f.y, f.mo, f.d = y, mo, first
		return withClock(f, s, j+5)
	}
	if sep != '/' && sep != '.' {
		return f, 0, false
	}
	j := at + 1
	n := 0
	for j+n < len(s) && n < 2 && s[j+n] >= '0' && s[j+n] <= '9' {
		n++
	}
	if n == 0 || j+n >= len(s) || s[j+n] != sep {
		return f, 0, false
	}
	second, _ := num(s, j, n)
	y, ok := num(s, j+n+1, 4)
	if !ok {
		return f, 0, false
	}
	f.y, f.mo, f.d = y, first, second
	if sep == '.' || first > 12 { // 24.11.2026 is never month first
		f.mo, f.d = second, first
	}
	return withClock(f, s, j+n+5)
}

// worded reads the forms that begin with the name of a weekday or a month.
func worded(s string, i int) (f fields, end int, ok bool) {
	f.y = -1
	if weekday(s, i) {
		i += 3
		if i < len(s) && s[i] == ',' {
			i++
		}
		for i < len(s) && s[i] == ' ' {
			i++
		}
		if i < len(s) && s[i] >= '0' && s[i] <= '9' {
			at := i
			for at < len(s) && s[at] >= '0' && s[at] <= '9' {
				at++
			}
			if at >= len(s) || at-i > 2 {
				return f, 0, false
			}
			return dayFirst(f, s, i, at, s[at])
		}
	}
	mo, ok := month(s, i)
	if !ok {
		return f, 0, false
	}
	f.mo = mo
	i += 3
	for i < len(s) && s[i] == ' ' {
		i++
	}
	n := 0
	for i+n < len(s) && n < 2 && s[i+n] >= '0' && s[i+n] <= '9' {
		n++
	}
	if n == 0 {
		return f, 0, false
	}
	f.d, _ = num(s, i, n)
	i += n
	if y, ok := num(s, i+1, 4); ok && (s[i] == ' ' || s[i] == ',') && i+5 < len(s) && s[i+5] == ' ' { // Nov 24 2026 03:02:11
		f.y = y
		i += 5
	}
	if i >= len(s) || s[i] != ' ' {
		return f, 0, false
	}
	f.h, f.mi, f.sec, f.frac, end, ok = clock(s, i+1)
	if !ok {
		return f, 0, false
	}
	f, end = withZone(f, s, end)
	if f.y < 0 { // … 03:02:11 2026, … 03:02:11 UTC 2026
		if y, ok := num(s, end+1, 4); ok && s[end] == ' ' && boundary(s, end+5) && plausible(y) {
			f.y = y
			end += 5
		}
	}
	return f, end, true
}

// plausible keeps a pid or a number after a time from being taken for its year.
func plausible(y int) bool { return y >= 1900 && y < 2200 }

func withClock(f fields, s string, i int) (fields, int, bool) {
	if i >= len(s) {
		return f, 0, false
	}
	switch s[i] {
	case 'T', 't', ' ', ':', '_':
	default:
		return f, 0, false
	}
	j := i + 1
	if strings.HasPrefix(s[j:], "- ") { // gin: 2026/11/24 - 03:02:11
		j += 2
	}
	var ok bool
	var end int
	f.h, f.mi, f.sec, f.frac, end, ok = clock(s, j)
	if !ok {
		return f, 0, false
	}
	f, end = withZone(f, s, end)
	return f, end, true
}

func withZone(f fields, s string, i int) (fields, int) {
	if offset, end, ok := zone(s, i); ok {
		f.offset, f.zoned = offset, true
		return f, end
	}
	return f, i
}

const (
	months   = "JanFebMarAprMayJunJulAugSepOctNovDec"
	weekdays = "MonTueWedThuFriSatSun"
)

func month(s string, i int) (int, bool) {
	if len(s) < i+3 {
		return 0, false
	}
	n := strings.Index(months, s[i:i+3])
	if n < 0 || n%3 != 0 {
		return 0, false
	}
	return n/3 + 1, true
}

func weekday(s string, i int) bool {
	if len(s) < i+3 {
		return false
	}
	n := strings.Index(weekdays, s[i:i+3])
	return n >= 0 && n%3 == 0
}

// resolve fills in what is missing.
func (r *Resolver) resolve(f *fields) (int64, Mark, bool) {
	var m Mark
	if !f.zoned {
		m |= Zone
	}
	switch {
	case f.mo == 0:
		return r.lastDay(f, m|Date)
	case f.y < 0:
		return r.lastYear(f, m|Year)
	}
	t, ok := r.at(f, f.y, f.mo, f.d)
	return t, m, ok
}

func (r *Resolver) at(f *fields, y, mo, d int) (int64, bool) {
	offset := f.offset
	if !f.zoned && r.Zone != nil && r.Zone != time.UTC {
		if _, ok := nanos(y, mo, d, f.h, f.mi, f.sec, f.frac, 0); !ok {
			return 0, false
		}
		_, offset = time.Date(y, time.Month(mo), d, f.h, f.mi, f.sec, 0, r.Zone).Zone()
	}
	return nanos(y, mo, d, f.h, f.mi, f.sec, f.frac, offset)
}

// grace is how far a log's clock may run ahead of Latest.
const grace = 24 * time.Hour

func (r *Resolver) lastYear(f *fields, m Mark) (int64, Mark, bool) {
	if r.Latest.IsZero() {
		t, ok := r.at(f, 1970, f.mo, f.d)
		return t, m, ok
	}
	limit := r.Latest.Add(grace).UnixNano()
	// Eight years reach the next 29 February, also across 1900, 2100 and 2200.
	for y := r.Latest.Year() + 1; y > r.Latest.Year()-9; y-- {
		if t, ok := r.at(f, y, f.mo, f.d); ok && t <= limit {
			return t, m, true
		}
	}
	return 0, 0, false
}

func (r *Resolver) lastDay(f *fields, m Mark) (int64, Mark, bool) {
	d := r.Latest
	if d.IsZero() {
		d = time.Unix(0, 0).UTC()
	}
	if r.Zone != nil {
		d = d.In(r.Zone)
	} else {
		d = d.UTC()
	}
	t, ok := r.at(f, d.Year(), int(d.Month()), d.Day())
	if ok && t > r.Latest.UnixNano() && !r.Latest.IsZero() {
		d = d.AddDate(0, 0, -1)
		t, ok = r.at(f, d.Year(), int(d.Month()), d.Day())
	}
	return t, m, ok
}
