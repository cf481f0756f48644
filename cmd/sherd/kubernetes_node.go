package main

import (
	"fmt"
	"time"

	"github.com/sherd-forensics/sherd/collect/relay"
	"github.com/sherd-forensics/sherd/internal/printable"
	"github.com/sherd-forensics/sherd/target/kubernetes"
)

// expected is what the node's runtime must say of the container for it to be the one that is meant.
func expected(i *kubernetes.Instance) *relay.Expect {
	e := &relay.Expect{Namespace: i.Pod.Namespace, Pod: i.Pod.Name, UID: string(i.Pod.UID), Container: i.Container}
	// The API server's copy of a static pod has an id of its own; the node knows the pod by the hash of its file.
	if hash := i.Pod.Annotations["kubernetes.io/config.hash"]; hash != "" && i.Pod.Annotations["kubernetes.io/config.mirror"] != "" {
		e.UID = hash
	}
	return e
}

// skewed is how far apart clocks may be before one is told.
const skewed = 2 * time.Second

// clockWords say how the node's clock stands against this machine's, for the package's custody; alarm is true where it matters to whoever
// compares times.
func clockWords(o *relay.Offset) (words string, alarm bool) {
	if o == nil {
		return "", false
	}
	side, by := "ahead of", o.By
	if by < 0 {
		side, by = "behind", -by
	}
	return fmt.Sprintf("the node's clock is %.3f s %s this machine's, give or take %.3f s", by.Seconds(), side, o.Within.Seconds()), by-o.Within > skewed
}

// tellOfNode notes what whoever reads the package should know of how it was had, and returns what its custody holds about it.
func (k *clusterCapture) tellOfNode(url, path string, res *relay.Result) string {
	note := url
	if words, alarm := clockWords(res.Clock); words != "" {
		note += "; " + words
		if alarm {
			k.a.note("%s: %s. Times in the package are the node's", url, words)
		}
	}
	if res.Target != "" {
		note += "; captured as " + res.Target
		k.a.note("%s: of the container that the API server's status names, the node says: %s. Captured is %s, which its runtime knows by this name",
			url, printable.Text(res.Why), printable.Text(res.Target))
	}
	if path == "-" {
		k.a.note("the streamed package has the sha256 %s and keeps the signature of the collector, whose key %s was made for it alone: note them, or write it to a file to have it signed with yours",
			printable.Text(res.SHA256), printable.Text(res.KeyID))
	}
	return note
}
