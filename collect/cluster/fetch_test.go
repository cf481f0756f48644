package cluster

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"testing"

	"github.com/sherd-forensics/sherd/collect/relay"
)

// TestReceived: a package in pieces is whole only if it is what the collector says that it made.
func TestReceived(t *testing.T) {
	const content = "a package that came in pieces"
	made := relay.Result{Size: int64(len(content)), SHA256: fmt.Sprintf("%x", sha256.Sum256([]byte(content)))}
	for name, c := range map[string]struct {
		came string
		good bool
	}{
		"whole":   {content, true},
		"short":   {content[:10], false},
		"changed": {"A" + content[1:], false},
		"longer":  {content + "!", false},
	} {
		var out bytes.Buffer
		r := &received{w: &out, sum: sha256.New()}
		for i := 0; i < len(c.came); i += 7 {
			if _, err := r.Write([]byte(c.came[i:min(len(c.came), i+7)])); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.check(&made); (err == nil) != c.good || out.String() != c.came {
			t.Errorf("%s: %v, wrote %q", name, err, out.String())
		}
	}
}
