package process

import (
	"slices"
	"testing"

	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
)

func TestCode(t *testing.T) {
	const maps = `00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/app
00651000-00652000 r--p 00051000 08:02 173521      /usr/bin/app
00653000-00654000 r-xp 00051000 08:02 173521      /usr/bin/app
7f0000000000-7f0000001000 rwxp 00000000 00:00 0
7f0000001000-7f0000002000 r-xp 00000000 00:01 1026                       /memfd:a b (deleted)
7f0000002000-7f0000003000 r-xs 00000000 00:01 1027                       /x\012y
garbage
zz-1 r-xp 0 0:1 5 /x
7ffd1b7fe000-7ffd1b800000 r-xp 00000000 00:00 0                          [vdso]
`
	var got []string
	for _, r := range code([]byte(maps)) {
		got = append(got, r.path)
	}
	if want := []string{"/usr/bin/app", "/memfd:a b (deleted)", "/x\ny"}; !slices.Equal(got, want) {
		t.Errorf("code %q, want %q", got, want)
	}
}

func TestParseMounts(t *testing.T) {
	m := parseMounts([]byte("36 35 98:0 / /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw\n37 36 0:5 /sub /x - tmpfs tmpfs rw\nx 1 0:5 / / - tmpfs t rw\n38 1 0:5 / /y\n"))
	if len(m) != 2 || m[36].point != "/mnt 2" || m[36].fstype != "ext3" || m[37].dev != "0:5" || m[37].root != "/sub" {
		t.Errorf("mounts %+v", m)
	}
}

func TestCutRuns(t *testing.T) {
	runs := []evidence.Extent{{Offset: 10, Length: 20}, {Offset: 100, Length: 50}}
	for limit, want := range map[int64]int64{5: 15, 20: 30, 21: 101, 70: 150} {
		got, size := cutRuns(runs, limit)
		var data int64
		for _, r := range got {
			data += r.Length
		}
		if size != want || data != limit || runs[0].Length != 20 || runs[1].Length != 50 {
			t.Errorf("%d bytes: %+v, up to %d, want %d", limit, got, size, want)
		}
	}
}

// Nothing in /proc can break the readers, whoever wrote it.
func FuzzTexts(f *testing.F) {
	f.Add([]byte("00400000-00452000 r-xp 00000000 08:02 173521 /usr/bin/app (deleted)\n"))
	f.Add([]byte("36 35 98:0 / /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw\n"))
	f.Add([]byte("10 (a) R 1) S 7 7 7 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 12345 0 0"))
	f.Add([]byte("Name:\tx\nUid:\t0\t0\t0\t0\nCapEff:\tffffffffffffffff\nTracerPid:\t-1\n"))
	f.Add([]byte("pos:\t7\nflags:\t02100002\nmnt_id:\t15\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, r := range code(b) {
			if r.path == "" && r.id == "" {
				t.Fatal("an empty region")
			}
		}
		_ = parseMounts(b)
		var row record.Process
		statFields(&row, b)
		statusFields(&row, b)
		_, _ = fdinfo(b)
		_, _ = threadStatus(b)
	})
}

func BenchmarkCapture(b *testing.B) {
	pid := start(b, "threads", "50")
	s := of(b, pid)
	for b.Loop() {
		capture(b, s, Options{})
	}
}
