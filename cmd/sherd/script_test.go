package main

import (
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sherd-forensics/sherd/collect/memory"
	"github.com/sherd-forensics/sherd/detect/detecttest"
	"github.com/sherd-forensics/sherd/evidence/record"
)

// remembering is a package with the memory of two processes: the one holds this very test's program, the other what an intruder's may.
func remembering(t *testing.T) []byte {
	t.Helper()
	exe, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	const whole = 1 << 20 // of the program: enough for its headers
	s := detecttest.Busy()
	s.Foreign(4017, 17, 4001, "/usr/lib/conv", record.ExeDeleted, string(exe[:whole]), detecttest.Attack)
	for pid, content := range map[int]string{
		4001: "upload " + string(exe[:whole]),
		4017: "GET http://203.0.113.9:4444/task\x00http://203.0.113.9:4444/task\x00 to 203.0.113.9:4444\x00gh" + "p_" + strings.Repeat("aB3xZ9qLm0", 4)[:36] +
			"\x00bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4\x00http://shop:pa55word@db.example.com/\x1b[31m",
	} {
		s.Cores[pid] = []byte(content)
		for i := range s.Maps[pid] {
			if m := &s.Maps[pid][i]; m.Path == "[heap]" {
				m.Segments = []record.Segment{{Addr: m.Start, Length: int64(len(content))}}
			}
		}
	}
	b, err := os.ReadFile(s.Write(t).Path())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestMain lets test scripts and tests run the program in a process of its own. A frozen container's watchdog is one too: it is this
// same binary, started again.
func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" || memory.IsWatchdog(os.Args[1:]) {
		main()
	}
	testscript.Main(m, map[string]func(){"sherd": main})
}

// TestScript runs the command line as a user does, without any runtime.
func TestScript(t *testing.T) {
	remembering := remembering(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			if err := os.WriteFile(e.WorkDir+"/memory.sherd", remembering, 0o644); err != nil {
				return err
			}
			e.Setenv("XDG_CONFIG_HOME", e.WorkDir+"/config")
			e.Setenv("HOME", e.WorkDir)
			// Nothing answers here: a test must not depend on what runs on the machine.
			e.Setenv("DOCKER_HOST", "unix://"+e.WorkDir+"/no-docker.sock")
			e.Setenv("CONTAINERD_ADDRESS", e.WorkDir+"/no-containerd.sock")
			e.Setenv("CONTAINER_HOST", "unix://"+e.WorkDir+"/no-podman.sock")
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if cond == "root" {
				return os.Getuid() == 0, nil
			}
			return false, nil
		},
	})
}
