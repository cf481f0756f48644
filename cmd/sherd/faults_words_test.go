package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	crypt "filippo.io/age"

	"github.com/sherd-forensics/sherd/internal/testenv"
	"github.com/sherd-forensics/sherd/lab"
)

// says runs the program and holds its status and words against what is wanted.
func says(t *testing.T, l *lab.Lab, want int, words string, args ...string) {
	t.Helper()
	status, out, errOut := sherd(t, l, args...)
	t.Logf("sherd %s: %d\n%s", args[0], status, errOut)
	if status != want || !strings.Contains(out+errOut, words) {
		t.Errorf("sherd %s: status %d, want %d and %q:\n%s%s", strings.Join(args, " "), status, want, words, out, errOut)
	}
	if strings.Contains(out+errOut, "goroutine ") {
		t.Error("a stack trace is no message")
	}
}

// TestFaultWhere refuses outputs and choices that can't be, before anything is taken.
func TestFaultWhere(t *testing.T) {
	l := lab.Need(t, "docker")
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	c := l.Run(t, lab.RunSpec{Runtime: "docker", Image: "goweb", Name: "where"})
	dir := t.TempDir()
	pkg := filepath.Join(dir, "x.sherd")
	says(t, l, 1, filepath.Join(dir, "none"), "collect", c.Target, "-o", filepath.Join(dir, "none", "x.sherd"))
	says(t, l, 2, "--memory", "collect", c.Target, "-o", pkg, "--memory", "most")
	says(t, l, 2, "--encrypt-to", "collect", c.Target, "-o", pkg, "--encrypt-to", "nobody")
	says(t, l, 1, "none.key", "collect", c.Target, "-o", pkg, "--key", filepath.Join(dir, "none.key"))
	says(t, l, 1, "sherd targets", "collect", c.Target+"x", "-o", pkg)
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("a refused capture left %v (%v)", left, err)
	}
}

// TestFaultMemoryModes holds what --memory takes against what it says.
func TestFaultMemoryModes(t *testing.T) {
	l := lab.Need(t, "docker")
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	c := l.Run(t, lab.RunSpec{Runtime: "docker", Image: "goweb", Name: "modes"})
	sizes := map[string]int64{}
	for _, mode := range []string{"none", "private", "full"} {
		pkg := filepath.Join(t.TempDir(), "x.sherd")
		says(t, l, 0, "", "collect", c.Target, "-o", pkg, "--memory", mode)
		for _, e := range openPackage(t, pkg).Artifacts("process/") {
			if strings.HasSuffix(e.Path, "/core") {
				sizes[mode] += e.Size
			}
		}
	}
	if sizes["none"] != 0 || sizes["private"] == 0 || sizes["full"] <= sizes["private"] {
		t.Errorf("sizes of cores: %v", sizes)
	}
}

// TestFaultKeys opens encrypted packages with and without the right identity, and verifies with the right and a wrong key.
func TestFaultKeys(t *testing.T) {
	l := lab.Need(t, "docker")
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	c := l.Run(t, lab.RunSpec{Runtime: "docker", Image: "goweb", Name: "keys"})
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	identity := func(name string) (*crypt.X25519Identity, string) {
		id, err := crypt.GenerateX25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		return id, write(name, []byte(id.String()+"\n"))
	}
	id, right := identity("right.txt")
	_, wrong := identity("wrong.txt")
	sealed := filepath.Join(dir, "sealed.sherd")
	says(t, l, 0, "", "collect", c.Target, "-o", sealed, "--encrypt-to", id.Recipient().String())
	b, err := os.ReadFile(sealed)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(b, []byte("manifest.json")) {
		t.Error("an encrypted package names its artifacts")
	}
	for _, cmd := range []string{"verify", "show", "investigate"} {
		says(t, l, 1, "--identity", cmd, sealed)
		says(t, l, 1, "--identity", cmd, sealed, "--identity", wrong)
		says(t, l, 0, "", cmd, sealed, "--identity", right)
	}
	says(t, l, 1, "none.txt", "show", sealed, "--identity", filepath.Join(dir, "none.txt"))

	status, own, errOut := sherd(t, l, "key")
	if status != 0 {
		t.Fatal(errOut)
	}
	t.Setenv("XDG_CONFIG_HOME", t.TempDir()) // somebody else
	status, other, errOut := sherd(t, l, "key")
	if status != 0 {
		t.Fatal(errOut)
	}
	says(t, l, 0, "every byte is as sealed", "verify", sealed, "-i", right, "--key", write("own.pub", []byte(own)))
	says(t, l, 1, "not trusted", "verify", sealed, "-i", right, "--key", write("other.pub", []byte(other)))
	says(t, l, 1, "bad.pub", "verify", sealed, "-i", right, "--key", write("bad.pub", []byte("no key")))
}

// TestFaultCut reads a package that was cut short, and things that are none, with every command that reads.
func TestFaultCut(t *testing.T) {
	l := lab.Need(t, "docker")
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	c := l.Run(t, lab.RunSpec{Runtime: "docker", Image: "pyweb", Name: "cut"})
	dir := t.TempDir()
	pkg := filepath.Join(dir, "x.sherd")
	says(t, l, 0, "", "collect", c.Target, "-o", pkg)
	whole, err := os.ReadFile(pkg)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "y.sherd")
	for _, n := range []int{len(whole) - 1, len(whole) * 9 / 10, len(whole) / 2} {
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		says(t, l, 1, "cut short", "verify", "--no-custody", path)
		says(t, l, 0, "process/", "show", path)
		// What is left of a clean container's package accuses nobody, and its being cut is said with the verdict.
		says(t, l, 0, "CUT SHORT", "investigate", path)
	}
	// Of a package that was cut within its first frame nothing is left: that decides nothing, and says so.
	if err := os.WriteFile(path, whole[:64], 0o600); err != nil {
		t.Fatal(err)
	}
	says(t, l, 1, "cut short", "verify", "--no-custody", path)
	says(t, l, 0, "cut short", "show", path)
	says(t, l, 0, "INCONCLUSIVE", "investigate", path)
	for name, b := range map[string][]byte{"text": []byte("hello, this is not a package\n"), "empty": {}} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, cmd := range []string{"verify", "show", "investigate"} {
			t.Log(name)
			says(t, l, 1, path, cmd, path)
		}
	}
}

// TestFaultNoPtrace goes on without CAP_SYS_PTRACE where --partial asks for it, and says what that cost.
func TestFaultNoPtrace(t *testing.T) {
	l := lab.Need(t, "docker")
	testenv.NeedTool(t, "setpriv")
	c := l.Run(t, lab.RunSpec{Runtime: "docker", Image: "goweb", Name: "noptrace"})
	dir := t.TempDir()
	pkg := filepath.Join(dir, "x.sherd")
	cmd := exec.Command("setpriv", append([]string{"--bounding-set", "-sys_ptrace", "--inh-caps", "-all", program(t, dir),
		"collect", c.Target, "--partial", "-o", pkg}, flags(l)...)...)
	cmd.Env = append(os.Environ(), asProgram+"=1", "XDG_CONFIG_HOME="+dir)
	b, err := cmd.CombinedOutput()
	if got := status(t, err); got != 0 {
		t.Fatalf("status %d: %s", got, b)
	}
	p := openPackage(t, pkg)
	if missed(p, "CAP_SYS_PTRACE") == nil {
		t.Errorf("coverage does not name the capability: %+v", p.Coverage().Missed)
	}
	if _, ok := p.Artifact("filesystem/inventory.jsonl"); !ok {
		t.Error("files need no CAP_SYS_PTRACE, but were not listed")
	}
}
