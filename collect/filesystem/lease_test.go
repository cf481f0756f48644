package filesystem

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/internal/safefs"
	"github.com/sherd-forensics/sherd/internal/testenv"
)

// TestLease sees a write lease as the collector does before it opens a file: opening it would signal its holder.
func TestLease(t *testing.T) {
	testenv.NeedRoot(t)
	path := filepath.Join(t.TempDir(), "leased")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	var before safefs.Leases
	if before.Write("/proc", st.Dev, st.Ino) {
		t.Error("a lease is seen where none is")
	}
	if _, err := unix.FcntlInt(f.Fd(), syscall.F_SETLEASE, unix.F_WRLCK); err != nil {
		testenv.Skip(t, "this file system gives no leases: "+err.Error())
	}
	var l safefs.Leases
	if !l.Write("/proc", st.Dev, st.Ino) {
		t.Error("the lease is not seen")
	}
}
