package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// compileCRIU makes criu, with which the node's runtime writes checkpoints, once: Debian 12's own does not know newer kernels, so it is
// Debian's source of the day. A machine on which that does not work has a cluster whose kubelet can't checkpoint; it is said, and
// Lab.CRIU tells.
func (l *Lab) compileCRIU(ctx context.Context, out string) error {
	program := filepath.Join(out, "criu")
	if exists(program) {
		return nil
	}
	began := time.Now()
	dir, err := os.MkdirTemp(l.base, "criu-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	built, err := l.buildCRIU(ctx, dir)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		fmt.Fprintf(l.say, "lab: no criu, so the cluster's kubelet can't checkpoint: %v\n", err)
		return nil
	}
	if _, err := command(ctx, "cp", built, program+".part"); err != nil {
		return err
	}
	fmt.Fprintf(l.say, "lab: compiled criu in %.0f s\n", time.Since(began).Seconds())
	return os.Rename(program+".part", program)
}

// CRIU reports whether the cluster's kubelet can checkpoint.
func (l *Lab) CRIU() bool { return exists(filepath.Join(l.base, "bin", Kubernetes, "criu")) }

func (l *Lab) buildCRIU(ctx context.Context, dir string) (string, error) {
	if err := debianSource(ctx, dir, "sid", "criu"); err != nil {
		return "", err
	}
	archives, err := filepath.Glob(filepath.Join(dir, "criu_*.orig.tar.*"))
	if err != nil || len(archives) != 1 {
		return "", fmt.Errorf("its source is not one archive: %q", archives)
	}
	src := filepath.Join(dir, "src")
	if err := os.Mkdir(src, 0o755); err != nil {
		return "", err
	}
	if _, err := command(ctx, "tar", "-C", src, "--strip-components=1", "-xf", archives[0]); err != nil {
		return "", err
	}
	if err := patchLimits(filepath.Join(src, "criu", "cr-dump.c")); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "make", "-C", src, "-j2", "criu")
	if said, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("make: %w: %s", err, lastLines(string(said), 5))
	}
	built := filepath.Join(src, "criu", "criu")
	if _, err := command(ctx, built, "check"); err != nil {
		return "", fmt.Errorf("it is not content with this kernel: %w", err)
	}
	return built, nil
}

// debianSource fetches the source archive of a package of one of Debian's suites into dir, from where this machine gets Debian's packages. What
// apt knows of the machine stays as it is.
func debianSource(ctx context.Context, dir, suite, name string) error {
	out, err := command(ctx, "apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI)", "Created-By: Packages")
	if err != nil {
		return err
	}
	archive := ""
	for line := range strings.Lines(out) {
		if origin, uri, ok := strings.Cut(strings.TrimSpace(line), " "); ok && origin == "Debian" && !strings.Contains(uri, "security") {
			archive = uri
			break
		}
	}
	if archive == "" {
		return errors.New("apt names no archive of Debian's")
	}
	for _, d := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	list := filepath.Join(dir, "sources.list")
	line := "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] " + archive + " " + suite + " main\n"
	if err := os.WriteFile(list, []byte(line), 0o644); err != nil {
		return err
	}
	apt := func(args ...string) error {
		cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-q", "-o", "Dir::Etc::SourceList=" + list, "-o", "Dir::Etc::SourceParts=/dev/null",
			"-o", "Dir::State::Lists=" + filepath.Join(dir, "lists"), "-o", "Dir::Cache=" + filepath.Join(dir, "cache"), "-o", "APT::Sandbox::User=root"}, args...)...)
		cmd.Dir = dir
		if said, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("apt-get %s: %w: %s", args[0], err, lastLines(string(said), 3))
		}
		return nil
	}
	if err := apt("update"); err != nil {
		return err
	}
	return apt("source", "--download-only", "--tar-only", name)
}

// patchLimits has criu read the limits of processes of other users from /proc where the kernel does not let it ask for them, as on machines
// where root lacks CAP_SYS_RESOURCE.
func patchLimits(file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	const ask = "if (syscall(__NR_prlimit64, pid, res, NULL, &lim)) {"
	const before = "static int dump_task_rlimits("
	text := string(b)
	if strings.Count(text, ask) != 1 || strings.Count(text, before) != 1 {
		return nil // another version, which may not need it
	}
	text = strings.Replace(text, ask, "if (syscall(__NR_prlimit64, pid, res, NULL, &lim) && (errno != EPERM || limits_line(pid, res, &lim))) {", 1)
	text = strings.Replace(text, before, limitsLine+before, 1)
	return os.WriteFile(file, []byte(text), 0o644)
}

// limitsLine reads /proc/PID/limits, whose lines come in the order of the limits' numbers.
const limitsLine = `static int limits_line(pid_t pid, int res, struct rlimit64 *lim)
{
	char path[64], line[256], soft[32], hard[32];
	int n, ret = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/limits", pid);
	f = fopen(path, "r");
	if (!f)
		return -1;
	for (n = -1; fgets(line, sizeof(line), f); n++) {
		if (n != res || strlen(line) < 27 || sscanf(line + 26, "%31s %31s", soft, hard) != 2)
			continue;
		lim->rlim_cur = strcmp(soft, "unlimited") ? strtoull(soft, NULL, 10) : RLIM64_INFINITY;
		lim->rlim_max = strcmp(hard, "unlimited") ? strtoull(hard, NULL, 10) : RLIM64_INFINITY;
		ret = 0;
		break;
	}
	fclose(f);
	return ret;
}

`
