package evidence

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the rows' description into docs/evidence-format.md")

const formatDoc = "../docs/evidence-format.md"

// TestFormatDocument holds the description of the rows against the types that they are written from.
func TestFormatDocument(t *testing.T) {
	b := must[[]byte](t)(os.ReadFile(formatDoc))
	head, rest, ok1 := strings.Cut(string(b), "from evidence/record -->\n")
	_, tail, ok2 := strings.Cut(rest, "<!-- end of rows -->")
	if !ok1 || !ok2 {
		t.Fatal("the document has no place for the rows")
	}
	want := head + "from evidence/record -->\n" + describeRows(t) + "<!-- end of rows -->" + tail
	if *update {
		if err := os.WriteFile(formatDoc, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(b) != want {
		t.Error("docs/evidence-format.md does not describe the rows as they are: run `go test ./evidence -run TestFormatDocument -update`")
	}
}

// TestFormatKeys holds the documents that this package writes against the page.
func TestFormatKeys(t *testing.T) {
	b := string(must[[]byte](t)(os.ReadFile(formatDoc)))
	for _, v := range []any{Statement{}, Subject{}, Digest{}, Seal{}, Span{}, Signer{}, jsonEntry{}, CustodyEntry{}} {
		typ := reflect.TypeOf(v)
		for i := range typ.NumField() {
			key, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			if !strings.Contains(b, "`"+key+"`") && !strings.Contains(b, `"`+key+`":`) {
				t.Errorf("%s.%s (%q) is not described", typ.Name(), typ.Field(i).Name, key)
			}
		}
	}
	for _, n := range []string{fmt.Sprintf("%#X", signatureMagic), fmt.Sprintf("%#X", seekMagic), predicateType, statementType, custodyType} {
		if !strings.Contains(strings.ReplaceAll(b, "0x", "0X"), strings.ReplaceAll(n, "0x", "0X")) {
			t.Errorf("%s is not described", n)
		}
	}
}

func describeRows(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob("record/*.go")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(files)
	var out strings.Builder
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.TYPE {
				continue
			}
			for _, s := range g.Specs {
				ts, _ := s.(*ast.TypeSpec)
				if st, ok := ts.Type.(*ast.StructType); ok && ts.Name.IsExported() {
					describeStruct(&out, ts.Name.Name, g.Doc.Text(), st)
				}
			}
		}
	}
	return out.String() + "\n"
}

func describeStruct(out *strings.Builder, name, doc string, st *ast.StructType) {
	var rows strings.Builder
	for _, f := range st.Fields.List {
		if f.Tag == nil {
			continue
		}
		tag, err := strconv.Unquote(f.Tag.Value)
		if err != nil {
			continue
		}
		key, opts, _ := strings.Cut(reflect.StructTag(tag).Get("json"), ",")
		if key == "" || key == "-" {
			continue
		}
		opt := ""
		if strings.Contains(opts, "omit") {
			opt = ", opt."
		}
		text := strings.TrimSpace(oneLine(f.Doc.Text()) + " " + oneLine(f.Comment.Text()))
		fmt.Fprintf(&rows, "| `%s` | %s%s | %s |\n", key, jsonType(f.Type), opt, text)
	}
	if rows.Len() > 0 {
		fmt.Fprintf(out, "\n**%s.** %s\n\n| key | type | meaning |\n|---|---|---|\n%s", name, oneLine(doc), rows.String())
	}
}

func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	return strings.NewReplacer("|", `\|`, "<", "&lt;").Replace(s)
}

// jsonType says how a field looks in JSON.
func jsonType(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return jsonType(e.X)
	case *ast.ArrayType:
		if id, ok := e.Elt.(*ast.Ident); ok && id.Name == "byte" {
			return "base64"
		}
		return "list of " + jsonType(e.Elt)
	case *ast.MapType:
		return "object of " + jsonType(e.Value)
	case *ast.Ident:
		switch {
		case e.Name == "Name":
			return "name"
		case e.Name == "bool":
			return "boolean"
		case strings.Contains(e.Name, "int"):
			return "integer"
		}
		return e.Name
	}
	return "value"
}
