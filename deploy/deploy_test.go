package deploy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"text/template"

	"sigs.k8s.io/yaml"
)

// all is what is in every form: all roles, each given to a group of its own.
func all(t *testing.T) map[string]any {
	t.Helper()
	out := map[string]any{}
	for _, r := range Roles {
		b, err := Manifests(Options{Namespace: "sherd", Roles: []string{r.Name}, Groups: []string{"sherd-" + r.Name}})
		if err != nil {
			t.Fatal(err)
		}
		maps.Copy(out, documents(t, b))
	}
	return out
}

// documents are the objects of a stream of YAML, by kind and name.
func documents(t *testing.T, b []byte) map[string]any {
	t.Helper()
	out := map[string]any{}
	for doc := range strings.SplitSeq("\n"+string(b), "\n---\n") {
		var x map[string]any
		if err := yaml.UnmarshalStrict([]byte(doc), &x); err != nil {
			t.Fatalf("%v:\n%s", err, doc)
		}
		if x == nil {
			continue
		}
		meta := x["metadata"].(map[string]any)
		key := fmt.Sprint(x["kind"], " ", meta["namespace"], "/", meta["name"])
		if old, twice := out[key]; twice && !reflect.DeepEqual(old, x) {
			t.Errorf("%s is there twice, and not the same", key)
		}
		out[key] = x
	}
	return out
}

func same(t *testing.T, what string, got, want map[string]any) {
	t.Helper()
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if !reflect.DeepEqual(got[k], want[k]) {
			t.Errorf("%s has another %s:\n%s\nwant\n%s", what, k, text(got[k]), text(want[k]))
		}
	}
	for k := range got {
		if want[k] == nil {
			t.Errorf("%s has %s besides", what, k)
		}
	}
}

func text(x any) string {
	b, err := json.Marshal(x)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// TestHelm renders the chart, by those of Helm's functions that it uses, and finds what is printed.
func TestHelm(t *testing.T) {
	subject := func(name string) []any {
		return []any{map[string]any{"kind": "Group", "name": name, "apiGroup": group}}
	}
	values := map[string]any{}
	b, err := os.ReadFile("helm/sherd/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(b, &values); err != nil {
		t.Fatal(err)
	}
	roles := values["roles"].(map[string]any)
	for name, role := range map[string]string{"look": "look", "capture": "capture", "capturePod": "capture-pod", "contain": "contain"} {
		r := roles[name].(map[string]any)
		if enabled := r["enabled"].(bool); enabled != slices.Contains(Usual, role) {
			t.Errorf("%s is enabled: %v", role, enabled)
		}
		r["enabled"], r["subjects"] = true, subject("sherd-"+role)
	}
	same(t, "the chart", documents(t, render(t, values)), all(t))

	values["collector"] = map[string]any{"image": "r.example/c:1", "pullPolicy": "Always", "pullSecrets": []any{"a", "b"}}
	b, err = Manifests(Options{Namespace: "sherd", Image: "r.example/c:1", Pull: "Always", Secrets: []string{"a", "b"}})
	if err != nil {
		t.Fatal(err)
	}
	want, got := documents(t, b)["Namespace <nil>/sherd"], documents(t, render(t, values))["Namespace <nil>/sherd"]
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the chart's namespace is\n%s\nnot\n%s", text(got), text(want))
	}
}

func render(t *testing.T, values map[string]any) []byte {
	t.Helper()
	names, err := filepath.Glob("helm/sherd/templates/*.yaml")
	if err != nil || len(names) == 0 {
		t.Fatalf("%q, %v", names, err)
	}
	functions := template.FuncMap{
		"quote": func(v any) string { return fmt.Sprintf("%q", fmt.Sprint(v)) },
		"toYaml": func(v any) (string, error) {
			b, err := yaml.Marshal(v)
			return strings.TrimSuffix(string(b), "\n"), err
		},
		"nindent": func(n int, s string) string {
			pad := "\n" + strings.Repeat(" ", n)
			return pad + strings.ReplaceAll(s, "\n", pad)
		},
		"join": func(sep string, list []any) string {
			var out []string
			for _, x := range list {
				out = append(out, fmt.Sprint(x))
			}
			return strings.Join(out, sep)
		},
	}
	var out bytes.Buffer
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		tmpl, err := template.New(name).Funcs(functions).Option("missingkey=error").Parse(string(b))
		if err != nil {
			t.Fatal(err)
		}
		out.WriteString("---\n")
		if err := tmpl.Execute(&out, map[string]any{"Values": values}); err != nil {
			t.Fatal(err)
		}
		out.WriteString("\n")
	}
	return out.Bytes()
}

// TestManifests: only what is asked for is there, in the namespace that is asked for, and for those who are named.
func TestManifests(t *testing.T) {
	b, err := Manifests(Options{Namespace: "forensics", Roles: []string{"capture"}, Users: []string{"kira"}, Accounts: []string{"ci:robot"}})
	if err != nil {
		t.Fatal(err)
	}
	got := documents(t, b)
	want := []string{"ClusterRole <nil>/sherd-look", "ClusterRoleBinding <nil>/sherd-capture-look", "Namespace <nil>/forensics", "ResourceQuota forensics/sherd",
		"Role forensics/sherd-capture", "RoleBinding forensics/sherd-capture"}
	if keys := slices.Sorted(maps.Keys(got)); !slices.Equal(keys, want) {
		t.Errorf("%q, want %q", keys, want)
	}
	if s := text(got["RoleBinding forensics/sherd-capture"]); !strings.Contains(s, `{"kind":"ServiceAccount","name":"robot","namespace":"ci"}`) || !strings.Contains(s, "kira") {
		t.Error(s)
	}
	again, err := Manifests(Options{Namespace: "forensics", Roles: []string{"capture"}, Users: []string{"kira"}, Accounts: []string{"ci:robot"}})
	if err != nil || !bytes.Equal(b, again) {
		t.Error("the same choices print something else")
	}
	for name, o := range map[string]Options{"a role": {Roles: []string{"root"}}, "an account": {Accounts: []string{"robot"}}} {
		if _, err := Manifests(o); err == nil {
			t.Errorf("%s that is none is taken", name)
		}
	}
}
