package detect_test

import (
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/detect/detecttest"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/verdict"
)

func TestTurnedTools(t *testing.T) {
	for _, c := range []struct {
		line string
		want verdict.Severity
	}{
		{"openssl s_client -quiet -connect 203.0.113.9:4444", verdict.Medium},
		{"openssl s_client -connect evil.example:4444", verdict.Medium},
		{"openssl s_client -connect [2001:db8::1]:4444", verdict.Medium},
		{"openssl s_client -connect 127.0.0.1:4444", verdict.Info},
		{"openssl s_client -connect shop.example:443", verdict.Info},
		{"openssl base64 -in /proc/1/environ", verdict.Medium},
		{"openssl enc -base64 -in /etc/shadow -out /tmp/x", verdict.Medium},
		{"openssl enc -aes-256-cbc -in /data/report.csv -out /data/report.csv.enc", verdict.Info},
		{"openssl rsa -engine /tmp/x.so", verdict.High},
		{"openssl engine dynamic -pre SO_PATH:/dev/shm/x.so -pre LOAD", verdict.High},
		{"openssl rsa -engine pkcs11", verdict.Info},
		{"openssl x509 -in /app/tls/tls.crt -noout -enddate", verdict.Info},
		{"openssl req -x509 -newkey ec -keyout /tls/tls.key -out /tls/tls.crt -subj /CN=shop.example", verdict.Info},
		{"openssl", verdict.Info},
	} {
		s := detecttest.Busy()
		p := s.Process(4017, 17, 4001, "/usr/bin/openssl", record.ExeImage, after)
		p.Cmdline = nil
		for _, w := range strings.Fields(c.line) {
			p.Cmdline = append(p.Cmdline, record.Name(w))
		}
		a := run(t, s)["process-tool-turned"]
		if a.Gravest() != c.want || c.want == verdict.Info && a.State() != detect.Clean {
			t.Errorf("%s: %s, want %s: %+v", c.line, a.Gravest(), c.want, a.Hits)
		}
		if c.want == verdict.Info {
			continue
		}
		s.Processes[1].PPID = 1 // an operator's, started by the runtime from outside
		if a := run(t, s)["process-tool-turned"]; a.Gravest() != verdict.Low {
			t.Errorf("%s, started from outside: %s", c.line, a.Gravest())
		}
	}
	s := detecttest.Busy()
	s.Config = `{"config":{"Env":["UPSTREAM=203.0.113.9:4444"],"ExposedPorts":{"8080/tcp":{}}}}`
	s.Process(4017, 17, 4001, "/usr/bin/openssl", record.ExeImage, after).Cmdline = []record.Name{"openssl", "s_client", "-connect", "203.0.113.9:4444"}
	if a := run(t, s)["process-tool-turned"]; a.State() != detect.Clean {
		t.Errorf("a place that the runtime names: %+v", a.Hits)
	}
}

func TestMining(t *testing.T) {
	const two = `{"id":1,"method":"mining.subscribe","params":[]}xx{"id":null,"method":"mining.notify","params":["1"]}`
	for _, c := range []struct {
		name  string
		scene func(s *detecttest.Scene)
		want  verdict.Severity
	}{
		{"across the border of two reads", func(s *detecttest.Scene) {
			s.Cores[4001] = []byte(strings.Repeat("x", 4<<20-30) + two)
			s.Connect(&s.Processes[0], 9, "203.0.113.9", 3333, 1, 1)
		}, verdict.High},
		{"of Monero's kind", func(s *detecttest.Scene) {
			s.Cores[4001] = []byte(`{"blob":"0e0e","job_id":"4BiGm3","seed_hash":"f1a2"}`)
			s.Connect(&s.Processes[0], 9, "203.0.113.9", 3333, 1, 1)
		}, verdict.High},
		{"one kind of call", func(s *detecttest.Scene) {
			s.Cores[4001] = []byte(strings.Repeat(`{"method":"mining.notify"}`, 20))
			s.Connect(&s.Processes[0], 9, "203.0.113.9", 3333, 1, 1)
		}, verdict.Info},
		{"the words alone, as a scanner has them", func(s *detecttest.Scene) {
			s.Cores[4001] = []byte("mining.subscribe mining.notify mining.submit \"mining.authorize\"")
			s.Connect(&s.Processes[0], 9, "203.0.113.9", 3333, 1, 1)
		}, verdict.Info},
		{"a pool's server, which was called", func(s *detecttest.Scene) {
			s.Cores[4001] = []byte(two)
			s.Sockets = s.Sockets[:2]
		}, verdict.Info},
		{"a pool that the runtime names", func(s *detecttest.Scene) {
			s.Cores[4001] = []byte(two)
			s.Sockets = s.Sockets[:2]
			s.Config = `{"config":{"Env":["POOL=203.0.113.9:3333"],"ExposedPorts":{"8080/tcp":{}}}}`
			s.Connect(&s.Processes[0], 9, "203.0.113.9", 3333, 1, 1)
		}, verdict.Info},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := detecttest.Busy()
			c.scene(s)
			a := run(t, s)["network-mining-protocol"]
			if a.Gravest() != c.want {
				t.Errorf("is %s %s, want %s: %+v", a.State(), a.Gravest(), c.want, a.Hits)
			}
		})
	}
}

func TestEncodedEnvironment(t *testing.T) {
	s := detecttest.Busy()
	env := strings.Join(s.Env[4001], "\x00") + "\x00"
	b64 := base64.StdEncoding.EncodeToString([]byte(env))
	wrapped := b64[:64] + "\n" + b64[64:] + "\n"
	if len(b64) <= 64 || len(b64) > 128 {
		t.Fatalf("the scene's environment has %d bytes in base64", len(b64))
	}
	for _, text := range []string{b64, b64 + "\n", wrapped, hex.EncodeToString([]byte(env))} {
		s := detecttest.Busy()
		s.AddFile("/data/cache/x", text, 0o644, after)
		a := run(t, s)["file-holds-environment"]
		if a.Gravest() != verdict.High || len(a.Hits) != 1 || !strings.Contains(a.Hits[0].Statement, " in ") {
			t.Errorf("%.20q…: %s: %+v", text, a.State(), a.Hits)
		}
	}
}

// An application may bring itself up to date where its image or runtime says so; nobody else may, and no request may ask for it.
func TestAnnouncedUpdates(t *testing.T) {
	for _, c := range []struct {
		config string
		want   verdict.Severity
	}{
		{`{"config":{"Env":["UPDATE_DIR=/app/lib"]}}`, verdict.Low},
		{`{"config":{"Env":["SHOP_AUTO_UPDATE=/app/lib/libimg.so"]}}`, verdict.Low},
		{`{"config":{"Env":["A=b"],"Labels":{"org.example.updates":"/app/lib"}}}`, verdict.Low},
		{`{"config":{"Env":["UPDATE_DIR=/"]}}`, verdict.High},
		{`{"config":{"Env":["UPDATE_DIR=/app/plugins"]}}`, verdict.High},
		{`{"config":{"Env":["LIB_DIR=/app/lib"]}}`, verdict.High},
	} {
		s := detecttest.Busy()
		s.Config = c.config
		s.Replace("/app/lib/libimg.so", elf+"other", after)
		if a := run(t, s)["file-program-replaced"]; a.Gravest() != c.want {
			t.Errorf("%s: %s, want %s", c.config, a.Gravest(), c.want)
		}
	}
}

func TestCoresAreNoPrograms(t *testing.T) {
	core := elf + strings.Repeat("\x00", 8) + "\x04\x00" + strings.Repeat("x", 100)
	s := detecttest.Busy()
	s.AddFile("/data/core.17", core, 0o600, after)
	s.MountFile("/var/lib/shop", "/var/lib/shop/core", core, 0o600, after)
	answers := run(t, s)
	for _, id := range []string{"file-foreign-program", "file-program-in-memory-mount"} {
		if a := answers[id]; a.Gravest() != verdict.Info || len(a.Hits) != 1 && id == "file-foreign-program" {
			t.Errorf("%s is %s: %+v", id, a.Gravest(), a.Hits)
		}
	}
	s = detecttest.Busy()
	s.AddFile("/data/core.17", core, 0o600, after)
	if a := run(t, s, "upper")["file-foreign-program"]; a.Gravest() != verdict.Low || len(a.Blind) != 1 {
		t.Errorf("one whose content was not kept is %s: %+v", a.Gravest(), a)
	}
	s = detecttest.Busy()
	s.AddFile("/data/core.17", core, 0o755, after)
	s.AddFile("/data/core.so", implant, 0o644, after)
	if a := run(t, s, "upper")["file-foreign-program"]; a.Gravest() != verdict.High || len(a.Hits) != 2 || a.Hits[1].Severity != verdict.Medium {
		t.Errorf("what can be run, or is named so by half, is %s: %+v", a.Gravest(), a.Hits)
	}
}

// What came in an earlier run did not come with the last start.
func TestBegunAgain(t *testing.T) {
	s := detecttest.Busy()
	began := detecttest.Capture.Add(-time.Minute)
	s.Container.Started = began
	s.Extra["target/inspect.json"] = `[{"Created":"` + detecttest.Start.Format(time.RFC3339Nano) + `","State":{"StartedAt":"` + began.Format(time.RFC3339Nano) +
		`","FinishedAt":"` + began.Add(-time.Second).Format(time.RFC3339Nano) + `"}}]`
	s.AddFile("/etc/cron.d/x", "* * * * * root /x\n", 0o644, after)
	if a := run(t, s)["file-configuration-changed"]; a.Gravest() != verdict.High {
		t.Errorf("is %s: %+v", a.Gravest(), a.Hits)
	}
	delete(s.Extra, "target/inspect.json")
	if a := run(t, s)["file-configuration-changed"]; a.Gravest() != verdict.Low {
		t.Errorf("without a restart it is %s: %+v", a.Gravest(), a.Hits)
	}
}
