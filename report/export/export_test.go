package export_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/internal/testenv"
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/bodyfile"
	"github.com/sherd-forensics/sherd/parse/l2tcsv"
	"github.com/sherd-forensics/sherd/parse/parsetest"
	"github.com/sherd-forensics/sherd/parse/timesketch"
	"github.com/sherd-forensics/sherd/report/export"
)

var update = flag.Bool("update-export", false, "write golden files anew")

var at = time.Date(2026, 11, 24, 3, 2, 11, 204817000, time.UTC).UnixNano()

// events are one of each sort, hostile ones among them.
func events() []event.Event {
	sum := strings.Repeat("9a1e07ff", 8)
	return []event.Event{
		{Time: at, TimeKind: event.Created, Kind: event.FileCreated, Message: "executable /usr/lib/conv created", EvidenceID: "e1", Container: "shop", ContainerID: "0123abcd", Path: "/usr/lib/conv", SHA256: sum, Size: 2470050, Parser: "inventory", Artifact: "filesystem/inventory.jsonl", Offset: 10, Length: 20, Attributes: []byte(`{"mode":"0755","uid":65532,"gid":65532}`)},
		{Time: at + 1e9, TimeKind: event.Started, Kind: event.ProcessStarted, Message: "process 17 started", EvidenceID: "e1", Container: "shop", PID: 17, PPID: 1, Process: "kworker/0:1", Cmdline: "/usr/lib/conv --pool", User: "65532", Path: "/usr/lib/conv", SHA256: sum, Parser: "process", Artifact: "process/processes.jsonl"},
		{Time: at + 2e9, TimeKind: event.Observed, Kind: event.NetConnected, Message: "connected to 203.0.113.9:4444", SrcIP: "10.88.0.5", SrcPort: 50412, DstIP: "203.0.113.9", DstPort: 4444, Protocol: "tcp", PID: 17, Parser: "socket", Artifact: "network/sockets.jsonl"},
		{Time: at + 3e9, TimeKind: event.Logged, Kind: event.HTTPRequest, Message: "GET / 200", SrcIP: "2001:db8::9", Parser: "containerlog", Artifact: "logs/0.log", Offset: 5, Length: 9, Attributes: []byte(`{"http_method":"GET","http_path":"/","http_status":200,"http_user_agent":"curl"}`)},
		{Time: at + 4e9, TimeKind: event.Logged, Kind: event.LoginFailed, Message: "Failed password for root", User: "root", SrcIP: "203.0.113.9", Node: "node-1", Parser: "syslog", Artifact: "added/auth.log"},
		{Time: at + 5e9, TimeKind: event.Logged, Kind: event.K8sAudit, Message: "sa: list secrets", Identity: "system:serviceaccount:shop:checkout", Namespace: "shop", Pod: "checkout-1", Technique: "T1552.007", Parser: "k8saudit", Artifact: "added/audit.log", Attributes: []byte(`{"verb":"list"}`)},
		{Time: at + 6e9, TimeKind: event.Logged, Kind: event.Alert, Message: "a shell was spawned", Parser: "falco", Artifact: "added/falco.json"},
		{Time: at + 7e9, TimeKind: event.Logged, Kind: event.DNSQuery, Message: "evil.example A", Parser: "route53", Artifact: "x", Attributes: []byte(`{"query":"evil.example"}`)},
		{Time: at + 8e9, TimeKind: event.Logged, Kind: event.LogLine, Message: "=cmd|' /C calc'!A0 \"quoted\"\nsecond|line\\ \x1b[31mred = x", Path: "/a|b\n", Parser: "text", Artifact: "logs/=1.log"},
		{Time: 0, TimeKind: event.Logged, Kind: event.LogLine, Message: "-no time", Parser: "text", Artifact: "logs/1.log"},
	}
}

func write(t testing.TB, format string) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := export.New(format, &b, export.Meta{Tool: "sherd test"})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events() {
		if err := w.Write(&e); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestGolden: what each format looks like.
func TestGolden(t *testing.T) {
	for _, f := range export.Formats() {
		got := write(t, f.Name)
		file := filepath.Join("testdata", f.Name+".golden")
		if *update {
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), string(got)); d != "" {
			t.Errorf("%s (-want +got; -update-export writes it):\n%s", f.Name, d)
		}
		if bytes.ContainsAny(got, "\x1b\x00\x07") {
			t.Errorf("%s lets control bytes through", f.Name)
		}
	}
}

// TestRoundTrip: what is written for another tool is read back with the same times and messages.
func TestRoundTrip(t *testing.T) {
	for name, f := range map[string]parse.Format{"timesketch": timesketch.Format, "l2tcsv": l2tcsv.Format, "bodyfile": bodyfile.Format} {
		got, skips := parsetest.Events(t, f, write(t, name))
		want := events()
		if name == "bodyfile" {
			want = want[:9] // the last has no time
		}
		if len(got) != len(want) || len(skips) != 0 {
			t.Fatalf("%s: %d events of %d, %v", name, len(got), len(want), skips)
		}
		for i, e := range want {
			unit := int64(time.Microsecond)
			if name != "timesketch" {
				unit = int64(time.Second)
			}
			if got[i].Time != e.Time/unit*unit {
				t.Errorf("%s: event %d is at %d, not %d", name, i, got[i].Time, e.Time)
			}
			if name == "timesketch" && i != 8 /* whose control bytes are escaped */ && (got[i].Message != e.Message || got[i].Kind != e.Kind || got[i].Path != e.Path) {
				t.Errorf("%s: event %d is %+v", name, i, got[i])
			}
		}
	}
}

// TestCSV: every line has all columns, and no cell is a formula.
func TestCSV(t *testing.T) {
	for _, f := range []string{"csv", "timesketch-csv", "l2tcsv"} {
		rows, err := csv.NewReader(bytes.NewReader(write(t, f))).ReadAll()
		if err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		if len(rows) != len(events())+1 {
			t.Errorf("%s has %d lines", f, len(rows))
		}
		for _, r := range rows {
			for _, c := range r {
				if c != "" && c != "-" && strings.ContainsAny(c[:1], "=+@\t") || strings.HasPrefix(c, "-n") {
					t.Errorf("%s: the cell %q is a formula", f, c)
				}
			}
		}
	}
}

// TestJSON: each line, or the whole, is JSON, and has what its schema requires.
func TestJSON(t *testing.T) {
	required := map[string][]string{
		"timesketch": {"message", "datetime", "timestamp_desc"},
		"ecs":        {"@timestamp", "ecs", "event", "message"},
		"ocsf":       {"class_uid", "category_uid", "activity_id", "type_uid", "time", "severity_id", "metadata"},
	}
	byClass := map[float64][]string{1001: {"file", "actor"}, 1007: {"process", "actor"}, 4001: {"dst_endpoint"}, 4002: {"http_request"}, 4003: {"query"}, 3002: {"user"}, 6003: {"api", "actor", "src_endpoint"}, 2004: {"finding_info"}}
	for f, names := range required {
		for _, line := range bytes.Split(bytes.TrimSpace(write(t, f)), []byte("\n")) {
			var m map[string]any
			if err := json.Unmarshal(line, &m); err != nil {
				t.Fatalf("%s: %v", f, err)
			}
			if c, ok := m["class_uid"].(float64); ok {
				names = append(names[:len(names):len(names)], byClass[c]...)
				if m["type_uid"] != c*100+m["activity_id"].(float64) {
					t.Errorf("type_uid of %s", line)
				}
			}
			for _, n := range names {
				if m[n] == nil {
					t.Errorf("%s: %s is missing in %s", f, n, line)
				}
			}
			names = required[f]
		}
	}
}

// TestSTIX: the bundle is one document, each identifier stands once, and every reference leads to an object.
func TestSTIX(t *testing.T) {
	b := write(t, "stix")
	var bundle struct {
		Objects []map[string]any `json:"objects"`
	}
	if err := json.Unmarshal(b, &bundle); err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, o := range bundle.Objects {
		id := o["id"].(string)
		if ids[id] {
			t.Errorf("%s stands twice", id)
		}
		ids[id] = true
		for k, v := range o {
			switch {
			case strings.HasSuffix(k, "_ref"):
				if !ids[v.(string)] {
					t.Errorf("%s of %s leads nowhere", k, id)
				}
			case strings.HasSuffix(k, "_refs"):
				for _, r := range v.([]any) {
					if !ids[r.(string)] {
						t.Errorf("%s of %s leads nowhere", k, id)
					}
				}
			}
		}
	}
	validator := os.Getenv("SHERD_STIX_VALIDATOR")
	if validator == "" {
		return // it names the validator of OASIS: stix2_validator of PyPI's stix2-validator
	}
	file := filepath.Join(t.TempDir(), "bundle.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(validator, file).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestMactime gives the body file to the program that it is for, which must show each event's time once for each of its files.
func TestMactime(t *testing.T) {
	testenv.NeedTool(t, "mactime")
	file := filepath.Join(t.TempDir(), "body")
	if err := os.WriteFile(file, write(t, "bodyfile"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("mactime", "-b", file, "-d", "-y", "-z", "UTC")
	var problems bytes.Buffer
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil || problems.Len() > 0 {
		t.Fatalf("%v\n%s", err, problems.Bytes())
	}
	for i, e := range events() {
		if e.Time == 0 {
			continue
		}
		day := time.Unix(0, e.Time).UTC().Format("2006-01-02T15:04:05Z")
		if !bytes.Contains(out, []byte(day)) {
			t.Errorf("event %d, at %s, is not in what mactime shows:\n%s", i, day, out)
		}
	}
	if !bytes.Contains(out, []byte("/usr/lib/conv")) {
		t.Errorf("no path:\n%s", out)
	}
}

func TestUnknown(t *testing.T) {
	if _, err := export.New("nope", nil, export.Meta{}); err == nil || !strings.Contains(err.Error(), "timesketch") {
		t.Errorf("%v", err)
	}
}

func FuzzGuard(f *testing.F) {
	for _, s := range []string{"=1+1", "-1", "-x", "@a", "\t=x", "\r\n=", "ok", "+"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if g := export.Guard(s); g != "" && strings.ContainsAny(g[:1], "=+@\t\r\n") {
			t.Fatalf("%q became %q", s, g)
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	all := events()
	for _, f := range export.Formats() {
		b.Run(f.Name, func(b *testing.B) {
			w, err := export.New(f.Name, discard{}, export.Meta{})
			if err != nil {
				b.Fatal(err)
			}
			for i := 0; b.Loop(); i++ {
				if err := w.Write(&all[i%len(all)]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }
