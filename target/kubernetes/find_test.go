package kubernetes

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// server answers with documents by path and query, and Forbidden or NotFound as it is told.
func server(t *testing.T, answers map[string]string) *Cluster {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		answer, ok := answers[r.URL.RequestURI()]
		if !ok {
			answer, ok = answers[r.URL.Path]
		}
		switch {
		case !ok:
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404,"message":%q}`, r.URL.RequestURI()+" is not found")
		case strings.HasPrefix(answer, "deny "):
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403,"message":%q}`, answer[5:])
		default:
			fmt.Fprint(w, answer)
		}
	}))
	t.Cleanup(s.Close)
	return connect(t, s.URL)
}

func connect(t *testing.T, url string) *Cluster {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config")
	config := `{"apiVersion":"v1","kind":"Config","current-context":"x","contexts":[{"name":"x","context":{"cluster":"x","user":"x"}}],
		"users":[{"name":"x","user":{}}],"clusters":[{"name":"x","cluster":{"server":"` + url + `"}}]}`
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Connect(Access{Kubeconfig: file})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// cart is a pod with a container of each role and in each state.
const cart = `{"apiVersion":"v1","kind":"Pod","metadata":{"namespace":"shop","name":"cart","uid":"u1","ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"cart-1","uid":"rs1","controller":true}]},
"spec":{"nodeName":"n1","initContainers":[{"name":"setup","image":"setup:1"},{"name":"proxy","image":"proxy:1","restartPolicy":"Always"}],
 "containers":[{"name":"app","image":"app:1"},{"name":"loop","image":"loop:1"},{"name":"late","image":"late:1"}],"ephemeralContainers":[{"name":"debug","image":"busybox"}]},
"status":{"initContainerStatuses":[{"name":"setup","containerID":"containerd://s","imageID":"sha256:5555","state":{"terminated":{"reason":"Completed","containerID":"containerd://s"}}},
 {"name":"proxy","containerID":"containerd://p","state":{"running":{}}}],
 "containerStatuses":[{"name":"app","containerID":"containerd://a","imageID":"reg/app@sha256:abcdefabcdef0123","restartCount":1,"state":{"running":{}},"lastState":{"terminated":{"containerID":"containerd://a0","reason":"Error"}}},
 {"name":"loop","containerID":"containerd://l","restartCount":7,"state":{"waiting":{"reason":"CrashLoopBackOff"}},"lastState":{"terminated":{"containerID":"containerd://l","reason":"Error"}}},
 {"name":"late","state":{"waiting":{"reason":"ImagePullBackOff"}}}]}}`

func TestInstances(t *testing.T) {
	c := server(t, map[string]string{"/api/v1/namespaces/shop/pods/cart": cart})
	ref, err := ParseRef("shop/cart")
	if err != nil {
		t.Fatal(err)
	}
	found, err := c.Find(t.Context(), Query{Ref: &ref})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, i := range found {
		got = append(got, fmt.Sprintf("%s %s id=%s state=%s reason=%s restarts=%d previous=%v digest=%s", i.URL(), i.Role, i.ID, i.State, i.Reason, i.Restarts, i.Previous, i.Digest()))
	}
	want := []string{
		"k8s://shop/cart/setup init id=containerd://s state=exited reason=Completed restarts=0 previous=[] digest=sha256:5555",
		"k8s://shop/cart/proxy sidecar id=containerd://p state=running reason= restarts=0 previous=[] digest=",
		"k8s://shop/cart/app app id=containerd://a state=running reason= restarts=1 previous=[containerd://a0] digest=sha256:abcdefabcdef0123",
		"k8s://shop/cart/loop app id=containerd://l state=exited reason=CrashLoopBackOff restarts=7 previous=[] digest=",
		"k8s://shop/cart/late app id= state=created reason=ImagePullBackOff restarts=0 previous=[] digest=",
		"k8s://shop/cart/debug ephemeral id= state=created reason= restarts=0 previous=[] digest=",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// list puts pods into a list.
func list(pods ...string) string {
	return `{"apiVersion":"v1","kind":"PodList","metadata":{},"items":[` + strings.Join(pods, ",") + `]}`
}

func named(name, owner string) string {
	return strings.NewReplacer(`"name":"cart"`, `"name":"`+name+`"`, `"uid":"rs1"`, `"uid":"`+owner+`"`).Replace(cart)
}

// TestWorkload: what a selector finds and the workload does not own is not meant.
func TestWorkload(t *testing.T) {
	c := server(t, map[string]string{
		"/apis/apps/v1/namespaces/shop/deployments/cart": `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"namespace":"shop","name":"cart","uid":"d1"},"spec":{"selector":{"matchLabels":{"app":"cart"}}}}`,
		"/apis/apps/v1/namespaces/shop/replicasets": `{"apiVersion":"apps/v1","kind":"ReplicaSetList","metadata":{},"items":[
			{"apiVersion":"apps/v1","kind":"ReplicaSet","metadata":{"name":"cart-1","uid":"rs1","ownerReferences":[{"apiVersion":"apps/v1","kind":"Deployment","name":"cart","uid":"d1"}]}},
			{"apiVersion":"apps/v1","kind":"ReplicaSet","metadata":{"name":"other","uid":"rs2"}}]}`,
		"/api/v1/namespaces/shop/pods?labelSelector=app%3Dcart&limit=500&timeout=30s": list(named("b", "rs1"), named("stranger", "rs2"), named("a", "rs1")),
	})
	ref, err := ParseRef("shop/deploy/cart/app")
	if err != nil {
		t.Fatal(err)
	}
	found, err := c.Find(t.Context(), Query{Ref: &ref})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, i := range found {
		got = append(got, i.URL())
	}
	if want := []string{"k8s://shop/a/app", "k8s://shop/b/app"}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestDigest(t *testing.T) {
	c := server(t, map[string]string{"/api/v1/pods": list(named("a", "x"), named("b", "x"))})
	found, err := c.Find(t.Context(), Query{Digest: "sha256:abcdefabcdef"})
	if err != nil || len(found) != 2 {
		t.Fatalf("%d found, %v", len(found), err)
	}
	if _, err := c.Find(t.Context(), Query{Digest: "sha256:abcdefabcdee"}); err == nil {
		t.Error("another digest is found")
	}
}

// TestErrors holds errors to what helps.
func TestErrors(t *testing.T) {
	c := server(t, map[string]string{
		"/api/v1/namespaces/shut/pods/cart": `deny pods "cart" is forbidden: User "kira" cannot get resource "pods" in API group "" in the namespace "shut"`,
		"/api/v1/namespaces/shop/pods":      list(named("cart-7d9f", "x")),
		"/api/v1/namespaces/shop/pods/cart": cart,
	})
	for in, want := range map[string]string{
		"shut/cart/app":   "kira may not get pods in namespace shut. Who administers the cluster grants it with:\n    kubectl create role sherd-get-pods -n shut --verb=get --resource=pods\n",
		"shop/cart-7d9/a": "(shop/cart-7d9f is running)",
		"shop/cart/none":  `the pod has no container "none"; it has app, debug, late, loop, proxy, setup`,
		"shop/sts/cart":   `no statefulset named "cart" in namespace shop`,
	} {
		ref, err := ParseRef(in)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Find(t.Context(), Query{Ref: &ref}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v\nlacks %s", in, err, want)
		}
	}
	ref, _ := ParseRef("shop/cart")
	var u *UnreachableError
	if _, err := connect(t, "http://127.0.0.1:1").Find(t.Context(), Query{Ref: &ref}); !errors.As(err, &u) || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("%v", err)
	}
	if _, err := Connect(Access{Kubeconfig: "/none"}); !errors.As(err, &u) {
		t.Errorf("%v", err)
	}
}
