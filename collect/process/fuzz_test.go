package process

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/sherd-forensics/sherd/evidence/record"
)

// FuzzFill: whatever /proc shows, the row is one that reads back as it was.
func FuzzFill(f *testing.F) {
	for _, name := range []string{"stat", "status", "cmdline", "cgroup"} {
		b, err := os.ReadFile("/proc/self/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(name, b)
	}
	f.Add("stat", []byte("1 (a) (b\n) R -1 9999999999999999999999 "))
	f.Add("stat", []byte(") ("))
	f.Add("status", []byte("Uid:\nGid:\t4294967296 -1\nCapEff:\tzz\nTracerPid"))
	f.Add("cmdline", []byte("\xff\x00\x00\\x"))
	f.Add("attr/current", []byte("unconfined\n\xff\x00"))
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		var row record.Process
		(&collector{}).fill(&row, name, b)
		if len(row.Cmdline) > maxArgs {
			t.Fatalf("%d arguments", len(row.Cmdline))
		}
		j, err := json.Marshal(row)
		if err != nil {
			t.Fatal(err)
		}
		var again record.Process
		if err := json.Unmarshal(j, &again); err != nil || again.Comm != row.Comm || again.UID != row.UID || again.Cgroup != row.Cgroup {
			t.Fatalf("%+v became %+v: %v", row, again, err)
		}
		for i, a := range row.Cmdline {
			if again.Cmdline[i] != a {
				t.Fatalf("argument %q became %q", a, again.Cmdline[i])
			}
		}
	})
}

func FuzzFdinfo(f *testing.F) {
	f.Add("pos:\t12\nflags:\t0100002\nmnt_id:\t15\n")
	f.Add("flags: 9\npos: -1")
	f.Fuzz(func(t *testing.T, s string) {
		if pos, flags := fdinfo([]byte(s)); (pos != 0 && !strings.Contains(s, "pos")) || (flags != 0 && !strings.Contains(s, "flags")) {
			t.Fatalf("%d, %o of %q", pos, flags, s)
		}
	})
}
