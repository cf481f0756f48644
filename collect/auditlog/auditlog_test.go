package auditlog

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var cart = Subject{Namespace: "shop", Pod: "cart", UID: "u1", Account: "cart", Owners: []string{"replicasets/cart-1", "deployments/cart"}}

func line(rest string) string {
	return `{"kind":"Event","apiVersion":"audit.k8s.io/v1","stage":"ResponseComplete",` + rest + `}`
}

func write(t *testing.T, name string, content []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestConcerns: which lines are about a pod or by it.
func TestConcerns(t *testing.T) {
	const me = `"user":{"username":"system:serviceaccount:shop:cart"}`
	const kira = `"user":{"username":"kira"}`
	ref := func(resource, namespace, name string) string {
		return fmt.Sprintf(`"objectRef":{"resource":%q,"namespace":%q,"name":%q}`, resource, namespace, name)
	}
	for _, c := range []struct {
		line string
		want bool
	}{
		{line(`"verb":"get",` + kira + `,` + ref("pods", "shop", "cart")), true},
		{line(`"verb":"create",` + kira + `,"objectRef":{"resource":"pods","namespace":"shop","name":"cart","subresource":"exec"}`), true},
		{line(`"verb":"get",` + kira + `,` + ref("pods", "shop", "cart-2")), false},
		{line(`"verb":"get",` + kira + `,` + ref("pods", "other", "cart")), false},
		{line(`"verb":"list",` + kira + `,` + ref("pods", "shop", "")), false},
		{line(`"verb":"create",` + kira + `,` + ref("pods", "shop", "") + `,"responseObject":{"metadata":{"name":"cart"}}`), true},
		{line(`"verb":"list",` + me + `,` + ref("secrets", "kube-system", "")), true},
		{line(`"verb":"get",` + me + `,"requestURI":"/version"`), true},
		{line(`"verb":"get","user":{"username":"system:serviceaccount:shop:cart2"},` + ref("secrets", "shop", "x")), false},
		{line(`"verb":"list",` + kira + `,"impersonatedUser":{"username":"system:serviceaccount:shop:cart"},` + ref("secrets", "kube-system", "")), true},
		{line(`"verb":"list","user":{"username":"system:serviceaccount:shop:other","extra":{"authentication.kubernetes.io/pod-name":["cart"]}},` + ref("secrets", "shop", "")), true},
		{line(`"verb":"list","user":{"username":"system:serviceaccount:zoo:other","extra":{"authentication.kubernetes.io/pod-name":["cart"]}},` + ref("secrets", "shop", "")), false},
		{line(`"verb":"patch",` + kira + `,` + ref("deployments", "shop", "cart")), true},
		{line(`"verb":"get",` + kira + `,` + ref("deployments", "shop", "cart")), false},
		{line(`"verb":"create",` + kira + `,` + ref("serviceaccounts", "shop", "cart")), true}, // a token, by its subresource
		{line(`"verb":"create",` + kira + `,` + ref("clusterrolebindings", "", "x") + `,"requestObject":{"subjects":[{"kind":"ServiceAccount","namespace":"shop","name":"cart"}]}`), true},
		{line(`"verb":"create",` + kira + `,` + ref("rolebindings", "shop", "x") + `,"requestObject":{"subjects":[{"kind":"ServiceAccount","name":"cart"}]}`), true},
		{line(`"verb":"create",` + kira + `,` + ref("rolebindings", "other", "x") + `,"requestObject":{"subjects":[{"kind":"ServiceAccount","name":"cart"}]}`), false},
		{`{"message":"{\"apiVersion\":\"audit.k8s.io/v1\",\"verb\":\"get\",\"user\":{\"username\":\"system:serviceaccount:shop:cart\"}}"}`, true},
		{`{"category":"kube-audit","properties":{"log":"{\"apiVersion\":\"audit.k8s.io/v1\",\"verb\":\"get\",\"user\":{\"username\":\"system:serviceaccount:shop:cart\"}}"}}`, true},
		{`{"kind":"Pod","metadata":{"namespace":"shop","name":"cart"},"user":{"username":"system:serviceaccount:shop:cart"}}`, false},
		{`shop cart {`, false},
		{line(`"verb":"get","user":7,` + ref("pods", "shop", "cart")), false},
		{line(`"verb":null,"user":null,"objectRef":null,"requestURI":"shop"`), false},
	} {
		e, err := Scan(t.Context(), []string{write(t, "a.log", []byte(c.line+"\r\n"))}, []Subject{cart})
		if err != nil {
			t.Fatal(err)
		}
		if got := e[0].Matched == 1; got != c.want {
			t.Errorf("%s: %v", c.line, got)
		}
		if c.want && string(e[0].Lines()) != c.line+"\n" {
			t.Errorf("%q is kept as %q", c.line, e[0].Lines())
		}
	}
}

// TestScan reads two files, one compressed, for two pods that share an account.
func TestScan(t *testing.T) {
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	fmt.Fprintln(w, line(`"verb":"get","user":{"username":"system:serviceaccount:shop:cart"},"requestURI":"/one"`))
	fmt.Fprintln(w, line(`"verb":"get","user":{"username":"kira"},"objectRef":{"resource":"pods","namespace":"shop","name":"cart-b"}`))
	w.Close()
	files := []string{write(t, "old.log.gz", z.Bytes()), write(t, "new.log", []byte(line(`"verb":"get","user":{"username":"system:serviceaccount:shop:cart"},"requestURI":"/two"`)+"\n\n"+strings.Repeat("x", maxLine+10)+"\nlast"))}
	b := cart
	b.Pod, b.UID = "cart-b", "u2"
	e, err := Scan(t.Context(), files, []Subject{cart, b})
	if err != nil {
		t.Fatal(err)
	}
	if e[0].Matched != 2 || e[1].Matched != 3 || e[0].Origin != "2 lines about the pod and by its identity, of 5 in old.log.gz, new.log" {
		t.Errorf("%+v", e)
	}
	if len(e[0].Missed) != 1 || !strings.Contains(e[0].Missed[0], "1 lines are longer than 4 MiB") {
		t.Errorf("%q", e[0].Missed)
	}
	// A log of something else, one that breaks off, and one that is not there.
	e, err = Scan(t.Context(), []string{write(t, "x.log", []byte("hello\n")), write(t, "cut.gz", z.Bytes()[:z.Len()-12])}, []Subject{cart})
	if err != nil || len(e[0].Missed) < 2 || !strings.Contains(e[0].Missed[0], "none of its 1 lines is an audit event") || !strings.Contains(e[0].Missed[1], "can't be read on") {
		t.Errorf("%v, %+v", err, e)
	}
	if _, err := Scan(t.Context(), []string{"/no/such/file"}, []Subject{cart}); err == nil {
		t.Error("a file that is not there is no error")
	}
	if _, err := Scan(t.Context(), []string{t.TempDir()}, []Subject{cart}); err == nil {
		t.Error("a folder is no error")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Scan(ctx, []string{write(t, "many.log", bytes.Repeat([]byte("x\n"), 5000))}, []Subject{cart}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// TestBounded: of too many lines the first and the last are kept.
func TestBounded(t *testing.T) {
	var b bytes.Buffer
	for n := range 1000 {
		fmt.Fprintln(&b, line(fmt.Sprintf(`"verb":"get","user":{"username":"system:serviceaccount:shop:cart"},"requestURI":"/%04d"`, n)))
	}
	size := b.Len() / 1000
	e, err := scan(t.Context(), []string{write(t, "a.log", b.Bytes())}, []Subject{cart}, 10*size)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(e[0].Lines())), "\n")
	if len(lines) != 10 || e[0].Dropped != 990 || !strings.Contains(lines[4], "/0004") || !strings.Contains(lines[5], "/0995") || len(e[0].Missed) != 1 {
		t.Errorf("%d lines, %+v: %q", len(lines), e[0], lines)
	}
}

func FuzzLine(f *testing.F) {
	f.Add([]byte(line(`"verb":"get","user":{"username":"system:serviceaccount:shop:cart"}`)))
	f.Add([]byte(`{"message":"{\"apiVersion\":\"audit.k8s.io/v1\"}"}`))
	f.Fuzz(func(_ *testing.T, b []byte) {
		s := newScanner([]Subject{cart}, 1<<20)
		s.line(append([]byte("shop"), b...))
		s.line(b)
	})
}
