package indicator

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
)

// maxDocument bounds a list in JSON, in bytes: it is held whole.
const maxDocument = 1 << 30

// Load reads a list from a file and adds it.
func (s *Set) Load(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := s.Read(f, path); err != nil {
		return fmt.Errorf("the indicators of %s: %w", path, err)
	}
	return nil
}

// Read adds a list; its form is told by its content. An error means that nothing of it could be read, or that reading broke off: what
// was added before stays.
func (s *Set) Read(r io.Reader, list string) error {
	b := bufio.NewReaderSize(r, 64<<10)
	head, err := b.Peek(4096)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	head = bytes.TrimPrefix(head, []byte("\xef\xbb\xbf"))
	if bytes.IndexByte(head, 0) >= 0 {
		return errors.New("it is no text")
	}
	before := s.Len() + len(s.Skips)
	switch first := bytes.TrimLeft(head, " \t\r\n"); {
	case len(first) > 0 && (first[0] == '{' || first[0] == '[' && bytes.IndexByte(first, '{') > 0):
		err = s.readJSON(b, list)
	case csvHeader(head) != nil:
		err = s.readCSV(b, list, csvHeader(head))
	default:
		err = s.readLines(b, list)
	}
	if err == nil && s.Len()+len(s.Skips) == before {
		return errors.New("it holds no indicator")
	}
	return err
}

func (s *Set) readLines(r *bufio.Reader, list string) error {
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 64<<10), 1<<20)
	n := 0
	for sc.Scan() {
		n++
		line := strings.TrimSpace(strings.TrimPrefix(sc.Text(), "\ufeff"))
		if line == "" || line[0] == '#' || strings.HasPrefix(line, "//") {
			continue
		}
		value, description, _ := strings.Cut(line, ";")
		s.add("", value, description, list, n)
	}
	if err := sc.Err(); err != nil {
		return fmt.Errorf("line %d: %w", n+1, err)
	}
	return nil
}

// columns are where a table has what.
type columns struct {
	comma                    rune
	value, kind, description int
}

var (
	valueNames       = regexp.MustCompile(`(?i)^(value|indicator|indicator_value|ioc|ioc_value|observable|pattern_value)$`)
	kindNames        = regexp.MustCompile(`(?i)^(type|kind|indicator_type|ioc_type|observable_type)$`)
	descriptionNames = regexp.MustCompile(`(?i)^(description|comment|threat|name|malware|malware_printable|family|title|info|tags?)$`)
)

// csvHeader tells a table by its first line: one of its columns must be named as values are.
func csvHeader(head []byte) *columns {
	line, _, _ := bytes.Cut(head, []byte("\n"))
	for _, comma := range []rune{',', ';', '\t'} {
		r := csv.NewReader(bytes.NewReader(line))
		r.Comma, r.LazyQuotes, r.TrimLeadingSpace = comma, true, true
		fields, err := r.Read()
		if err != nil || len(fields) < 2 {
			continue
		}
		c := columns{comma: comma, value: -1, kind: -1, description: -1}
		for i, f := range fields {
			f = strings.TrimSpace(strings.TrimPrefix(f, "#"))
			switch {
			case c.value < 0 && valueNames.MatchString(f):
				c.value = i
			case c.kind < 0 && kindNames.MatchString(f):
				c.kind = i
			case c.description < 0 && descriptionNames.MatchString(f):
				c.description = i
			}
		}
		if c.value >= 0 {
			return &c
		}
	}
	return nil
}

func (s *Set) readCSV(in io.Reader, list string, c *columns) error {
	r := csv.NewReader(in)
	r.Comma, r.LazyQuotes, r.TrimLeadingSpace, r.FieldsPerRecord, r.ReuseRecord = c.comma, true, true, -1, true
	for first := true; ; first = false {
		fields, err := r.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		var bad *csv.ParseError
		if errors.As(err, &bad) {
			s.skip(list, bad.Line, "the line is no row of a table")
			continue
		}
		if err != nil {
			return err
		}
		if first {
			continue
		}
		line, _ := r.FieldPos(0)
		get := func(i int) string {
			if i < 0 || i >= len(fields) {
				return ""
			}
			return fields[i]
		}
		kind, known := mispKinds[strings.ToLower(get(c.kind))]
		if !known {
			kind = ""
		}
		s.add(kind, get(c.value), get(c.description), list, line)
	}
}

// mispKinds are MISP's types of attributes that can be looked for, and the names that tables use.
var mispKinds = map[string]Kind{
	"md5": MD5, "sha1": SHA1, "sha256": SHA256, "filename|md5": MD5, "filename|sha1": SHA1, "filename|sha256": SHA256,
	"ip-src": Address, "ip-dst": Address, "ip-src|port": Address, "ip-dst|port": Address, "ip": Address, "ipv4": Address, "ipv6": Address,
	"domain": Domain, "hostname": Domain, "hostname|port": Domain, "domain|ip": Domain, "url": URL, "uri": URL, "link": URL, "filename": Name, "file": Name, "filepath": Path,
}

type mispAttribute struct {
	Type, Value, Comment string
	ToIDs                *bool `json:"to_ids"`
}

type mispEvent struct {
	Info      string
	Attribute []mispAttribute
	Object    []struct {
		Name      string
		Attribute []mispAttribute
	}
}

// document is what the forms in JSON have in common, each with its own members.
type document struct {
	Event    *mispEvent
	Response []struct{ Event *mispEvent }
	// STIX
	Type    string
	Objects []stixObject
}

type stixObject struct {
	Type, Name, Description, Pattern string
	PatternType                      string `json:"pattern_type"`
	Revoked                          bool
}

func (s *Set) readJSON(r io.Reader, list string) error {
	b, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err != nil {
		return err
	}
	if len(b) > maxDocument {
		return errors.New("it is larger than 1 GiB")
	}
	b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))
	var docs []document
	if bytes.TrimLeft(b, " \t\r\n")[0] == '[' {
		err = json.Unmarshal(b, &docs)
	} else {
		docs = make([]document, 1)
		err = json.Unmarshal(b, &docs[0])
	}
	if err != nil {
		var at *json.SyntaxError
		if errors.As(err, &at) {
			return fmt.Errorf("at byte %d: %w", at.Offset, err)
		}
		return err
	}
	n := 0
	for i := range docs {
		d := &docs[i]
		if d.Event != nil {
			s.misp(d.Event, list, &n)
		}
		for _, r := range d.Response {
			if r.Event != nil {
				s.misp(r.Event, list, &n)
			}
		}
		for j := range d.Objects {
			n++
			s.stix(&d.Objects[j], list, n)
		}
	}
	if n == 0 {
		return errors.New("it is JSON, but neither a MISP event nor a STIX bundle")
	}
	return nil
}

func (s *Set) misp(e *mispEvent, list string, n *int) {
	take := func(a *mispAttribute, what string) {
		*n++
		switch kind, known := mispKinds[a.Type]; {
		case !known:
			s.skip(list, *n, "attributes of type "+clip(a.Type)+" are not looked for")
		case a.ToIDs != nil && !*a.ToIDs:
			s.skip(list, *n, "the attribute is not meant for detection (to_ids is false)")
		default:
			value := a.Value
			if left, right, both := strings.Cut(value, "|"); both && strings.Contains(a.Type, "|") {
				value = left
				if strings.HasPrefix(a.Type, "filename|") {
					value = right
				}
			}
			for _, d := range []string{a.Comment, what, e.Info} {
				if d != "" {
					what = d
					break
				}
			}
			s.add(kind, value, what, list, *n)
		}
	}
	for i := range e.Attribute {
		take(&e.Attribute[i], "")
	}
	for i := range e.Object {
		for j := range e.Object[i].Attribute {
			take(&e.Object[i].Attribute[j], e.Object[i].Name)
		}
	}
}

// comparison is an equality of a STIX pattern: object:property = 'value'.
var comparison = regexp.MustCompile(`([a-z0-9-]+):([A-Za-z0-9_.'"\-]+)\s*(=|IN|LIKE|MATCHES|!=|<|>|ISSUBSET|ISSUPERSET)\s*(\([^)]*\)|'(?:[^'\\]|\\.)*')`)

func (s *Set) stix(o *stixObject, list string, n int) {
	if o.Type != "indicator" {
		return // what a bundle tells of malware, people and their relations
	}
	switch {
	case o.Revoked:
		s.skip(list, n, "the indicator was revoked")
		return
	case o.PatternType != "" && o.PatternType != "stix":
		s.skip(list, n, "patterns of type "+clip(o.PatternType)+" are not read")
		return
	case strings.Contains(o.Pattern, " FOLLOWEDBY ") || strings.Contains(o.Pattern, " NOT "):
		s.skip(list, n, "the pattern holds FOLLOWEDBY or NOT")
		return
	}
	what := o.Name
	if what == "" {
		what = o.Description
	}
	found := false
	for _, m := range comparison.FindAllStringSubmatch(o.Pattern, 256) {
		kind, ok := stixKind(m[1], m[2])
		if !ok || m[3] != "=" && m[3] != "IN" {
			continue
		}
		for _, v := range quoted.FindAllString(m[4], 10_000) {
			found = true
			s.add(kind, unescape.Replace(v[1:len(v)-1]), what, list, n)
		}
	}
	if !found {
		s.skip(list, n, "the pattern compares nothing that is looked for")
	}
}

var (
	quoted   = regexp.MustCompile(`'(?:[^'\\]|\\.)*'`)
	unescape = strings.NewReplacer(`\\`, `\`, `\'`, `'`)
)

func stixKind(object, property string) (Kind, bool) {
	switch object {
	case "ipv4-addr", "ipv6-addr":
		return Address, property == "value"
	case "domain-name":
		return Domain, property == "value"
	case "url":
		return URL, property == "value"
	case "file":
		switch strings.ToLower(strings.NewReplacer("'", "", `"`, "", "-", "").Replace(property)) {
		case "hashes.sha256":
			return SHA256, true
		case "hashes.sha1":
			return SHA1, true
		case "hashes.md5":
			return MD5, true
		case "name":
			return Name, true
		}
	}
	return "", false
}

func clip(s string) string { return s[:min(len(s), 60)] }
