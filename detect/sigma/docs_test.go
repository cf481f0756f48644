package sigma

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestDocs: docs/sigma.md names each log source and each field.
func TestDocs(t *testing.T) {
	b, err := os.ReadFile("../../docs/sigma.md")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ToLower(string(b))
	words := strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" ,|\n`;", r) })
	for _, s := range sources {
		if !strings.Contains(text, "**"+s.name+"**") {
			t.Errorf("%s is not in docs/sigma.md", s.name)
		}
		for f := range s.fields {
			if s.name == "linux auditd" && len(f) == 2 && f[0] == 'a' {
				continue // "a0 to a9"
			}
			if !slices.Contains(words, strings.TrimPrefix(f, "requestparameters.")) && !slices.Contains(words, strings.TrimSuffix(f, ".")) {
				t.Errorf("%s: field %s is not in docs/sigma.md", s.name, f)
			}
		}
	}
}
