package generate

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// LogFile is a file that Logs wrote.
type LogFile struct {
	Path  string
	Lines int
	Bytes int64
	// Form is cri, docker, combined, klog, syslog or k8saudit.
	Form string
}

// forms are the sorts of logs, with their shares in thousandths and how many files of each there are.
var forms = [...]struct {
	name  string
	share int
	files int
	line  func(*logger, *logFile)
}{
	{"cri", 420, 30, (*logger).cri},
	{"docker", 150, 6, (*logger).docker},
	{"combined", 200, 1, (*logger).combined},
	{"klog", 80, 2, (*logger).klog},
	{"syslog", 80, 1, (*logger).syslog},
	{"k8saudit", 70, 1, (*logger).audit},
}

// logger writes the lines of logs.
type logger struct {
	*generator
	now time.Time
	in  []byte // the application's own line
}

type logFile struct {
	LogFile
	f     *os.File
	w     *bufio.Writer
	where *container
	style int
}

// Logs writes log files with n lines in all below dir, as the same cluster would: of the container runtime (CRI, with the JSON of ten logging libraries inside),
// of Docker's json-file with access logs inside, of nginx (combined), klog, syslog (RFC 3164) and the Kubernetes audit log. No line is longer than some
// 900 bytes; there are no rotated and no damaged files.
func Logs(dir string, n int, seed uint64) (_ []LogFile, err error) {
	l := &logger{generator: newGenerator(n, seed)}
	var files [len(forms)][]*logFile
	defer func() {
		for _, list := range files {
			for _, f := range list {
				err = errors.Join(err, f.w.Flush(), f.f.Close())
			}
		}
	}()
	pick := make([]int, 0, 1000)
	for i, form := range forms {
		for k := range form.files {
			f, err := l.create(dir, form.name, k)
			if err != nil {
				return nil, err
			}
			files[i] = append(files[i], f)
		}
		for range form.share {
			pick = append(pick, i)
		}
	}
	for i := range n {
		// Without jitter: each of these files has one writer.
		l.now = time.Unix(0, l.clock.at(i)).UTC()
		form := pick[l.intn(len(pick))]
		f := files[form][l.zipf(len(files[form]), 3.4)%len(files[form])]
		l.msg = l.msg[:0]
		forms[form].line(l, f)
		l.msg = append(l.msg, '\n')
		f.Lines++
		f.Bytes += int64(len(l.msg))
		if _, err := f.w.Write(l.msg); err != nil {
			return nil, err
		}
	}
	var out []LogFile
	for _, list := range files {
		for _, f := range list {
			out = append(out, f.LogFile)
		}
	}
	return out, nil
}

func (l *logger) create(dir, form string, k int) (*logFile, error) {
	f := &logFile{LogFile: LogFile{Form: form}, where: &l.containers[k*5%containerCount], style: k}
	c := f.where
	switch form {
	case "cri":
		f.Path = filepath.Join(dir, strings.TrimPrefix(c.log, "logs/"))
	case "docker":
		f.Path = filepath.Join(dir, "docker", c.id, c.id+"-json.log")
	case "combined":
		f.Path = filepath.Join(dir, "nginx", "access.log")
	case "klog":
		f.Path = filepath.Join(dir, "kube", []string{"kubelet.INFO", "kube-proxy.INFO"}[k])
	case "syslog":
		f.Path = filepath.Join(dir, "syslog")
	case "k8saudit":
		f.Path = filepath.Join(dir, "kube-apiserver", "audit.log")
	}
	if err := os.MkdirAll(filepath.Dir(f.Path), 0o755); err != nil {
		return nil, err
	}
	var err error
	if f.f, err = os.Create(f.Path); err != nil {
		return nil, err
	}
	f.w = bufio.NewWriterSize(f.f, 1<<18)
	if form == "klog" { // as it begins a file
		fmt.Fprintf(f.w, "Log file created at: %s\nRunning on machine: %s\nBinary: Built with gc go1.26.8 for linux/amd64\nLog line format: [IWEF]mmdd hh:mm:ss.uuuuuu threadid file:line] msg\n",
			Start.Format("2006/01/02 15:04:05"), l.nodes[0])
	}
	return f, nil
}

const nanoForm = "2006-01-02T15:04:05.000000000Z"

// cri wraps a line of JSON of the file's library.
func (l *logger) cri(f *logFile) {
	l.msg = l.now.AppendFormat(l.msg, nanoForm)
	if l.one(5) {
		l.text(" stderr F ")
	} else {
		l.text(" stdout F ")
	}
	l.library(f.style)
}

// library appends a line as one of ten logging libraries writes it.
func (l *logger) library(style int) {
	at := l.now.Add(-time.Duration(l.intn(900_000)))
	level, caller := levels[l.intn(len(levels))], callers[l.intn(len(callers))]
	number := map[string]string{"debug": "20", "info": "30", "warn": "40", "error": "50"}[level]
	switch style % 10 {
	case 0: // zap
		l.text(`{"level":"`).text(level).text(`","ts":`)
		l.msg = strconv.AppendFloat(l.msg, float64(at.UnixMicro())/1e6, 'f', 6, 64)
		l.text(`,"caller":"`).text(caller).text(`/handler.go:`).num(l.intn(400)).text(`","msg":`)
	case 1: // zerolog
		l.text(`{"level":"`).text(level).text(`","component":"`).text(caller).text(`","time":"`).stamp(at, time.RFC3339).text(`","message":`)
	case 2: // logrus
		l.text(`{"component":"`).text(caller).text(`","level":"`).text(level).text(`","time":"`).stamp(at, time.RFC3339).text(`","msg":`)
	case 3: // slog
		l.text(`{"time":"`).stamp(at, nanoForm).text(`","level":"`).text(strings.ToUpper(level)).text(`","logger":"`).text(caller).text(`","msg":`)
	case 4: // pino
		l.text(`{"level":`).text(number).text(`,"time":`).num(int(at.UnixMilli())).text(`,"pid":`).num(1 + l.intn(40)).text(`,"hostname":"`).text(l.containers[style].pod).text(`","msg":`)
	case 5: // winston
		l.text(`{"level":"`).text(level).text(`","service":"`).text(caller).text(`","timestamp":"`).stamp(at, "2006-01-02T15:04:05.000Z").text(`","message":`)
	case 6: // bunyan
		l.text(`{"name":"`).text(caller).text(`","hostname":"`).text(l.containers[style].pod).text(`","pid":1,"level":`).text(number).text(`,"time":"`).stamp(at, "2006-01-02T15:04:05.000Z").text(`","v":0,"msg":`)
	case 7: // structlog
		l.text(`{"logger":"`).text(caller).text(`","level":"`).text(level).text(`","timestamp":"`).stamp(at, "2006-01-02T15:04:05.000000Z").text(`","event":`)
	case 8: // logstash's encoder
		l.text(`{"@timestamp":"`).stamp(at, "2006-01-02T15:04:05.000Z").text(`","@version":"1","logger_name":"com.example.`).text(caller).text(`","thread_name":"http-nio-8080-exec-`).num(l.intn(20)).text(`","level":"`).text(strings.ToUpper(level)).text(`","message":`)
	case 9: // ECS
		l.text(`{"@timestamp":"`).stamp(at, "2006-01-02T15:04:05.000Z").text(`","log.level":"`).text(level).text(`","ecs.version":"1.6.0","log.logger":"`).text(caller).text(`","message":`)
	}
	l.quoted(func() { l.fill(appLines) })
	if l.one(10) {
		l.text(`,"trace_id":"`).text(l.hex(16)).text(`"`)
	}
	l.text("}")
}

func (g *generator) stamp(t time.Time, form string) *generator {
	g.msg = t.AppendFormat(g.msg, form)
	return g
}

// quoted appends as a JSON string what make appends.
func (l *logger) quoted(make func()) {
	from := len(l.msg)
	make()
	l.in = append(l.in[:0], l.msg[from:]...)
	l.msg = append(l.msg[:from], '"')
	for _, c := range l.in {
		if c == '"' || c == '\\' {
			l.msg = append(l.msg, '\\')
		}
		l.msg = append(l.msg, c)
	}
	l.msg = append(l.msg, '"')
}

// access appends a line of the combined form.
func (l *logger) access() {
	l.text(l.address()).text(" - ")
	if l.one(6) {
		l.text(l.user())
	} else {
		l.text("-")
	}
	l.text(" [").stamp(l.now, "02/Jan/2006:15:04:05 +0000").text(`] "`).text(methods[l.intn(len(methods))]).text(" ").text(l.request()).text(` HTTP/1.1" `).
		num(int(l.status())).text(" ").num(l.zipf(200_000, 12.2)).text(` "`)
	if l.one(3) {
		l.text("https://shop.example.com").text(l.request())
	} else {
		l.text("-")
	}
	l.text(`" "`).text(l.agent()).text(`"`)
}

func (l *logger) combined(*logFile) { l.access() }

func (l *logger) docker(*logFile) {
	l.text(`{"log":`)
	l.quoted(l.access)
	l.msg = l.msg[:len(l.msg)-1]
	l.text(`\n","stream":"stdout","time":"`).stamp(l.now, nanoForm).text(`"}`)
}

func (l *logger) klog(*logFile) {
	l.text([...]string{"I", "I", "I", "W", "E"}[l.intn(5)]).stamp(l.now, "0102 15:04:05.000000").text("    ").num(1000 + l.intn(9000)).text(" ").
		text([...]string{"kubelet.go", "prober.go", "pod_workers.go", "reconciler_common.go"}[l.intn(4)]).text(":").num(l.intn(3000)).text("] ")
	l.fill(kubeLines)
}

func (l *logger) syslog(*logFile) {
	l.stamp(l.now, time.Stamp).text(" ").text(l.nodes[0])
	if l.one(3) {
		l.text(" sshd[").num(1000 + l.intn(60000)).text("]: Failed password for ").text(l.user()).text(" from ").text(l.address()).text(" port ").num(1024 + l.intn(64000)).text(" ssh2")
		return
	}
	l.text(" systemd[1]: ")
	l.fill(systemLines)
}

func (l *logger) audit(*logFile) {
	c := l.container()
	verb, resource, id := verbs[l.intn(len(verbs))], resources[l.intn(len(resources))], l.hex(16)
	uri := "/api/v1/namespaces/" + c.namespace + "/" + resource + "/" + c.name
	l.text(`{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"`).text(id[:8]).text("-").text(id[8:12]).text("-4").text(id[13:16]).text("-a").text(id[17:20]).text("-").text(id[20:]).
		text(`","stage":"ResponseComplete","requestURI":"`).text(uri).text(`","verb":"`).text(verb).text(`","user":{"username":"`).text(l.identities[l.zipf(len(l.identities), 4.8)]).
		text(`","groups":["system:serviceaccounts","system:authenticated"]},"sourceIPs":["`).text(l.address()).text(`"],"userAgent":"kubelet/v1.34.4 (linux/amd64) kubernetes/`).num(l.intn(9)).
		text(`","objectRef":{"resource":"`).text(resource).text(`","namespace":"`).text(c.namespace).text(`","name":"`).text(c.name).text(`","apiVersion":"v1"},"responseStatus":{"metadata":{},"code":`).num(int(l.status())).
		text(`},"requestReceivedTimestamp":"`).stamp(l.now, "2006-01-02T15:04:05.000000Z").text(`","stageTimestamp":"`).stamp(l.now.Add(time.Duration(l.intn(9_000_000))), "2006-01-02T15:04:05.000000Z").
		text(`","annotations":{"authorization.k8s.io/decision":"allow","authorization.k8s.io/reason":""}}`)
}
