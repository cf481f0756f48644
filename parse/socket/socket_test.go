package socket

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	formats "github.com/sherd-forensics/sherd/parse"
)

var update = flag.Bool("update", false, "write the golden files anew")

// sealed writes lines as they are into a package and opens it.
func sealed(t testing.TB, lines string) *evidence.Package {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.sherd")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w, err := evidence.NewWriter(f, evidence.WriterOptions{Tool: "test", ID: "00112233445566778899aabbccddeeff"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Add(evidence.Meta{Path: Path}, []byte(lines)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	p, err := evidence.Open(path, evidence.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func line(t testing.TB, s record.Socket) string {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b) + "\n"
}

// rows are what a container with a server, a client of it, a call home and odd local sockets shows.
func rows() []record.Socket {
	n := func(v uint64) *uint64 { return &v }
	ms := func(v uint32) *uint32 { return &v }
	const at = 1_790_000_000_000_000_000
	return []record.Socket{
		{Family: "inet", Protocol: "tcp", State: "LISTEN", LocalIP: "0.0.0.0", LocalPort: 8080, Inode: 10, Owners: []record.Owner{{PID: 41, FD: 3}}, Source: "sock_diag", Observed: at},
		{Family: "inet", Protocol: "tcp", State: "ESTABLISHED", LocalIP: "10.1.2.3", LocalPort: 8080, RemoteIP: "10.0.7.31", RemotePort: 40022, Inode: 11,
			BytesSent: n(99), BytesReceived: n(1000), Owners: []record.Owner{{PID: 41, FD: 4}}, Source: "sock_diag", Observed: at},
		{Family: "inet", Protocol: "tcp", State: "ESTABLISHED", LocalIP: "10.1.2.3", LocalPort: 51000, RemoteIP: "203.0.113.9", RemotePort: 4444, Inode: 12,
			BytesSent: n(11469), BytesReceived: n(3174), LastSentMS: ms(1500), LastReceivedMS: ms(20), Owners: []record.Owner{{PID: 57, FD: 0}, {PID: 57, FD: 1}}, Source: "sock_diag", Observed: at},
		{Family: "unix", Protocol: "stream", Path: "\x00evil\x1b[2J\xff", Inode: 13, Source: "sock_diag", Observed: at},
		{Family: "packet", Protocol: "raw", Inode: 14, Source: "/proc/41/net/packet", Observed: at},
	}
}

func TestRead(t *testing.T) {
	var in strings.Builder
	for _, s := range rows() {
		in.WriteString(line(t, s))
	}
	in.WriteString("not json\n{\"family\":\"carrier pigeon\",\"protocol\":\"x\"}\n{\"family\":\"inet\",\"protocol\":\"tcp\",\"local_port\":70000}\n")
	in.WriteString(line(t, rows()[0]))
	p := sealed(t, in.String())
	good, bad := 0, 0
	for r, err := range Read(p) {
		if err != nil {
			var le *LineError
			if !errors.As(err, &le) || le.Artifact != Path || le.Offset == 0 {
				t.Errorf("error without its place: %v", err)
			}
			bad++
			continue
		}
		// The citation leads to the very line.
		b, err := p.ReadFile(Path, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		var again record.Socket
		if err := json.Unmarshal(b[r.Cite.Offset:r.Cite.Offset+r.Cite.Length], &again); err != nil || fmt.Sprint(again.Inode, again.Path) != fmt.Sprint(r.Inode, r.Path) {
			t.Errorf("citation %+v of %+v: %v", r.Cite, r.Socket, err)
		}
		good++
	}
	if good != len(rows())+1 || bad != 3 {
		t.Errorf("%d rows and %d bad lines", good, bad)
	}
}

func TestEvents(t *testing.T) {
	var in strings.Builder
	for _, s := range rows() {
		in.WriteString(line(t, s))
	}
	var out bytes.Buffer
	err := Events(sealed(t, in.String()), func(formats.Skip) {}, func(e event.Event) error {
		b, err := json.Marshal(e)
		if err != nil {
			return err
		}
		out.Write(b)
		out.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "events.golden")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), want) {
		t.Errorf("events differ (go test -update writes them anew):\n%s", out.Bytes())
	}
	stop := errors.New("stop")
	if err := Events(sealed(t, in.String()), func(formats.Skip) {}, func(event.Event) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("emit's error is %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range rows() {
		f.Add([]byte(line(f, s)))
	}
	f.Add([]byte(`{"family":"inet","protocol":"tcp","owners":[{"pid":-1}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parse(b)
		if err != nil {
			return
		}
		if !families[s.Family] || s.Protocol == "" {
			t.Fatalf("accepted %+v", s)
		}
	})
}
