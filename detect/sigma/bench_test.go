package sigma

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/event"
)

// benchRules are rules as collections have them: programs and arguments for the most part, some for the API server and the web.
func benchRules(n int) *Set {
	s := Empty()
	for i := range n {
		var src string
		switch i % 5 {
		case 0, 1:
			src = fmt.Sprintf("logsource: {product: linux, category: process_creation}\ndetection:\n  img:\n    Image|endswith: ['/tool%d', '/other%d']\n  arg:\n    CommandLine|contains|all: ['--flag%d', 'http']\n  filter:\n    ParentImage|endswith: '/agent'\n  condition: img and arg and not filter\n", i, i, i)
		case 2:
			src = fmt.Sprintf("logsource: {product: linux, service: auditd}\ndetection:\n  a:\n    type: EXECVE\n    a1|startswith: '-x%d'\n  b:\n    exe|endswith: '/prog%d'\n  condition: a or b\n", i, i)
		case 3:
			src = fmt.Sprintf("logsource: {product: kubernetes, service: audit}\ndetection:\n  a:\n    verb: [create, patch]\n    objectRef.resource: kind%ds\n  b:\n    responseStatus.code|gte: 400\n  condition: a and not b\n", i)
		case 4:
			src = fmt.Sprintf("logsource: {category: webserver}\ndetection:\n  a:\n    cs-uri-query|re|i: 'exploit%d=[a-z]+'\n  b:\n    cs-user-agent|contains: 'Scanner%d/'\n  condition: 1 of them\n", i, i)
		}
		if _, refused := s.Add("bench.yml", []byte(fmt.Sprintf("title: r%d\n", i)+src)); len(refused) > 0 {
			panic(refused)
		}
	}
	return s
}

func benchEvents(n int) []event.Event {
	rng := rand.New(rand.NewPCG(1, 2))
	out := make([]event.Event, n)
	for i := range out {
		e := &out[i]
		e.Time, e.Artifact, e.Length = epoch.UnixNano()+int64(i)*1e6, "added/x.log", 300
		switch i % 4 {
		case 0:
			*e = event.Event{Time: e.Time, Artifact: e.Artifact, Kind: event.ProcessStarted, Parser: "auditd", Process: "node", Path: fmt.Sprintf("/usr/bin/tool%d", rng.IntN(900)), User: "app",
				Cmdline:    fmt.Sprintf("/usr/bin/tool%d --config /etc/app/config.json --flag%d http://service-%d.internal:8080/path", rng.IntN(900), rng.IntN(900), rng.IntN(99)),
				Attributes: json.RawMessage(`{"type":"SYSCALL,EXECVE,CWD,PATH,PROCTITLE","serial":412,"syscall":"execve","success":"yes","exit":"0","key":"exec","cwd":"/srv/app","euid":"65532","args":["/usr/bin/tool","--config","/etc/app/config.json"]}`)}
		case 1:
			*e = event.Event{Time: e.Time, Artifact: e.Artifact, Kind: event.K8sAudit, Parser: "k8saudit", Identity: "system:serviceaccount:shop:checkout", SrcIP: "10.244.0.17", Namespace: "shop",
				Message:    "system:serviceaccount:shop:checkout: get configmaps shop/settings from 10.244.0.17",
				Attributes: json.RawMessage(fmt.Sprintf(`{"audit_id":"e6f5978b-39b9-4c5d-a3df-d814cf434b3b","decision":"allow","groups":"system:serviceaccounts,system:authenticated","http_user_agent":"app/1.2","name":"settings","resource":"kind%ds","response_code":200,"verb":"get"}`, rng.IntN(900)))}
		default:
			*e = event.Event{Time: e.Time, Artifact: e.Artifact, Kind: event.HTTPRequest, Parser: "containerlog", SrcIP: "10.0.7.31", Message: fmt.Sprintf("GET /api/items/%d?page=2&sort=price 200 from 10.0.7.31", rng.IntN(1e6)),
				Attributes: json.RawMessage(fmt.Sprintf(`{"form":"json","format":"json-file","http_method":"GET","http_path":"/api/items/%d?page=2&sort=price","http_status":200,"http_user_agent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36","stream":"stdout"}`, rng.IntN(1e6)))}
		}
	}
	return out
}

// BenchmarkMatch asks 300 rules of events, with the index and, for comparison, each rule of each event of its log source.
func BenchmarkMatch(b *testing.B) {
	for _, way := range []string{"index", "naive"} {
		b.Run(way, func(b *testing.B) {
			s := benchRules(300)
			s.plain = way == "naive"
			list := benchEvents(benchSize())
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				if _, err := s.Answers(context.Background(), detect.Input{Facts: facts(), Events: seq(list, nil)}); err != nil {
					b.Fatal(err)
				}
				n += len(list)
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// benchSize is 100,000 events, or what SIGMA_EVENTS says.
func benchSize() int {
	if n, err := strconv.Atoi(os.Getenv("SIGMA_EVENTS")); err == nil && n > 0 {
		return n
	}
	return 100_000
}
