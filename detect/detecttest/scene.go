// Package detecttest makes sealed packages of containers that never were, for tests: a Scene is a busy, honest application,
// to which a test adds what an attack leaves behind, or from which it takes parts of the evidence away. Times, numbers and
// hashes are fixed, so that the same scene gives the same evidence.
package detecttest

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/target"
)

// Times of every scene.
var (
	Start   = time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)
	Attack  = time.Date(2026, 11, 23, 3, 2, 11, 0, time.UTC)
	Capture = time.Date(2026, 11, 23, 3, 15, 2, 0, time.UTC)
)

// ELF starts every executable of a scene.
const ELF = "\x7fELF\x02\x01\x01\x00"

// Hash is the lower-case hex SHA-256 of s.
func Hash(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}

// Log is one line of the container's output.
type Log struct {
	Time time.Time
	Text string
}

// Scene is what a package will hold.
type Scene struct {
	// ID is the evidence's; empty stands for one that all scenes without have.
	ID        string
	Container target.Container
	Host      record.Host
	Processes []record.Process
	Sharers   []record.Sharer
	Env       map[int][]string
	Maps      map[int][]record.Mapping
	Cores     map[int][]byte
	Sockets   []record.Socket
	Files     []record.File
	Mounts    []record.Mounted
	Logs      []Log
	// RawLogs leaves the runtime's times out, as a runtime that copies output into a file does.
	RawLogs bool
	// Config is target/image-config.json.
	Config string
	// Extra are further artifacts by path.
	Extra map[string]string
	// Collected and Missed are the coverage.
	Collected map[string]string
	Missed    []record.Miss
}

// namespaces of the container's processes.
func namespaces() map[string]uint64 {
	return map[string]uint64{"pid": 4026532001, "mnt": 4026532002, "net": 4026532003, "ipc": 4026532004, "uts": 4026532005}
}

// Busy is an honest application at work: it serves clients, talks to a database, writes caches, a pid file and logs, keeps a
// rotated log open, and its image declares its port.
func Busy() *Scene {
	s := &Scene{
		Container: target.Container{
			URL: "docker://shop", Runtime: "docker", ID: strings.Repeat("ab", 32), Name: "shop",
			Image: target.Image{Name: "registry.example/shop:3", Digest: "sha256:" + Hash("image"), ConfigID: "sha256:" + Hash("config")},
			State: target.Running, Created: Start.Add(-time.Second), Started: Start, PID: 4001,
			Distroless: &target.Distroless{Distroless: true, Reason: "no shell, 3 packages", Packages: 3},
		},
		Host: record.Host{
			Hostname: "node1", Kernel: "6.1.0", Arch: "amd64", BootID: "0b5e…", Realtime: Capture.UnixNano(), PageSize: 4096, TicksPerSec: 100,
			BootTime: Start.Add(-24 * time.Hour).UnixNano(), Cgroup: "v2",
		},
		Env: map[int][]string{}, Maps: map[int][]record.Mapping{}, Cores: map[int][]byte{}, Extra: map[string]string{},
		Config: `{"config":{"Env":["PATH=/app:/usr/bin","DB_PASSWORD=hunter2","LD_LIBRARY_PATH=/app/lib"],"ExposedPorts":{"8080/tcp":{}}}}`,
		Collected: map[string]string{
			"process": "complete", "memory": "complete", "network": "complete", "filesystem": "complete", "volumes": "complete",
			"logs": "complete", "context": "complete", "target": "complete",
		},
	}
	s.imageFile("/app/server", ELF+"server", 0o755)
	s.imageFile("/app/lib/libimg.so", ELF+"libimg", 0o644)
	s.imageFile("/usr/bin/openssl", ELF+"openssl", 0o755)
	s.imageFile("/etc/passwd", "nonroot:x:65532:65532::/home/nonroot:/sbin/nologin\n", 0o644)
	s.imageFile("/etc/ssl/certs/ca-certificates.crt", "-----BEGIN CERTIFICATE-----\n", 0o644)
	s.AddFile("/data/shop.pid", "1\n", 0o644, Start.Add(time.Second))
	s.AddFile("/data/cache/item-1.html", "<!doctype html>", 0o644, Start.Add(time.Hour))
	s.AddFile("/data/cache/item-2.html", "<!doctype html>", 0o644, Start.Add(2*time.Hour))
	s.AddFile("/data/shop.log", "a line\n", 0o644, Start.Add(3*time.Hour))
	s.Files = append(s.Files, record.File{Tree: record.TreeRoot, Path: "/data", Type: record.TypeDir, Mode: 0o755, UID: 65532, GID: 65532, Layer: record.WritableLayer,
		Btime: Start.UnixNano(), Mtime: Start.UnixNano(), Ctime: Start.UnixNano()})
	s.Mounts = []record.Mounted{
		{Point: "/", FSType: "overlay", Kind: "root", Writable: true},
		{Point: "/proc", FSType: "proc", Kind: "kernel"},
		{Point: "/dev/shm", FSType: "tmpfs", Kind: "tmpfs", Writable: true, Dir: "volumes/dev/shm"},
		{Point: "/etc/hosts", FSType: "ext4", Kind: "runtime", Writable: true},
		{Point: "/var/lib/shop", FSType: "ext4", Kind: "volume", Writable: true, Dir: "volumes/var/lib/shop"},
		{Point: "/var/run/secrets/token", FSType: "tmpfs", Kind: "secret"},
	}
	s.Files = append(s.Files, record.File{Tree: record.TreeRoot, Path: "/var/run/secrets/token/token", Mount: "/var/run/secrets/token", Type: record.TypeFile,
		Mode: 0o600, UID: 65532, GID: 65532, Size: 900, SHA256: Hash("token"), Layer: record.WritableLayer, Btime: Start.UnixNano(), Ctime: Start.UnixNano(), Mtime: Start.UnixNano()})
	p := s.Process(4001, 1, 3990, "/app/server", record.ExeImage, Start)
	p.FDs = append(p.FDs,
		record.FD{N: 0, Target: "/dev/null", Kind: "device"}, record.FD{N: 1, Target: "pipe:[7001]", Kind: "pipe", Ino: 7001}, record.FD{N: 2, Target: "pipe:[7002]", Kind: "pipe", Ino: 7002},
		record.FD{N: 5, Target: "/data/shop.log (deleted)", Kind: "file", Deleted: true, Ino: 801, Size: 4096, Magic: []byte("2026-11-"), SHA256: Hash("old log")},
		record.FD{N: 6, Target: "socket:[9001]", Kind: "socket", Ino: 9001}, record.FD{N: 7, Target: "socket:[9002]", Kind: "socket", Ino: 9002},
		record.FD{N: 8, Target: "socket:[9003]", Kind: "socket", Ino: 9003},
	)
	sent, got := uint64(8_123_456), uint64(912_345)
	s.Sockets = []record.Socket{
		{Family: "inet", Protocol: "tcp", State: "listen", LocalIP: "0.0.0.0", LocalPort: 8080, Inode: 9001, Owners: []record.Owner{{PID: 4001, FD: 6}}, Source: "sock_diag", Observed: Capture.UnixNano()},
		{Family: "inet", Protocol: "tcp", State: "established", LocalIP: "10.0.7.5", LocalPort: 8080, RemoteIP: "10.0.7.40", RemotePort: 50122, Inode: 9002, BytesSent: &sent, BytesReceived: &got,
			Owners: []record.Owner{{PID: 4001, FD: 7}}, Source: "sock_diag", Observed: Capture.UnixNano()},
		{Family: "inet", Protocol: "tcp", State: "established", LocalIP: "10.0.7.5", LocalPort: 41810, RemoteIP: "10.0.8.2", RemotePort: 5432, Inode: 9003, BytesSent: &got, BytesReceived: &sent,
			Owners: []record.Owner{{PID: 4001, FD: 8}}, Source: "sock_diag", Observed: Capture.UnixNano()},
	}
	for i := range 40 {
		at := Start.Add(time.Duration(i) * 100 * time.Minute)
		s.Logs = append(s.Logs, Log{at, fmt.Sprintf(`{"level":"info","msg":"request","remote":"10.0.7.40:%d","method":"GET","path":"/?item=%d","status":200}`, 50000+i, i)})
	}
	s.Logs = append(s.Logs, Log{Attack.Add(300 * time.Millisecond), `{"level":"info","msg":"request","remote":"10.0.7.1:3000","method":"GET","path":"/healthz","status":200}`})
	return s
}

func (s *Scene) imageFile(path, content string, mode uint32) {
	s.Files = append(s.Files, record.File{Tree: record.TreeBoth, Path: record.Name(path), Type: record.TypeFile, Mode: mode, Size: int64(len(content)), SHA256: Hash(content),
		Magic: []byte(content[:min(8, len(content))]), Layer: 0, LayerDigest: "sha256:" + Hash("layer 0"), Mtime: Start.Add(-1000 * time.Hour).UnixNano()})
}

// ImageFile adds a file of the image.
func (s *Scene) ImageFile(path, content string, mode uint32) { s.imageFile(path, content, mode) }

// AddFile adds a file to the writable layer, kept in the package.
func (s *Scene) AddFile(path, content string, mode uint32, at time.Time) *record.File {
	art := "filesystem/upper" + path
	s.Extra[art] = content
	s.Files = append(s.Files, record.File{Tree: record.TreeRoot, Path: record.Name(path), Type: record.TypeFile, Mode: mode, UID: 65532, GID: 65532, Size: int64(len(content)),
		SHA256: Hash(content), Magic: []byte(content[:min(8, len(content))]), Layer: record.WritableLayer, Artifact: record.Escape(art),
		Btime: at.UnixNano(), Mtime: at.UnixNano(), Ctime: at.UnixNano()})
	return &s.Files[len(s.Files)-1]
}

// Replace changes a file of the image: the old one stays as the image's.
func (s *Scene) Replace(path, content string, at time.Time) {
	for i := range s.Files {
		f := &s.Files[i]
		if string(f.Path) == path && f.Tree == record.TreeBoth {
			f.Tree = record.TreeImage
			mode := f.Mode
			s.AddFile(path, content, mode, at)
			return
		}
	}
}

// Delete removes a file of the image with a mark.
func (s *Scene) Delete(path string, at time.Time) {
	for i := range s.Files {
		if f := &s.Files[i]; string(f.Path) == path && f.Tree == record.TreeBoth {
			f.Tree = record.TreeImage
		}
	}
	s.Files = append(s.Files, record.File{Tree: record.TreeRoot, Path: record.Name(path), Type: record.TypeWhiteout, Layer: record.WritableLayer, Ctime: at.UnixNano(), Btime: at.UnixNano()})
}

// MountFile adds a file on a mount.
func (s *Scene) MountFile(mount, path, content string, mode uint32, at time.Time) {
	art := "volumes" + path
	s.Extra[art] = content
	s.Files = append(s.Files, record.File{Tree: record.TreeRoot, Path: record.Name(path), Mount: record.Name(mount), Type: record.TypeFile, Mode: mode, Size: int64(len(content)), SHA256: Hash(content),
		Magic: []byte(content[:min(8, len(content))]), Layer: record.WritableLayer, Artifact: record.Escape(art), Btime: at.UnixNano(), Mtime: at.UnixNano(), Ctime: at.UnixNano()})
}

// Process adds a process with the image's environment and its program mapped.
func (s *Scene) Process(pid, inside, parent int, exe, origin string, at time.Time) *record.Process {
	comm := filepath.Base(strings.TrimSuffix(exe, " (deleted)"))
	sum := ""
	for i := range s.Files {
		if string(s.Files[i].Path) == exe && s.Files[i].Tree != record.TreeImage {
			sum = s.Files[i].SHA256
		}
	}
	ino := uint64(pid) * 10
	s.Processes = append(s.Processes, record.Process{
		PID: pid, ContainerPID: inside, PPID: parent, Dir: fmt.Sprintf("process/%d", pid), Relation: record.InCgroup, Comm: record.Name(comm[:min(15, len(comm))]),
		Cmdline: []record.Name{record.Name(exe)}, State: "S", StartTicks: uint64(pid), StartTime: at.UnixNano(), UID: 65532, EUID: 65532, GID: 65532, EGID: 65532, Threads: 4,
		Namespaces: namespaces(), Cgroup: "/docker/" + s.Container.ID, RSS: 64 << 20, CPUTime: int64(2 * time.Second),
		Exe: record.Exe{Path: record.Name(exe), Origin: origin, Ino: ino, Size: 4096, SHA256: sum, Mode: 0o755},
	})
	s.Env[pid] = []string{"PATH=/app:/usr/bin", "DB_PASSWORD=hunter2", "LD_LIBRARY_PATH=/app/lib", "HOSTNAME=shop"}
	s.Maps[pid] = []record.Mapping{
		{Start: 0x400000, End: 0x500000, Perms: "r-xp", Inode: ino, Path: record.Name(exe), Present: 0x100000, LeftOut: "file", FileSHA256: sum},
		{Start: 0x600000, End: 0x700000, Perms: "rw-p", Path: "[heap]", Present: 0x100000, Anonymous: 0x100000},
		{Start: 0x7ffe00000000, End: 0x7ffe00002000, Perms: "r-xp", Path: "[vdso]", Present: 0x2000},
	}
	return &s.Processes[len(s.Processes)-1]
}

// Foreign adds a process that runs what the image does not hold, its program kept in the package.
func (s *Scene) Foreign(pid, inside, parent int, exe, origin, content string, at time.Time) *record.Process {
	p := s.Process(pid, inside, parent, exe, origin, at)
	p.Exe.SHA256, p.Exe.Artifact = Hash(content), p.Dir+"/exe"
	p.Exe.Deleted = origin == record.ExeDeleted || origin == record.ExeMemfd
	s.Extra[p.Exe.Artifact] = content
	return p
}

// Connect gives a process a connection with a peer on a descriptor.
func (s *Scene) Connect(p *record.Process, fd int, ip string, port int, sent, received uint64) {
	ino := uint64(9500 + len(s.Sockets))
	p.FDs = append(p.FDs, record.FD{N: fd, Target: record.Name(fmt.Sprintf("socket:[%d]", ino)), Kind: "socket", Ino: ino})
	s.Sockets = append(s.Sockets, record.Socket{Family: "inet", Protocol: "tcp", State: "established", LocalIP: "10.0.7.5", LocalPort: 43000 + fd, RemoteIP: ip, RemotePort: port, Inode: ino,
		BytesSent: &sent, BytesReceived: &received, Owners: []record.Owner{{PID: p.PID, FD: fd}}, Source: "sock_diag", Observed: Capture.UnixNano()})
}

// Sharer adds a process of another container that shares the pid and network namespaces.
func (s *Scene) Sharer(pid, inside int, exe string, at time.Time, holds ...record.Hold) *record.Sharer {
	s.Sharers = append(s.Sharers, record.Sharer{PID: pid, ContainerPID: inside, PPID: 3991, Shares: []string{"pid", "net"}, Comm: record.Name(filepath.Base(exe)), Cmdline: []record.Name{record.Name(exe)},
		State: "S", StartTime: at.UnixNano(), Exe: record.Name(exe), Cgroup: "0::/docker/" + strings.Repeat("cd", 32), Holds: holds})
	return &s.Sharers[len(s.Sharers)-1]
}

// Request logs a request in the application's own form.
func (s *Scene) Request(at time.Time, client, method, path string, status int) {
	q, _ := json.Marshal(path)
	s.Logs = append(s.Logs, Log{at, fmt.Sprintf(`{"level":"info","msg":"request","remote":%q,"method":%q,"path":%s,"status":%d}`, client, method, q, status)})
}

// Parts are the parts of the evidence that Without can take away.
var Parts = []string{"processes", "environ", "memory", "sockets", "inventory", "mounts", "logs", "target", "host", "coverage", "programs", "cores", "upper", "cluster", "audit"}

// Write seals the scene without some parts into a file and opens it.
func (s *Scene) Write(t testing.TB, without ...string) *evidence.Package {
	t.Helper()
	path := filepath.Join(t.TempDir(), s.Container.Name+".sherd")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Seal(out, nil, without...); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	p, err := evidence.Open(path, evidence.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// Seal writes the scene without some parts as a package; more adds what is too large to be held, unless it is nil.
func (s *Scene) Seal(out io.Writer, more func(*evidence.Writer) error, without ...string) error {
	w, err := evidence.NewWriter(out, evidence.WriterOptions{Tool: "detecttest", Target: s.Container, ID: cmp.Or(s.ID, "0123456789abcdef0123456789abcdef"), Started: Capture})
	if err != nil {
		return err
	}
	if err := s.fill(w, func(part string) bool { return slices.Contains(without, part) }); err != nil {
		return err
	}
	if more != nil {
		if err := more(w); err != nil {
			return err
		}
	}
	_, err = w.Close()
	return err
}

func lines[T any](w *evidence.Writer, path string, rows []T) error {
	l := w.Lines(path, "a scene")
	for i := range rows {
		if err := l.Write(&rows[i]); err != nil {
			return err
		}
	}
	return l.Close()
}

func (s *Scene) fill(w *evidence.Writer, without func(string) bool) error {
	add := func(path, content string) error {
		_, err := w.Add(evidence.Meta{Path: path, Origin: "a scene"}, []byte(content))
		return err
	}
	var todo []func() error
	if !without("sockets") {
		todo = append(todo, func() error { return lines(w, "network/sockets.jsonl", s.Sockets) })
	}
	if !without("processes") {
		todo = append(todo, func() error { return lines(w, "process/processes.jsonl", s.Processes) })
	}
	if len(s.Sharers) > 0 && !without("processes") {
		todo = append(todo, func() error { return lines(w, "process/sharing.jsonl", s.Sharers) })
	}
	for _, p := range s.Processes {
		if env := s.Env[p.PID]; !without("environ") && env != nil {
			todo = append(todo, func() error { return add(p.Dir+"/environ", strings.Join(env, "\x00")+"\x00") })
		}
		if core := s.Cores[p.PID]; core != nil && !without("cores") {
			todo = append(todo, func() error { return add(p.Dir+"/core", string(core)) })
		}
		if m := s.Maps[p.PID]; m != nil && !without("memory") {
			todo = append(todo, func() error { return lines(w, p.Dir+"/memory.jsonl", m) })
		}
	}
	if !without("inventory") {
		todo = append(todo, func() error {
			rows := slices.Clone(s.Files)
			slices.SortStableFunc(rows, func(a, b record.File) int { return strings.Compare(string(a.Path), string(b.Path)) })
			return lines(w, "filesystem/inventory.jsonl", rows)
		})
	}
	if !without("mounts") {
		todo = append(todo, func() error { return lines(w, "volumes/mounts.jsonl", s.Mounts) })
	}
	if !without("target") {
		todo = append(todo, func() error { return add("target/image-config.json", s.Config) })
	}
	if !without("logs") {
		todo = append(todo, func() error { return add("logs/0.log", s.logText()) })
	}
	if !without("host") {
		todo = append(todo, func() error {
			b, err := json.Marshal(s.Host)
			if err != nil {
				return err
			}
			return add("host/host.json", string(b))
		})
	}
	for _, path := range slices.Sorted(maps.Keys(s.Extra)) {
		if strings.HasPrefix(path, "process/") && without("programs") || strings.HasPrefix(path, "filesystem/") && without("upper") ||
			path == "target/kubernetes/audit.jsonl" && without("audit") || strings.HasPrefix(path, "target/kubernetes/") && strings.HasSuffix(path, ".json") && without("cluster") {
			continue
		}
		todo = append(todo, func() error { return add(path, s.Extra[path]) })
	}
	for _, f := range todo {
		if err := f(); err != nil {
			return err
		}
	}
	if !without("coverage") {
		for _, k := range slices.Sorted(maps.Keys(s.Collected)) {
			w.Status(k, s.Collected[k])
		}
		for _, m := range s.Missed {
			w.Miss(m)
		}
	}
	return nil
}

// logText is what Docker's json-file driver writes.
func (s *Scene) logText() string {
	logs := slices.Clone(s.Logs)
	slices.SortStableFunc(logs, func(a, b Log) int { return a.Time.Compare(b.Time) })
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	for _, l := range logs {
		if s.RawLogs {
			b.WriteString(l.Text + "\n")
			continue
		}
		_ = e.Encode(map[string]string{"log": l.Text + "\n", "stream": "stdout", "time": l.Time.Format(time.RFC3339Nano)}) // a buffer takes everything
	}
	return b.String()
}
