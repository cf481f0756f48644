package export

import (
	"cmp"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/sherd-forensics/sherd/event"
)

// meaning puts a time's kind into words, as Timesketch and plaso have them.
func meaning(e *event.Event) string {
	switch e.TimeKind {
	case event.Created:
		return "Creation Time"
	case event.Modified:
		return "Content Modification Time"
	case event.Changed:
		return "Metadata Modification Time"
	case event.Accessed:
		return "Last Access Time"
	case event.Started:
		return "Start Time"
	case event.Exited:
		return "End Time"
	case event.Observed:
		return "Observed Time"
	case event.Logged:
		return "Recorded Time"
	}
	return "Time"
}

// timesketchJSONL is what Timesketch's importer takes as JSON lines: message, datetime and timestamp_desc are required, timestamp is in
// microseconds (https://timesketch.org/guides/user/import-from-json-csv/). An event without a time can't be imported, and is given the year 1970.
type timesketchJSONL struct{ enc *json.Encoder }

func newTimesketchJSONL(w io.Writer, _ Meta) (Writer, error) {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return &timesketchJSONL{e}, nil
}

func (t *timesketchJSONL) Write(e *event.Event) error {
	m := map[string]any{}
	if len(e.Attributes) > 0 {
		if err := json.Unmarshal(e.Attributes, &m); err != nil {
			m = map[string]any{"attributes": string(e.Attributes)}
		}
	}
	// Columns win over attributes of the same name.
	for k, v := range columns(e) {
		m[k] = v
	}
	m["message"], m["timestamp"], m["datetime"], m["timestamp_desc"] = e.Message, e.Time/1000, datetime(e.Time), meaning(e)
	if e.Message == "" {
		m["message"] = string(e.Kind)
	}
	if e.Technique != "" {
		m["tag"] = []string{e.Technique}
	}
	return t.enc.Encode(m)
}

func (t *timesketchJSONL) Close() error { return nil }

// datetime is Datetime that is never empty.
func datetime(ns int64) string {
	if ns == 0 {
		return "1970-01-01T00:00:00.000000+00:00"
	}
	return Datetime(ns)
}

// columns are those that are not empty, by their names in Timesketch's own timelines where it has one.
func columns(e *event.Event) map[string]any {
	m := map[string]any{}
	text := func(k, v string) {
		if v != "" {
			m[k] = v
		}
	}
	number := func(k string, v int64) {
		if v != 0 {
			m[k] = v
		}
	}
	text("kind", string(e.Kind))
	text("time_kind", string(e.TimeKind))
	text("evidence_id", e.EvidenceID)
	text("container_id", e.ContainerID)
	text("container", e.Container)
	text("image_digest", e.ImageDigest)
	text("pod", e.Pod)
	text("namespace", e.Namespace)
	text("hostname", e.Node)
	text("process", e.Process)
	text("cmdline", e.Cmdline)
	text("username", e.User)
	text("identity", e.Identity)
	text("filename", e.Path)
	text("sha256_hash", e.SHA256)
	text("src_ip", e.SrcIP)
	text("dst_ip", e.DstIP)
	text("protocol", e.Protocol)
	text("technique", e.Technique)
	text("parser", e.Parser)
	text("source_artifact", e.Artifact)
	number("pid", int64(e.PID))
	number("ppid", int64(e.PPID))
	number("file_size", e.Size)
	number("src_port", int64(e.SrcPort))
	number("dst_port", int64(e.DstPort))
	number("source_offset", e.Offset)
	number("source_length", e.Length)
	return m
}

// timesketchCSV has the same in columns that are the same in each line.
type timesketchCSV struct{ w *csv.Writer }

var timesketchHeader = []string{"message", "timestamp", "datetime", "timestamp_desc", "kind", "hostname", "container", "pod", "namespace", "username", "identity", "pid", "process", "cmdline",
	"filename", "sha256_hash", "src_ip", "src_port", "dst_ip", "dst_port", "technique", "parser", "source_artifact", "source_offset", "source_length", "attributes"}

func newTimesketchCSV(w io.Writer, _ Meta) (Writer, error) {
	t := &timesketchCSV{csv.NewWriter(w)}
	return t, t.w.Write(timesketchHeader)
}

func (t *timesketchCSV) Write(e *event.Event) error {
	m := columns(e)
	m["message"], m["timestamp"], m["datetime"], m["timestamp_desc"], m["attributes"] = e.Message, e.Time/1000, datetime(e.Time), meaning(e), string(e.Attributes)
	if e.Message == "" {
		m["message"] = string(e.Kind)
	}
	row := make([]string, len(timesketchHeader))
	for i, k := range timesketchHeader {
		if v, ok := m[k]; ok {
			row[i] = Guard(fmt.Sprint(v))
		}
	}
	return t.w.Write(row)
}

func (t *timesketchCSV) Close() error {
	t.w.Flush()
	return t.w.Error()
}

// l2t is log2timeline's CSV (https://plaso.readthedocs.io/en/latest/sources/user/Output-format-l2t_csv.html): 17 columns, times to the second.
type l2t struct{ w *csv.Writer }

func newL2T(w io.Writer, _ Meta) (Writer, error) {
	l := &l2t{csv.NewWriter(w)}
	return l, l.w.Write(strings.Split("date,time,timezone,MACB,source,sourcetype,type,user,host,short,desc,version,filename,inode,notes,format,extra", ","))
}

func (l *l2t) Write(e *event.Event) error {
	date, clock := "00/00/0000", "--:--:--"
	if e.Time != 0 {
		t := time.Unix(0, e.Time).UTC()
		date, clock = t.Format("01/02/2006"), t.Format("15:04:05")
	}
	macb := map[event.TimeKind]string{event.Modified: "M...", event.Accessed: ".A..", event.Changed: "..C.", event.Created: "...B"}[e.TimeKind]
	if macb == "" {
		macb = "...."
	}
	source, _, _ := strings.Cut(string(e.Kind), ".")
	name := e.Path
	if name == "" {
		name = e.Artifact
	}
	extra := fmt.Sprintf("artifact: %s; offset: %d; length: %d", e.Artifact, e.Offset, e.Length)
	if e.SHA256 != "" {
		extra += "; sha256: " + e.SHA256
	}
	short := []rune(e.Message)
	row := []string{date, clock, "UTC", macb, strings.ToUpper(source), string(e.Kind), meaning(e), dash(e.User), dash(cmp.Or(e.Node, e.Container)), dash(string(short[:min(len(short), 80)])),
		dash(e.Message), "2", dash(name), "-", dash(e.Technique), e.Parser, extra}
	for i, s := range row {
		if i > 3 && s != "-" {
			row[i] = Guard(strings.ReplaceAll(s, "\n", " "))
		}
	}
	return l.w.Write(row)
}

func (l *l2t) Close() error {
	l.w.Flush()
	return l.w.Error()
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// body is the body file of The Sleuth Kit (https://wiki.sleuthkit.org/index.php?title=Body_file). Each event is a line with the one time that it has: mactime joins
// those of the same file again. What is no file's time stands as a name in brackets.
type body struct{ w io.Writer }

func newBody(w io.Writer, _ Meta) (Writer, error) { return &body{w}, nil }

func (b *body) Write(e *event.Event) error {
	if e.Time == 0 {
		return nil // mactime has no place for it
	}
	name := e.Path
	if !strings.HasPrefix(string(e.Kind), "file.") || name == "" {
		name = "[" + string(e.Kind) + "] " + e.Message
	}
	name = strings.Map(func(r rune) rune {
		if r < 0x20 || r == '|' || r == 0x7f {
			return ' '
		}
		return r
	}, name)
	var f struct {
		Mode string `json:"mode"`
		UID  int64  `json:"uid"`
		GID  int64  `json:"gid"`
	}
	_ = json.Unmarshal(e.Attributes, &f) // of files only; others have none of these
	at := [4]int64{}                     // accessed, modified, changed, created
	secs := e.Time / 1e9
	switch e.TimeKind {
	case event.Accessed:
		at[0] = secs
	case event.Changed:
		at[2] = secs
	case event.Created:
		at[3] = secs
	default:
		at[1] = secs
	}
	_, err := fmt.Fprintf(b.w, "0|%s|0|%s|%d|%d|%d|%d|%d|%d|%d\n", name, strings.ReplaceAll(f.Mode, "|", ""), f.UID, f.GID, e.Size, at[0], at[1], at[2], at[3])
	return err
}

func (b *body) Close() error { return nil }

// cef is ArcSight's Common Event Format, version 0: one line an event.
type cef struct {
	w    io.Writer
	tool string
}

func newCEF(w io.Writer, m Meta) (Writer, error) {
	_, version, _ := strings.Cut(m.Tool, " ")
	return &cef{w, cmp.Or(version, "0")}, nil
}

func (c *cef) Write(e *event.Event) error {
	head := strings.NewReplacer(`\`, `\\`, `|`, `\|`, "\n", " ", "\r", " ")
	value := strings.NewReplacer(`\`, `\\`, `=`, `\=`, "\n", `\n`, "\r", `\r`)
	severity := 3
	if e.Kind == event.Alert {
		severity = 8
	} else if e.Technique != "" {
		severity = 6
	}
	var b strings.Builder
	name := []rune(plain(cmp.Or(e.Message, string(e.Kind))))
	fmt.Fprintf(&b, "CEF:0|Sherd|sherd|%s|%s|%s|%d|", head.Replace(c.tool), head.Replace(string(e.Kind)), head.Replace(string(name[:min(len(name), 512)])), severity)
	begun := false
	put := func(k, v string) {
		if v == "" || v == "0" {
			return
		}
		if begun {
			b.WriteByte(' ')
		}
		begun = true
		b.WriteString(k + "=" + value.Replace(plain(v)))
	}
	put("rt", strconv.FormatInt(e.Time/1e6, 10))
	put("msg", string(name[:min(len(name), 1023)]))
	put("src", e.SrcIP)
	put("spt", strconv.Itoa(e.SrcPort))
	put("dst", e.DstIP)
	put("dpt", strconv.Itoa(e.DstPort))
	put("proto", e.Protocol)
	put("suser", cmp.Or(e.User, e.Identity))
	put("spid", strconv.Itoa(e.PID))
	put("sproc", e.Process)
	put("filePath", e.Path)
	put("fileHash", e.SHA256)
	put("fsize", strconv.FormatInt(e.Size, 10))
	put("dvchost", e.Node)
	for i, x := range [][2]string{{"container", e.Container}, {"pod", e.Pod}, {"namespace", e.Namespace}, {"technique", e.Technique}, {"artifact", e.Artifact}, {"cmdline", e.Cmdline}} {
		if x[1] != "" {
			put(fmt.Sprintf("cs%dLabel", i+1), x[0])
			put(fmt.Sprintf("cs%d", i+1), x[1])
		}
	}
	put("cn1Label", "offset")
	put("cn1", strconv.FormatInt(e.Offset, 10))
	_, err := io.WriteString(c.w, b.String()+"\n")
	return err
}

// plain makes spaces of control bytes that no line may have.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 && r != '\n' && r != '\r' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

func (c *cef) Close() error { return nil }
