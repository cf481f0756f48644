package query

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// number takes N, >N, >=N, <N, <=N, [A TO B], {A TO B}, with units such as MB for lengths.
func (p *parser) number(field string) (Node, *Error) {
	from, to, err := p.span(func(s string) (int64, int64, *Error) {
		n, err := p.integer(field, s)
		return n, n, err
	})
	if err != nil {
		return nil, err
	}
	return &Between{field, from, to}, nil
}

func (p *parser) integer(field, s string) (int64, *Error) {
	if n, err := strconv.ParseInt(s, 0, 64); err == nil {
		return n, nil
	}
	if field == "size" || field == "length" || field == "offset" || kindOf(field) == attribute {
		if n, err := humanize.ParseBytes(s); err == nil && n <= math.MaxInt64 {
			return int64(n), nil
		}
	}
	return 0, p.fail(field+" is a number, and "+strconv.Quote(s)+" is none", "4711, >1024, [1 TO 9]; sizes also as 1MB or 4KiB")
}

// span takes one value or a range. read gives the first and last number that a value stands for: of a day it is all its nanoseconds.
func (p *parser) span(read func(string) (int64, int64, *Error)) (from, to int64, err *Error) {
	begin := p.scanner
	// fail at the value, not behind it
	value := func(s string, at scanner) (int64, int64, *Error) {
		now := p.scanner
		p.scanner = at
		a, z, err := read(s)
		p.scanner = now
		return a, z, err
	}
	switch c := p.peek(); c {
	case '[', '{':
		return p.interval(value)
	case '>', '<':
		p.at++
		same := p.peek() == '='
		if same {
			p.at++
		}
		at := p.scanner
		s, err := p.plain()
		if err != nil {
			return 0, 0, err
		}
		a, z, err := value(s, at)
		if err != nil {
			return 0, 0, err
		}
		switch {
		case c == '>' && same:
			return a, math.MaxInt64, nil
		case c == '>' && z == math.MaxInt64, c == '<' && !same && a == math.MinInt64:
			return 1, 0, nil // nothing is beyond
		case c == '>':
			return z + 1, math.MaxInt64, nil
		case same:
			return math.MinInt64, z, nil
		}
		return math.MinInt64, a - 1, nil
	}
	s, err := p.plain()
	if err != nil {
		return 0, 0, err
	}
	return value(s, begin)
}

// plain takes a word or a quoted text.
func (p *parser) plain() (string, *Error) {
	p.space()
	if p.peek() == '"' {
		return p.quoted()
	}
	begin := p.scanner
	s, _ := p.word("()]}")
	if s == "" {
		return "", begin.fail("a value is missing", "")
	}
	return s, nil
}

// interval takes [A TO B], where * is no bound, and { or } leave the bound itself out.
func (p *parser) interval(value func(string, scanner) (int64, int64, *Error)) (from, to int64, err *Error) {
	begin := p.scanner
	open := p.peek()
	p.at++
	p.space()
	at := p.scanner
	low, err := p.plain()
	if err != nil {
		return 0, 0, err
	}
	p.space()
	if !p.keyword("TO", "") {
		return 0, 0, p.fail("TO is missing between the bounds", "[A TO B]")
	}
	p.space()
	at2 := p.scanner
	high, err := p.plain()
	if err != nil {
		return 0, 0, err
	}
	p.space()
	end := p.peek()
	if end != ']' && end != '}' {
		return 0, 0, begin.fail("the range is not closed", "[A TO B]")
	}
	p.at++
	from, to = math.MinInt64, math.MaxInt64
	if low != "*" {
		a, z, err := value(low, at)
		if err != nil {
			return 0, 0, err
		}
		if from = a; open == '{' {
			if z == math.MaxInt64 {
				return 1, 0, nil
			}
			from = z + 1
		}
	}
	if high != "*" {
		a, z, err := value(high, at2)
		if err != nil {
			return 0, 0, err
		}
		if to = z; end == '}' {
			if a == math.MinInt64 {
				return 1, 0, nil
			}
			to = a - 1
		}
	}
	return from, to, nil
}

// moment takes what time: is compared with: ranges as numbers have them, last 2h, today, yesterday.
func (p *parser) moment() (Node, *Error) {
	begin := p.scanner
	if s, _ := p.word("()"); s == "last" {
		p.space()
		at := p.scanner
		s, _ := p.word("()")
		d, ok := duration(s)
		if !ok {
			return nil, at.fail("a length of time is missing after last", "last 30m, last 2h, last 7d")
		}
		return &Between{"time", p.o.Now.Add(-d).UnixNano(), p.o.Now.UnixNano()}, nil
	}
	p.scanner = begin
	from, to, err := p.span(p.instant)
	if err != nil {
		return nil, err
	}
	return &Between{"time", from, to}, nil
}

func (p *parser) zone() *time.Location {
	if p.o.Zone == nil {
		return time.UTC
	}
	return p.o.Zone
}

// partial are times that stand for all that begins with them.
var partial = []struct {
	layout string
	end    func(time.Time) time.Time
}{
	{"2006-01-02T15:04", func(t time.Time) time.Time { return t.Add(time.Minute) }},
	{"2006-01-02T15", func(t time.Time) time.Time { return t.Add(time.Hour) }},
	{"2006-01-02", func(t time.Time) time.Time { return t.AddDate(0, 0, 1) }},
	{"2006-01", func(t time.Time) time.Time { return t.AddDate(0, 1, 0) }},
	{"2006", func(t time.Time) time.Time { return t.AddDate(1, 0, 0) }},
}

// instant gives the first and last nanosecond that a time stands for.
func (p *parser) instant(s string) (int64, int64, *Error) {
	day := func(t time.Time) (int64, int64, *Error) {
		y, m, d := t.In(p.zone()).Date()
		from := time.Date(y, m, d, 0, 0, 0, 0, p.zone())
		return from.UnixNano(), from.AddDate(0, 0, 1).UnixNano() - 1, nil
	}
	switch s {
	case "now":
		return p.o.Now.UnixNano(), p.o.Now.UnixNano(), nil
	case "today":
		return day(p.o.Now)
	case "yesterday":
		return day(p.o.Now.In(p.zone()).AddDate(0, 0, -1))
	}
	text := strings.Replace(s, " ", "T", 1)
	where := p.zone()
	if t, ok := strings.CutSuffix(text, "Z"); ok {
		text, where = t, time.UTC
	}
	for _, f := range partial {
		if t, err := time.ParseInLocation(f.layout, text, where); err == nil && t.Year() > 1678 && t.Year() < 2261 {
			return t.UnixNano(), f.end(t).UnixNano() - 1, nil
		}
	}
	n, _, ok := p.times.Parse(s)
	if !ok {
		return 0, 0, p.fail("the time "+strconv.Quote(s)+" can't be read", "2026-11-24, 2026-11-24T03:02, 2026-11-24T03:02:11.2Z, today, yesterday, last 2h")
	}
	// What is written to the second stands for all of the second.
	if width := precision(s); width > 1 && n%width == 0 {
		return n, n + width - 1, nil
	}
	return n, n, nil
}

// precision is what the last digit of a clock's fraction is worth, in nanoseconds; 0 where s is no clock.
func precision(s string) int64 {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return 0
	}
	width := int64(time.Second)
	rest := s[i:]
	dot := strings.IndexAny(rest, ".,")
	if dot < 0 {
		return width
	}
	for _, c := range rest[dot+1:] {
		if c < '0' || c > '9' {
			break
		}
		width /= 10
	}
	return width
}

// around takes TIME±LENGTH, also as TIME+-LENGTH and TIME~LENGTH.
func (p *parser) around() (Node, *Error) {
	begin := p.scanner
	s, err := p.plain()
	if err != nil {
		return nil, err
	}
	d := 5 * time.Minute
	for _, sign := range []string{"±", "+-", "+/-", "~"} {
		at, length, ok := strings.Cut(s, sign)
		if !ok {
			continue
		}
		if d, ok = duration(length); !ok {
			return nil, begin.fail("the length of time "+strconv.Quote(length)+" can't be read", "around:2026-11-24T03:02:11Z±5m")
		}
		s = at
		break
	}
	now := p.scanner
	p.scanner = begin
	from, to, err := p.instant(s)
	p.scanner = now
	if err != nil {
		return nil, err
	}
	return &Between{"time", sub(from, int64(d)), -sub(-to, int64(d))}, nil
}

// sub subtracts without going below what a number holds.
func sub(a, b int64) int64 {
	if a < math.MinInt64+b+1 {
		return math.MinInt64 + 1
	}
	return a - b
}

// duration reads 90s, 5m, 2h, 7d, 1w, and Go's 1h30m.
func duration(s string) (time.Duration, bool) {
	units := map[byte]time.Duration{'d': 24 * time.Hour, 'w': 7 * 24 * time.Hour}
	if s == "" {
		return 0, false
	}
	if u, ok := units[s[len(s)-1]]; ok {
		n, err := strconv.ParseFloat(s[:len(s)-1], 64)
		if d := n * float64(u); err == nil && d >= 0 && d < math.MaxInt64/4 {
			return time.Duration(d), true
		}
		return 0, false
	}
	d, err := time.ParseDuration(s)
	return d, err == nil && d >= 0 && d < math.MaxInt64/4
}
