package yara

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/verdict"
)

func names(s *Set) string {
	var out []string
	for _, r := range s.rules {
		out = append(out, r.name)
	}
	return strings.Join(out, " ")
}

func told(refused []detect.Refusal) string {
	var out []string
	for _, r := range refused {
		out = append(out, fmt.Sprintf("%d %s: %s", r.Line, r.Rule, r.Why))
	}
	return strings.Join(out, "\n")
}

func TestOneBrokenRuleDoesNotSinkItsFile(t *testing.T) {
	for _, c := range []struct {
		name, src string
		want      string   // rules that are told of
		loaded    int      // with private ones
		refused   []string // each begins with its line and its rule, and holds the rest
	}{
		{"all is well", "rule a { condition: true }\nrule b { condition: a }", "a b", 2, nil},
		{"a syntax error", "rule a { condition: true }\nrule b {\n  condition:\n    true and and }\nrule c { condition: true }", "a c", 2, []string{"4 b: |syntax error"}},
		{"a string that is not used", "rule a { strings: $a = \"x\" condition: true }\nrule b { condition: true }", "b", 1, []string{"1 a: |unreferenced string"}},
		{"a string that is not there", "rule a { condition: $x }\nrule b { condition: true }", "b", 1, []string{"1 a: |undefined string"}},
		{"what refers to it goes with it", "rule a { condition: nothing }\nrule b { condition: a }\nrule c { condition: b }\nrule d { condition: true }", "d", 1,
			[]string{"1 a: |undefined identifier", `2 b: |refers to the rule "a"`, `3 c: |refers to the rule "b"`}},
		{"no closing brace", "rule a { condition: true\nrule b { condition: true }", "b", 1, []string{"1 a: |brace"}},
		{"a string without end", "rule a { strings: $a = \"x\n condition: $a }\nrule b { condition: true }", "b", 1, []string{"1 a: |string does not end"}},
		{"a comment without end", "rule b { condition: true }\n/* rule a { condition: true }", "b", 1, []string{"2 : |comment does not end"}},
		{"text between rules", "rule a { condition: true }\nhello\nrule b { condition: true }", "a b", 2, []string{"2 : |neither a rule"}},
		{"the same name twice", "rule a { condition: true }\nrule a { condition: false }", "a", 1, []string{"2 a: |already, in line 1"}},
		{"a private rule", "private rule a { condition: true }\nrule b { condition: a }", "b", 2, nil},
		{"a global rule that is broken", "global rule g { condition: x }\nrule b { condition: true }", "", 0, []string{"1 g: |undefined", `2 b: |global rule "g"`}},
		{"a module that is not there", "import \"vt\"\nimport \"elf\"\nrule a { condition: vt.x == 1 }\nrule b { condition: elf.number_of_sections >= 0 }", "b", 1,
			[]string{`1 : |module "vt" can't be used`, `3 a: |needs the module "vt"`}},
		{"a module that asks the clock", "import \"time\"\nrule a { condition: time.now() > 0 }\nrule b { condition: true }", "b", 1, []string{`1 : |when the evidence is read`, `2 a: |needs the module "time"`}},
		{"an include from elsewhere", "include \"../../../../etc/passwd\"\nrule b { condition: true }", "b", 1, []string{"1 : |outside of the folder"}},
		{"an absolute include", "include \"/etc/passwd\"\nrule b { condition: true }", "b", 1, []string{"1 : |outside of the folder"}},
		{"an include that is not there", "include \"none.yar\"\nrule b { condition: true }", "b", 1, []string{"1 : |can't be read"}},
		{"a zero byte", "rule a { condition: true }\nrule b { meta: x = \"\x00\" condition: true }", "a", 1, []string{"2 b: |zero byte"}},
		{"braces and keywords where they mean nothing", "rule a { strings: $a = \"} rule x { \\\" }\" $b = { 7D [2-4] ( 01 | ?2 ) /* } */ } $c = /rule y \\{ \\/ }/ condition: any of them } // rule z {\nrule b { condition: a }",
			"a b", 2, nil},
		{"a byte order mark", "\xef\xbb\xbfrule a { condition: true }", "a", 1, nil},
		{"an expression that YARA does not know", "rule a { strings: $a = /x(?=y)/ condition: $a }\nrule b { condition: true }", "b", 1, []string{"1 a: |"}},
		{"external variables", "rule a { condition: filename == \"x\" or filepath contains \"y\" or extension == \".z\" or filetype == \"ELF\" or owner == \"0\" }", "a", 1, nil},
		{"a variable that nobody gives", "rule a { condition: md5 == \"x\" }\nrule b { condition: true }", "b", 1, []string{`1 a: |undefined identifier "md5"`}},
		{"a set of rules", "rule a1 { condition: true }\nrule a2 { condition: x }\nrule b { condition: any of (a*) }", "a1 b", 2, []string{"2 a2: |undefined"}},
		{"nothing", "", "", 0, nil},
		{"only comments", "// nothing\n/* here */", "", 0, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := Empty()
			loaded, refused := s.Add(filepath.Join(t.TempDir(), "x.yar"), []byte(c.src))
			if names(s) != c.want || loaded != c.loaded {
				t.Errorf("took %q, %d in all, want %q and %d\nrefused:\n%s", names(s), loaded, c.want, c.loaded, told(refused))
			}
			if len(refused) != len(c.refused) {
				t.Fatalf("refused:\n%s\nwant %q", told(refused), c.refused)
			}
			for i, r := range refused {
				begin, holds, _ := strings.Cut(c.refused[i], "|")
				if got := fmt.Sprintf("%d %s: %s", r.Line, r.Rule, r.Why); !strings.HasPrefix(got, begin) || !strings.Contains(got, holds) {
					t.Errorf("refused %q, want %q", got, c.refused[i])
				}
			}
		})
	}
}

func TestIncludes(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("sub/a.yar", "rule a { condition: true }\nrule broken { condition: x }")
	write("loop.yar", `include "index.yar"`)
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link.yar")); err != nil {
		t.Fatal(err)
	}
	s := Empty()
	index := "include \"sub/a.yar\"\ninclude \"link.yar\"\ninclude \"loop.yar\"\ninclude \"sub\"\nrule b { condition: a }"
	write("index.yar", index)
	loaded, refused := s.Add(filepath.Join(dir, "index.yar"), []byte(index))
	if loaded != 2 || names(s) != "a b" {
		t.Errorf("%d loaded, %q; refused:\n%s", loaded, names(s), told(refused))
	}
	for _, want := range []string{"link.yar", "which includes it", "regular file", "undefined identifier"} {
		if !strings.Contains(told(refused), want) {
			t.Errorf("refused:\n%s\nwant %q among it", told(refused), want)
		}
	}
	// The file by itself, as a folder of rules has it too: its rules are told of once.
	if loaded, _ := s.Add(filepath.Join(dir, "sub/a.yar"), []byte("rule a { condition: true }")); loaded != 1 || names(s) != "a b" {
		t.Errorf("%d loaded, %q", loaded, names(s))
	}
	// Another rule of the same name is another rule.
	s.Add(filepath.Join(dir, "c.yar"), []byte("rule a { condition: filesize > 3 }"))
	if ids := []string{s.rules[0].ID, s.rules[2].ID}; !slices.Equal(ids, []string{"yara:a", "yara:a#2"}) {
		t.Errorf("ids %q", ids)
	}
}

func TestManyRulesWithManyBroken(t *testing.T) {
	var b strings.Builder
	for i := range 2000 {
		if i%100 == 7 {
			fmt.Fprintf(&b, "rule r%d { condition: nothing%d }\n", i, i)
			continue
		}
		fmt.Fprintf(&b, "rule r%d { strings: $a = \"needle-%d\" condition: $a }\n", i, i)
	}
	s := Empty()
	loaded, refused := s.Add("x.yar", []byte(b.String()))
	if loaded != 1980 || len(refused) != 20 || refused[0].Rule != "r7" || refused[0].Line != 8 {
		t.Errorf("%d loaded, %d refused, the first %+v", loaded, len(refused), refused[0])
	}
}

func TestMeta(t *testing.T) {
	for _, c := range []struct {
		head, meta string
		severity   verdict.Severity
		technique  string
		memory     bool
	}{
		{"", ``, verdict.Medium, "", false},
		{"", `severity = "high"`, verdict.High, "", false},
		{"", `severity = "Critical" score = 10`, verdict.Critical, "", false},
		{"", `severity = 100`, verdict.Critical, "", false},
		{"", `severity = 1`, verdict.Info, "", false},
		{"", `severity = 4`, verdict.High, "", false},
		{"", `severity = 8`, verdict.High, "", false},
		{"", `severity = "what" score = 75`, verdict.High, "", false},
		{"", `score = 90`, verdict.Critical, "", false},
		{"", `score = "60"`, verdict.Medium, "", false},
		{"", `score = 30`, verdict.Low, "", false},
		{"", `score = -5`, verdict.Info, "", false},
		{" : LOW T1059_004", ``, verdict.Low, "T1059.004", false},
		{"", `mitre_attack = "T1059.004"`, verdict.Medium, "T1059.004", false},
		{"", `attack = "attack.t1496"`, verdict.Medium, "T1496", false},
		{"", `scan_context = "file, memory"`, verdict.Medium, "", true},
		{"", `memory = true`, verdict.Medium, "", true},
		{" : memory", ``, verdict.Medium, "", true},
	} {
		meta := ""
		if c.meta != "" {
			meta = "meta: " + c.meta
		}
		r := rules(t, "rule a"+c.head+" { "+meta+" condition: true }").rules[0]
		if r.Severity != c.severity || r.Technique != c.technique || r.inMemory != c.memory {
			t.Errorf("%s %s: %s %q %v", c.head, c.meta, r.Severity, r.Technique, r.inMemory)
		}
	}
	r := rules(t, `rule a { meta: description = "what" author = "somebody" date = "2026-01-02" reference = "https://x.example" condition: true }`).Rules()[0]
	if r.Title != "what" || r.Language != "YARA" || r.Origin != "/rules/mine.yar" || r.Rationale != "From line 1 of /rules/mine.yar, by somebody, of 2026-01-02, see https://x.example." {
		t.Errorf("%+v", r)
	}
}

// whole is the text of all items, which must be the source.
func whole(items []item) string {
	var b strings.Builder
	for i := range items {
		b.WriteString(items[i].text)
	}
	return b.String()
}

func FuzzSplit(f *testing.F) {
	for _, s := range []string{
		"", "// c", "rule a { condition: true }", "import \"pe\"\nprivate global rule a : t1 t2 { meta: a = 1 strings: $a = { 01 [2] ?? } $b = /x\\/y/i condition: any of them }",
		"rule a { strings: $a = \"x", "include \"x\"\nrule a", "rule rule rule {", "}}}{{{", "rule a{condition:true}rule b{condition:a}", "/*", "private", "\xef\xbb\xbfrule a { condition: true }", "global\nglobal rule x {",
		"rule a { condition: for any i in (1..#a) : ( @a[i] == 3 ) and any of (b*) and pe.x }",
	} {
		f.Add(s)
	}
	names, err := filepath.Glob("rules/*.yar")
	if err != nil || len(names) == 0 {
		f.Fatal("no rules", err)
	}
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b))
	}
	f.Fuzz(func(t *testing.T, src string) {
		items := split("x.yar", src)
		if got := whole(items); got != src {
			t.Fatalf("the items make %q of %q", got, src)
		}
		line := 0
		for _, it := range items {
			if it.line < line || it.line < 1 {
				t.Fatalf("line %d after %d", it.line, line)
			}
			line = it.line
		}
		if len(src) > 4<<10 {
			return
		}
		// Each rule is taken or refused.
		s := Empty()
		loaded, refused := s.Add("x.yar", []byte(src))
		count := 0
		for _, it := range items {
			if it.kind == itemRule {
				count++
			}
		}
		named := 0
		for _, r := range refused {
			if r.Rule != "" {
				named++
			}
		}
		if loaded+named != count {
			t.Fatalf("%d rules: %d loaded, %d refused:\n%s", count, loaded, named, told(refused))
		}
		if loaded > 0 {
			if _, err := s.program(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
