// Package timestamp reads the times that logs contain. It never guesses in silence: what a text does not say and was assumed is in
// the Mark.
//
// Rules for what is missing. A time without a zone is taken in Resolver.Zone. A time without a year is taken in the year
// that puts it nearest before Resolver.Latest (one day of grace, for clocks that run ahead). A time without a date is taken on
// the last day that puts it before Latest.
//
// Times are nanoseconds since the epoch, UTC, and cover the years 1678 to 2261; a time outside is not recognised.
package timestamp

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// Mark says what was assumed of a time.
type Mark uint8

// What can be missing in a text.
const (
	Zone Mark = 1 << iota
	Year
	Date
)

// String lists the marks, as "year,zone"; it is empty when nothing was assumed.
func (m Mark) String() string {
	switch m {
	case 0:
		return ""
	case Zone:
		return "zone"
	case Year:
		return "year"
	case Year | Zone:
		return "year,zone"
	}
	var s []string
	if m&Date != 0 {
		s = append(s, "date")
	}
	if m&Year != 0 {
		s = append(s, "year")
	}
	if m&Zone != 0 {
		s = append(s, "zone")
	}
	return strings.Join(s, ",")
}

// Resolver fills in what a text leaves out.
type Resolver struct {
	Latest time.Time      // a time after all that are read; zero means now is not known: a missing year is then 1970
	Zone   *time.Location // nil is UTC
}

const (
	second = int64(time.Second)
	day    = 86400
)

// days counts from 1970-01-01 to a date of the proleptic Gregorian calendar.
func days(y, m, d int) int64 {
	if m <= 2 {
		y--
	}
	era := y / 400
	yoe := y - era*400
	mp := (m + 9) % 12
	doy := (153*mp+2)/5 + d - 1
	doe := yoe*365 + yoe/4 - yoe/100 + doy
	return int64(era)*146097 + int64(doe) - 719468
}

func daysIn(y, m int) int {
	switch m {
	case 2:
		if y%4 == 0 && (y%100 != 0 || y%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

func nanos(y, mo, d, h, mi, s int, frac int64, offset int) (int64, bool) {
	// A second of 60 is a leap second, and counts into the next minute.
	if mo < 1 || mo > 12 || d < 1 || d > daysIn(y, mo) || h > 24 || mi > 59 || s > 60 || h == 24 && (mi > 0 || s > 0) {
		return 0, false
	}
	if y < 1678 || y > 2261 {
		return 0, false
	}
	secs := days(y, mo, d)*day + int64(h*3600+mi*60+s-offset)
	return secs*second + frac, true
}

func num(s string, from, n int) (int, bool) {
	if len(s) < from+n {
		return 0, false
	}
	v := 0
	for i := from; i < from+n; i++ {
		c := s[i] - '0'
		if c > 9 {
			return 0, false
		}
		v = v*10 + int(c)
	}
	return v, true
}

// fraction reads ".123" or ",123" at i, in nanoseconds; digits beyond nine are passed over.
func fraction(s string, i int) (frac int64, next int) {
	if i+1 >= len(s) || s[i] != '.' && s[i] != ',' || s[i+1] < '0' || s[i+1] > '9' {
		return 0, i
	}
	unit := second / 10
	for i++; i < len(s) && s[i] >= '0' && s[i] <= '9'; i++ {
		frac += int64(s[i]-'0') * unit
		unit /= 10
	}
	return frac, i
}

// clock reads HH:MM:SS with a fraction, or HH:MM.
func clock(s string, i int) (h, mi, sec int, frac int64, next int, ok bool) {
	var ok1, ok2 bool
	h, ok1 = num(s, i, 2)
	mi, ok2 = num(s, i+3, 2)
	if !ok1 || !ok2 || s[i+2] != ':' || h > 24 || mi > 59 {
		return 0, 0, 0, 0, i, false
	}
	next = i + 5
	if len(s) > next && s[next] == ':' {
		var ok3 bool
		if sec, ok3 = num(s, next+1, 2); !ok3 || sec > 60 {
			return 0, 0, 0, 0, i, false
		}
		frac, next = fraction(s, next+3)
	}
	return h, mi, sec, frac, next, true
}

// zone reads Z, UTC, GMT, +01:00, +0100 or +01 at i, after at most one space. Letters of other zones are not read: the same ones
// mean different offsets in different places.
func zone(s string, i int) (offset, next int, ok bool) {
	j := i
	if j < len(s) && s[j] == ' ' {
		j++
	}
	if j >= len(s) {
		return 0, i, false
	}
	switch c := s[j]; {
	case c == 'Z' || c == 'z':
		if boundary(s, j+1) {
			return 0, j + 1, true
		}
	case strings.HasPrefix(s[j:], "UTC") || strings.HasPrefix(s[j:], "GMT"):
		if boundary(s, j+3) {
			return 0, j + 3, true
		}
	case c == '+' || c == '-':
		h, ok := num(s, j+1, 2)
		if !ok || h > 18 {
			return 0, i, false
		}
		m, k := 0, j+3
		if k < len(s) && s[k] == ':' {
			if v, ok := num(s, k+1, 2); ok {
				m, k = v, k+3
			}
		} else if v, ok := num(s, k, 2); ok {
			m, k = v, k+2
		}
		if m > 59 || !boundary(s, k) {
			return 0, i, false
		}
		offset = h*3600 + m*60
		if c == '-' {
			offset = -offset
		}
		return offset, k, true
	}
	return 0, i, false
}

// boundary reports whether a token can end at i.
func boundary(s string, i int) bool {
	if i >= len(s) {
		return true
	}
	c := s[i]
	return c < '0' || c > '9' && c < 'A' || c > 'Z' && c < 'a' || c > 'z'
}

// RFC3339 reads a whole RFC 3339 time, with any number of digits in its fraction.
func RFC3339(s string) (int64, bool) {
	if len(s) < 20 || s[4] != '-' || s[7] != '-' || s[10] != 'T' && s[10] != 't' && s[10] != ' ' {
		return 0, false
	}
	y, ok1 := num(s, 0, 4)
	mo, ok2 := num(s, 5, 2)
	d, ok3 := num(s, 8, 2)
	h, mi, sec, frac, i, ok4 := clock(s, 11)
	if !ok1 || !ok2 || !ok3 || !ok4 || i < 19 {
		return 0, false
	}
	offset, end, ok := zone(s, i)
	if !ok || end != len(s) {
		return 0, false
	}
	return nanos(y, mo, d, h, mi, sec, frac, offset)
}

// Epoch reads a number since 1970: seconds, milliseconds, microseconds or nanoseconds, whichever its size tells (each unit is
// taken from the year 1985 to 2116), with or without a fraction.
func Epoch(s string) (int64, bool) {
	i := 0
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	if i < 9 || i > 19 {
		return 0, false
	}
	whole, err := strconv.ParseInt(s[:i], 10, 64)
	if err != nil {
		return 0, false
	}
	unit := unitOf(whole)
	if unit == 0 {
		return 0, false
	}
	frac := int64(0)
	if i < len(s) {
		var end int
		if frac, end = fraction(s, i); end != len(s) {
			return 0, false
		}
		frac /= second / unit
	}
	return whole*unit + frac, true
}

func unitOf(whole int64) int64 {
	for _, unit := range []int64{1e9, 1e6, 1e3, 1} {
		if whole > math.MaxInt64/2/unit {
			continue
		}
		if n := whole * unit; n >= 5e17 {
			return unit
		}
	}
	return 0
}

// EpochFloat is Epoch for a number that was read as a float: of seconds, digits below a microsecond are noise and are rounded.
func EpochFloat(v float64) (int64, bool) {
	if math.IsNaN(v) || v < 1e8 || v > math.MaxInt64/2 {
		return 0, false
	}
	whole, part := math.Modf(v)
	unit := unitOf(int64(whole))
	if unit == 0 {
		return 0, false
	}
	return int64(whole)*unit + int64(math.Round(part*float64(unit)/1e3))*1e3, true
}

// Parse reads s, all of it, as a time: in a form that Prefix knows, or as a number since the epoch.
func (r *Resolver) Parse(s string) (nanos int64, m Mark, ok bool) {
	s = strings.TrimSpace(s)
	if t, ok := RFC3339(s); ok {
		return t, 0, true
	}
	if t, m, n, ok := r.Prefix(s); ok && n == len(s) {
		return t, m, true
	}
	if t, ok := Epoch(s); ok {
		return t, 0, true
	}
	return 0, 0, false
}
