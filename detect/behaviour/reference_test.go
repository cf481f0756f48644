package behaviour

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
)

var update = flag.Bool("update", false, "write the reference into the page anew")

const (
	page  = "../../docs/writing-a-rule.md"
	start = "<!-- reference: written by go test ./detect/behaviour -update -->\n"
	end   = "<!-- end of reference -->\n"
)

func shortType(t *cel.Type) string {
	switch t.Kind() {
	case types.ListKind:
		return "list of " + shortType(t.Parameters()[0])
	case types.MapKind:
		return "map of " + shortType(t.Parameters()[0]) + " to " + shortType(t.Parameters()[1])
	case types.StringKind:
		return "text"
	case types.IntKind:
		return "number"
	case types.BoolKind:
		return "yes or no"
	case types.TimestampKind:
		return "time"
	case types.DurationKind:
		return "span"
	}
	return typeName(t)
}

// reference describes in Markdown what conditions can speak of.
func reference() string {
	var b strings.Builder
	b.WriteString("| `for:` | asks of | variables |\n|---|---|---|\n")
	for _, r := range ranges {
		names := make([]string, 0, 3)
		for _, k := range append(r.kinds[:len(r.kinds):len(r.kinds)], containerKind) {
			names = append(names, "`"+k.name+"`")
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", r.name, r.about, strings.Join(names, ", "))
	}
	for _, k := range kinds() {
		fmt.Fprintf(&b, "\n`%s` is %s.\n\n| field | type | what it is |\n|---|---|---|\n", k.name, k.about)
		for _, f := range k.fields {
			about := f.about
			if about == "" {
				about = "as its name says"
			}
			if f.secret {
				about += "; may be secret: not for `say`"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", f.name, shortType(f.typ), about)
		}
	}
	b.WriteString("\n| function | tells |\n|---|---|\n")
	for _, f := range functions() {
		fmt.Fprintf(&b, "| `%s` | %s |\n", f.call, f.about)
	}
	return b.String()
}

// TestReference holds the page to the code.
func TestReference(t *testing.T) {
	doc, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(doc), start)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the reference", page)
	}
	want := before + start + "\n" + reference() + "\n" + end + after
	if want == string(doc) {
		return
	}
	if !*update {
		t.Fatalf("%s tells of other fields than there are; write it anew with -update", page)
	}
	if err := os.WriteFile(page, []byte(want), 0o644); err != nil { //nolint:gosec // a page for everybody
		t.Fatal(err)
	}
}

// TestExamples loads the rules of this kind that the page shows.
func TestExamples(t *testing.T) {
	doc, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, block := range strings.Split(string(doc), "```yaml\n")[1:] {
		src, _, _ := strings.Cut(block, "```")
		if !strings.Contains(src, "\nwhen:") {
			continue
		}
		loaded, refused := New().Add("page.yaml", []byte(src))
		if len(refused) > 0 || loaded == 0 {
			t.Errorf("refused %+v:\n%s", refused, src)
		}
		n += loaded
	}
	if n < 3 {
		t.Errorf("the page has only %d rules", n)
	}
}
