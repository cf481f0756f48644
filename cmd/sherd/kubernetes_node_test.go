package main

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sherd-forensics/sherd/collect/relay"
	"github.com/sherd-forensics/sherd/target/kubernetes"
)

func TestClockWords(t *testing.T) {
	asked := time.Date(2026, 11, 29, 3, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		clock time.Duration // of the node when the greeting was written, after asked
		took  time.Duration
		want  string
		alarm bool
	}{
		"same":        {50 * time.Millisecond, 100 * time.Millisecond, "0.000 s ahead of this machine's, give or take 0.050 s", false},
		"behind":      {-time.Hour + 50*time.Millisecond, 100 * time.Millisecond, "3600.000 s behind", true},
		"ahead":       {5*time.Second + time.Second, 2 * time.Second, "5.000 s ahead of this machine's, give or take 1.000 s", true},
		"not certain": {5*time.Second + 4*time.Second, 8 * time.Second, "give or take 4.000 s", false},
	} {
		h := relay.Hello{Clock: asked.Add(c.clock).UnixNano(), At: asked.Add(c.took)}
		o := h.Offset(asked)
		if words, alarm := clockWords(&o); !strings.Contains(words, c.want) || alarm != c.alarm {
			t.Errorf("%s: %q, %t", name, words, alarm)
		}
	}
	if words, alarm := clockWords(nil); words != "" || alarm {
		t.Error("a collector that did not say its time has one")
	}
}

// TestExpected: a static pod's copy at the API server has another id than the pod on the node.
func TestExpected(t *testing.T) {
	i := &kubernetes.Instance{Container: "app", Pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart", UID: "u1"}}}
	if e := expected(i); *e != (relay.Expect{Namespace: "shop", Pod: "cart", UID: "u1", Container: "app"}) {
		t.Errorf("%+v", e)
	}
	i.Pod.Annotations = map[string]string{"kubernetes.io/config.hash": "h1", "kubernetes.io/config.mirror": "h1"}
	if e := expected(i); e.UID != "h1" {
		t.Errorf("%+v", e)
	}
}
