package filesystem

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/testenv"
	"github.com/sherd-forensics/sherd/target"
)

func mounts(t testing.TB, p *evidence.Package) map[string]record.Mounted {
	t.Helper()
	out := map[string]record.Mounted{}
	for l, err := range p.Lines("volumes/mounts.jsonl") {
		check(t, err)
		var m record.Mounted
		check(t, json.Unmarshal(l.Data, &m))
		key := string(m.Point)
		for out[key].Point != "" {
			key += "+"
		}
		out[key] = m
	}
	return out
}

func TestVolumes(t *testing.T) {
	r := overlay(t, "")
	host := t.TempDir()
	write(t, host+"/vol/data.db", "data", 0o644)
	write(t, host+"/ro/old", "host's", 0o644)
	write(t, host+"/hosts", "127.0.0.1 localhost", 0o644)
	write(t, r.merged+"/etc/hosts", "", 0o644)
	write(t, r.merged+"/vol/under", "under the volume", 0o644)
	for _, d := range []string{"ro", "over"} {
		check(t, os.Mkdir(r.merged+"/"+d, 0o755))
	}
	pid := startChild(t, childSpec{
		Root: r.merged,
		Mounts: []childMount{
			{Type: "proc", Source: "proc", Target: "/proc"},
			{Type: "tmpfs", Source: "shm", Target: "/dev/shm", Data: "mode=1777"},
			{Type: "tmpfs", Source: "tmpfs", Target: "/run/secrets"},
			{Source: host + "/vol", Target: "/vol", Flags: unix.MS_BIND},
			{Source: host + "/ro", Target: "/ro", Flags: unix.MS_BIND | unix.MS_RDONLY},
			{Source: host + "/hosts", Target: "/etc/hosts", Flags: unix.MS_BIND},
			{Type: "tmpfs", Source: "first", Target: "/over"},
			{Type: "tmpfs", Source: "second", Target: "/over"},
		},
		Files: map[string]string{
			"/dev/shm/payload": "\x7fELF in shm", "/dev/shm/sub/x": "x", "/run/secrets/token": "s3cret", "/vol/new": "written", "/over/top": "top",
			"/tmp/written": "through the overlay",
		},
	})
	c := r.container()
	c.PID, c.State, c.Started = pid, target.Running, time.Now()
	c.Mounts = []target.Mount{{Type: "volume", Name: "v", Source: host + "/vol", Destination: "/vol"}, {Type: "bind", Source: host + "/ro", Destination: "/ro", ReadOnly: true}}
	forget(t, host, r.upper)
	before := state(t, host, r.upper)
	p, path := capture(t, c, Options{})
	unchanged(t, before, state(t, host, r.upper))

	ms := mounts(t, p)
	for point, want := range map[string]record.Mounted{
		"/": {Kind: "root"}, "/proc": {Kind: "kernel"}, "/dev/shm": {Kind: "tmpfs", Dir: "volumes/dev/shm", Files: 2}, "/run/secrets": {Kind: "secret"},
		"/vol": {Kind: "volume", Dir: "volumes/vol", Files: 2}, "/ro": {Kind: "host"}, "/etc/hosts": {Kind: "runtime", Dir: "volumes/etc/hosts", Files: 1},
		"/over": {Kind: "tmpfs"}, "/over+": {Kind: "tmpfs", Dir: "volumes/over", Files: 1},
	} {
		if m := ms[point]; m.Kind != want.Kind || m.Dir != want.Dir || m.Files != want.Files {
			t.Errorf("%s: %+v, want %+v", point, m, want)
		}
	}
	if !strings.Contains(ms["/over"].Reason, "covered") {
		t.Errorf("/over: %+v", ms["/over"])
	}
	all := rows(t, p, true)
	for path, want := range map[string]record.File{
		"/dev/shm/payload":   {Mount: "/dev/shm", SHA256: hashOf("\x7fELF in shm"), Artifact: "volumes/dev/shm/payload"},
		"/run/secrets/token": {Mount: "/run/secrets", SHA256: hashOf("s3cret"), Size: 6},
		"/vol/new":           {Mount: "/vol", SHA256: hashOf("written"), Artifact: "volumes/vol/new"},
		"/ro/old":            {Mount: "/ro"},
		"/etc/hosts":         {Mount: "/etc/hosts", SHA256: hashOf("127.0.0.1 localhost"), Artifact: "volumes/etc/hosts"},
		"/over/top":          {Mount: "/over", SHA256: hashOf("top"), Artifact: "volumes/over/top"},
	} {
		got, ok := all["root "+path]
		if !ok || got.Mount != want.Mount || got.SHA256 != want.SHA256 || got.Artifact != want.Artifact {
			t.Errorf("%s: %+v, want %+v", path, got, want)
		}
	}
	if b, err := os.ReadFile(path); err != nil || len(b) == 0 {
		t.Fatal(err)
	}
	dir := extract(t, path)
	if b, err := os.ReadFile(dir + "/volumes/dev/shm/payload"); err != nil || string(b) != "\x7fELF in shm" {
		t.Errorf("payload: %q, %v", b, err)
	}
	if _, err := os.Stat(dir + "/volumes/run/secrets/token"); err == nil {
		t.Error("the secret's content was taken")
	}
	root := rows(t, p, false)
	if f := root["root /vol/under"]; f.SHA256 != hashOf("under the volume") {
		t.Errorf("what lies under a mount: %+v", f)
	}
	for _, m := range p.Coverage().Missed {
		if strings.Contains(m.What, "agreement") {
			t.Errorf("the layer and the view disagree: %+v", m)
		}
	}
	if with, _ := capture(t, c, Options{WithSecrets: true}); rows(t, with, true)["root /run/secrets/token"].Artifact == "" {
		t.Error("asked for, the secret's content was not taken")
	}
}

// TestWrongUpper: a runtime that names another directory than the one in use is found out.
func TestWrongUpper(t *testing.T) {
	r := overlay(t, "")
	pid := startChild(t, childSpec{Root: r.merged})
	other := t.TempDir()
	write(t, other+"/decoy", "decoy", 0o644)
	c := r.container()
	c.PID, c.State, c.Rootfs.Upper = pid, target.Running, other
	p, _ := capture(t, c, Options{})
	if s := strings.Join(complaints(p), "\n"); !strings.Contains(s, "agreement of the writable layer") {
		t.Errorf("complaints: %s", s)
	}
}

// TestFallback: nothing is known but the process.
func TestFallback(t *testing.T) {
	r := overlay(t, "")
	check(t, os.WriteFile(r.merged+"/before", []byte("old"), 0o755))
	time.Sleep(20 * time.Millisecond)
	started := time.Now()
	time.Sleep(20 * time.Millisecond)
	pid := startChild(t, childSpec{Root: r.merged, Files: map[string]string{"/tmp/after": "new"}})
	c := &target.Container{URL: "pid://x", PID: pid, Started: started}
	p, _ := capture(t, c, Options{})
	all := rows(t, p, false)
	if f := all["root /tmp/after"]; f.Artifact != "filesystem/upper/tmp/after" || f.SHA256 != hashOf("new") {
		t.Errorf("/tmp/after: %+v", f)
	}
	if f := all["root /before"]; f.Artifact != "" || f.SHA256 != hashOf("old") {
		t.Errorf("/before: %+v", f)
	}
	if f := all["root /usr/bin/app"]; f.SHA256 != hashOf("\x7fELF app") {
		t.Errorf("/usr/bin/app: %+v", f)
	}
	if s := strings.Join(complaints(p), "\n"); !strings.Contains(s, "nothing tells where they lie") {
		t.Errorf("complaints: %s", s)
	}
}

// stuck is a file whose read never returns while hold is open.
type stuck struct {
	fs.Inode
	hold chan struct{}
}

func (s *stuck) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode, out.Size = unix.S_IFREG|0o644, 1000
	return 0
}

func (s *stuck) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, 0, 0
}

func (s *stuck) Read(ctx context.Context, _ fs.FileHandle, _ []byte, _ int64) (fuse.ReadResult, syscall.Errno) {
	<-s.hold
	return nil, syscall.EIO
}

func TestStuckFUSE(t *testing.T) {
	testenv.NeedRoot(t)
	if _, err := os.Stat("/dev/fuse"); err != nil {
		testenv.Skip(t, "needs /dev/fuse")
	}
	r := overlay(t, "")
	root := &fs.Inode{}
	hold := make(chan struct{})
	server, err := fs.Mount(r.merged+"/data", root, &fs.Options{
		MountOptions: fuse.MountOptions{DirectMount: true, FsName: "stuck"},
		OnAdd: func(ctx context.Context) {
			root.AddChild("stuck", root.NewPersistentInode(ctx, &stuck{hold: hold}, fs.StableAttr{Mode: unix.S_IFREG}), true)
			root.AddChild("fine", root.NewPersistentInode(ctx, &fs.MemRegularFile{Data: []byte("fine"), Attr: fuse.Attr{Mode: 0o644}}, fs.StableAttr{Mode: unix.S_IFREG}), true)
		},
	})
	check(t, err)
	t.Cleanup(func() {
		close(hold)
		_ = unix.Unmount(r.merged+"/data", unix.MNT_DETACH) //nolint:errcheck // the server's own Unmount tells
		_ = server.Unmount()                                //nolint:errcheck // gone by the line before
	})
	pid := startChild(t, childSpec{Root: r.merged, Files: map[string]string{"/tmp/x": "x"}})
	c := r.container()
	c.PID, c.State = pid, target.Running

	within(t, 5*time.Second, "a capture that leaves FUSE alone", func() {
		p, _ := capture(t, c, Options{})
		if m := mounts(t, p)["/data"]; m.Kind != "fuse" || m.Dir != "" || m.Reason == "" {
			t.Errorf("/data: %+v", m)
		}
	})
	within(t, 20*time.Second, "a capture that enters FUSE", func() {
		p, _ := capture(t, c, Options{Remote: true, Timeout: 300 * time.Millisecond})
		all := rows(t, p, true)
		if f := all["root /data/fine"]; f.SHA256 != hashOf("fine") {
			t.Errorf("fine: %+v", f)
		}
		if f := all["root /data/stuck"]; !strings.Contains(f.Error, "did not answer in time") {
			t.Errorf("stuck: %+v", f)
		}
		if f := rows(t, p, false)["root /tmp/x"]; f.SHA256 != hashOf("x") {
			t.Errorf("the rest of the capture: %+v", f)
		}
		if !strings.Contains(strings.Join(complaints(p), "\n"), "did not answer in time") {
			t.Errorf("complaints: %q", complaints(p))
		}
	})
}

func TestMountinfo(t *testing.T) {
	const text = `22 27 0:21 / /proc rw,relatime - proc proc rw
30 1 0:5 /a\040b /with\040space\134x ro,nosuid shared:1 master:2 - tmpfs tmp\011fs rw,size=4k
40 1 0:6 / /data rw - fuse.sshfs u@h:/ rw
50 1 0:7 / /n rw - nfs4 srv:/x rw
60 1 254:0 /var/lib/kubelet/pods/u/volumes/kubernetes.io~empty-dir/cache /cache rw - ext4 /dev/vda rw
70 1 0:8 / /var/run/secrets/kubernetes.io/serviceaccount ro - tmpfs tmpfs rw
80 1 254:0 /srv/x//deleted /x rw - ext4 /dev/vda rw
garbage
90 1 0:9 / /short
`
	list, bad := parseMountinfo([]byte(text))
	if bad != 2 || len(list) != 7 {
		t.Fatalf("%d mounts, %d bad", len(list), bad)
	}
	want := []string{"kernel", "secret", "fuse", "network", "volume", "secret", "host"}
	for i, m := range list {
		if m.kind() != want[i] {
			t.Errorf("%s is %s, want %s", m.point, m.kind(), want[i])
		}
	}
	if list[1].point != `/with space\x` || list[1].root != "/a b" || list[1].source != "tmp\tfs" {
		t.Errorf("unescaped: %+v", list[1])
	}
}

func FuzzMountinfo(f *testing.F) {
	f.Add([]byte("22 27 0:21 / /proc rw,relatime - proc proc rw\n"))
	f.Add([]byte("30 1 0:5 /a\\040b /w\\1 ro shared:1 - tmpfs tmp rw"))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, _ := parseMountinfo(b)
		for _, m := range list {
			if r := m.record(); r.Kind == "" {
				t.Fatal("no kind")
			}
		}
	})
}
