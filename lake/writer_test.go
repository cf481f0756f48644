package lake

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/event"
)

func fake(n int, emit func(*event.Event) error) error {
	r := rand.New(rand.NewPCG(1, 2))
	z := rand.NewZipf(r, 1.2, 4, 199)
	zp := rand.NewZipf(r, 1.1, 10, 99999)
	kinds := []event.Kind{event.LogLine, event.HTTPRequest, event.FileModified, event.ProcessStarted, event.NetConnected, event.K8sAudit}
	t := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC).UnixNano()
	var a event.Attributes
	for i := range n {
		t += int64(r.ExpFloat64() * 1.2e8)
		c := z.Uint64()
		p := zp.Uint64()
		e := event.Event{Time: t + int64(r.IntN(1000000)), TimeKind: event.Logged, Kind: kinds[int(r.ExpFloat64())%len(kinds)], Container: fmt.Sprintf("svc-%d", c), ContainerID: fmt.Sprintf("%064x", c*7919),
			Namespace: fmt.Sprintf("ns-%d", c%17), Pod: fmt.Sprintf("svc-%d-%x-%d", c, c*77, i%3), Node: fmt.Sprintf("node-%d", c%9), EvidenceID: "0123456789abcdef", Parser: "containerlog", Artifact: fmt.Sprintf("logs/%d.log", c), Offset: int64(i) * 200, Length: 180 + int64(r.IntN(80))}
		a.Reset()
		a.String("stream", "stdout")
		a.String("level", "info")
		if r.IntN(2) == 0 {
			ip := fmt.Sprintf("10.%d.%d.%d", p%3, p/256%256, p%256)
			e.Kind, e.SrcIP, e.SrcPort, e.Path = event.HTTPRequest, ip, 1024+r.IntN(60000), fmt.Sprintf("/api/v1/users/%d/cart", p)
			e.Message = fmt.Sprintf("GET /api/v1/users/%d/cart 200 %dms from %s", p, r.IntN(500), ip)
			a.Int("http_status", 200)
			a.String("http_method", "GET")
			a.String("http_user_agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36")
		} else {
			e.Message = fmt.Sprintf("processed order %d for customer %d in %d ms with payment provider stripe, retry=%d", r.IntN(1e7), p, r.IntN(900), r.IntN(3))
			e.PID = 1 + int(c)
			e.Process = "server"
			if r.IntN(10) == 0 {
				a.String("trace_id", fmt.Sprintf("%016x%016x", r.Uint64(), r.Uint64()))
			}
		}
		if i%(n/20) == 7 {
			e.Message += " xmrig-needle"
		}
		e.Attributes = a.JSON()
		if err := emit(&e); err != nil {
			return err
		}
	}
	return nil
}

func TestBuild(t *testing.T) {
	n := 10_000_000
	dir := os.Getenv("LAKEDIR")
	if dir == "" {
		t.Skip()
	}
	os.RemoveAll(dir)
	os.MkdirAll(dir, 0o755)
	begin := time.Now()
	fake(n, func(*event.Event) error { return nil })
	t.Log("generate", time.Since(begin))
	begin = time.Now()
	w, err := NewWriter(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := fake(n, w.Write); err != nil {
		t.Fatal(err)
	}
	m, err := w.Close("k", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Log("write", time.Since(begin), float64(n)/time.Since(begin).Seconds())
	total := int64(0)
	for _, f := range m.Files {
		total += f.Size
		if f.Name == textName {
			t.Logf("index %.1f B/event", float64(f.Size)/float64(n))
		}
	}
	t.Logf("%.1f B/event, %d groups", float64(total)/float64(n), len(m.Groups))
}
