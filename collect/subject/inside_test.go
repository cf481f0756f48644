package subject

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/target"
)

// TestInside: from within a pod process 1 is the container's own, and what we run beside it is nobody's.
func TestInside(t *testing.T) {
	f := fake{t, t.TempDir()}
	f.add(1, 0, "/kubepods/pod/app", "pod", "app")
	f.add(20, 1, "/kubepods/pod/app", "pod", "app")
	f.add(21, 0, "/kubepods/pod/app", "pod", "app") // an exec
	f.add(22, 20, "/", "deeper", "e")               // left everything but its parent
	f.add(30, 0, "/kubepods/pod/other", "pod", "other")
	f.add(40, 0, "/kubepods/pod/sherd", "pod", "sherd") // wait
	f.add(50, 0, "/kubepods/pod/sherd", "pod", "sherd") // ask
	f.check(os.Symlink("40", filepath.Join(f.dir, "self")))
	want := map[int]string{1: record.InCgroup, 20: record.InCgroup, 21: record.InCgroup, 22: record.Descendant}
	same(t, f.list(&target.Container{PID: 1, Inside: true}), want)
	if got, err := Sharing(&target.Container{PID: 1, Inside: true}, f.dir); err != nil || len(got) != 0 {
		t.Errorf("shared with %+v, %v", got, err)
	}
}
