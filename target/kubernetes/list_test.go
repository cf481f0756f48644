package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func handle(t *testing.T, h http.HandlerFunc) *Cluster {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return connect(t, s.URL)
}

// TestListPages: a list comes in pages; one that grew too old is begun again, and nothing stands in it twice.
func TestListPages(t *testing.T) {
	asked, expired := 0, false
	c := handle(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		asked++
		switch page := r.URL.Query().Get("continue"); {
		case page == "":
			fmt.Fprint(w, `{"apiVersion":"v1","kind":"NodeList","metadata":{"continue":"2"},"items":[{"metadata":{"name":"b"}}]}`)
		case !expired:
			expired = true
			w.WriteHeader(http.StatusGone)
			fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired","code":410,"message":"too old"}`)
		default:
			fmt.Fprint(w, `{"apiVersion":"v1","kind":"NodeList","metadata":{},"items":[{"metadata":{"name":"a"}}]}`)
		}
	})
	for range 2 { // the second is answered from what is known
		list, err := c.List(t.Context(), Nodes, "")
		if err != nil || len(list) != 2 || list[0].GetName() != "a" || list[0].GetKind() != "Node" || list[0].GetAPIVersion() != "v1" {
			t.Fatalf("%v, %v", list, err)
		}
	}
	if asked != 4 {
		t.Errorf("asked %d times", asked)
	}
}

// TestListBounded: of an endless list so many are looked at.
func TestListBounded(t *testing.T) {
	c := handle(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"apiVersion":"v1","kind":"NodeList","metadata":{"continue":"x"},"items":[`)
		for i := range 5000 {
			if i > 0 {
				fmt.Fprint(w, ",")
			}
			fmt.Fprint(w, `{"metadata":{"name":"a"}}`)
		}
		fmt.Fprint(w, `]}`)
	})
	list, err := c.List(t.Context(), Nodes, "")
	var cut *TruncatedError
	if !errors.As(err, &cut) || len(list) != maxObjects {
		t.Errorf("%d, %v", len(list), err)
	}
}

// TestShared: who asks at the same time shares an answer, a failure that may pass is asked for again, and one who gives up does not make others
// fail.
func TestShared(t *testing.T) {
	var asked atomic.Int32
	release := make(chan struct{})
	c := handle(t, func(w http.ResponseWriter, r *http.Request) {
		n := asked.Add(1)
		w.Header().Set("Content-Type", "application/json")
		if n == 1 {
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
		fmt.Fprint(w, `{"apiVersion":"v1","kind":"Node","metadata":{"name":"a"}}`)
	})
	first, giveUp := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := c.Get(first, Nodes, "", "a"); !errors.Is(err, context.Canceled) {
			t.Errorf("who gave up got %v", err)
		}
	})
	for asked.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	for range 5 {
		wg.Go(func() {
			if u, err := c.Get(t.Context(), Nodes, "", "a"); err != nil || u.GetName() != "a" {
				t.Errorf("%v, %v", u, err)
			}
		})
	}
	giveUp()
	wg.Wait()
	close(release)
	if n := asked.Load(); n != 2 {
		t.Errorf("asked %d times", n)
	}

	broken := true
	c = handle(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if broken {
			w.WriteHeader(http.StatusInternalServerError)
			fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"InternalError","code":500,"message":"x"}`)
			return
		}
		fmt.Fprint(w, `{"apiVersion":"v1","kind":"Node","metadata":{"name":"a"}}`)
	})
	if _, err := c.Get(t.Context(), Nodes, "", "a"); err == nil {
		t.Error("a failure is none")
	}
	broken = false
	if _, err := c.Get(t.Context(), Nodes, "", "a"); err != nil {
		t.Errorf("the failure stayed: %v", err)
	}
}

// TestVersions: a group that the server has, and one that it has not.
func TestVersions(t *testing.T) {
	c := server(t, map[string]string{"/apis/gateway.networking.k8s.io": `{"kind":"APIGroup","apiVersion":"v1","name":"gateway.networking.k8s.io","versions":[{"groupVersion":"g/v1","version":"v1"},{"groupVersion":"g/v1beta1","version":"v1beta1"}]}`})
	if got, err := c.Versions(t.Context(), "gateway.networking.k8s.io"); err != nil || len(got) != 2 || got[0] != "v1" {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := c.Versions(t.Context(), "none.example"); err != nil || len(got) != 0 {
		t.Errorf("%q, %v", got, err)
	}
}
