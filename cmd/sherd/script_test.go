package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sherd-forensics/sherd/collect/memory"
)

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
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
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
