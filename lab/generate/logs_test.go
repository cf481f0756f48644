package generate_test

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/sherd-forensics/sherd/lab/generate"
)

// TestLogs: as many lines as asked for, JSON where JSON is meant, and the same bytes again.
func TestLogs(t *testing.T) {
	const n = 20_000
	one, two := t.TempDir(), t.TempDir()
	files, err := generate.Logs(one, n, 3)
	if err != nil {
		t.Fatal(err)
	}
	again, err := generate.Logs(two, n, 3)
	if err != nil || len(again) != len(files) {
		t.Fatal(err, len(again))
	}
	lines, byForm := 0, map[string]int{}
	for i, f := range files {
		b, err := os.ReadFile(f.Path)
		if err != nil {
			t.Fatal(err)
		}
		c, err := os.ReadFile(again[i].Path)
		if err != nil || !bytes.Equal(b, c) {
			t.Errorf("%s differs the second time (%v)", f.Path, err)
		}
		lines += f.Lines
		byForm[f.Form] += f.Lines
		for l := range strings.Lines(string(b)) {
			l = strings.TrimSuffix(l, "\n")
			switch f.Form {
			case "cri":
				l = strings.SplitN(l, " ", 4)[3]
				fallthrough
			case "docker", "k8saudit":
				if !json.Valid([]byte(l)) {
					t.Fatalf("%s: no JSON: %s", f.Form, l)
				}
			}
			if len(l) < 20 || len(l) > 900 {
				t.Errorf("%s: a line of %d bytes: %s", f.Form, len(l), l)
			}
		}
	}
	if lines != n || len(byForm) != 6 {
		t.Errorf("%d lines, %v", lines, byForm)
	}
}
