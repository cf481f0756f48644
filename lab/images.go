package lab

import (
	"bytes"
	"cmp"
	"compress/zlib"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/sherd-forensics/sherd/lab/image"
)

// Images are the names of the images that the lab can build, but for pause, peer and Collector, which the cluster alone needs.
var Images = []string{"static", "base", "python3", "nodejs", "java17", "goweb", "pyweb", "nodeweb", "cweb", "javaweb", "opensslweb", "clockweb", "taintedweb", "taintedweb-memory", "taintedweb-late"}

// Collector is the name of the image of Sherd's own collector, from this repository's source: its program and nothing else.
const Collector = "sherd-collector"

// Image builds the named image, or finds it built.
func (l *Lab) Image(ctx context.Context, name string) (image.Image, error) {
	unlock, err := l.lock(ctx)
	if err != nil {
		return image.Image{}, err
	}
	defer unlock()
	return l.build(ctx, name)
}

// build is Image for a caller that holds the lock.
func (l *Lab) build(ctx context.Context, name string) (image.Image, error) {
	r, err := l.recipe(ctx, name)
	if err != nil {
		return image.Image{}, err
	}
	return image.Build(ctx, r, l.packages(), filepath.Join(l.base, "images"))
}

func (l *Lab) packages() *image.Packages {
	return &image.Packages{Dir: filepath.Join(l.base, "packages"), Say: func(f string, a ...any) { fmt.Fprintf(l.say, "lab: "+f+"\n", a...) }}
}

func (l *Lab) recipe(ctx context.Context, name string) (image.Recipe, error) {
	labels := func(title string) map[string]string {
		return map[string]string{
			"org.opencontainers.image.title":    title,
			"org.opencontainers.image.source":   "https://github.com/sherd-forensics/sherd/tree/main/lab",
			"org.opencontainers.image.licenses": "Apache-2.0",
			"org.opencontainers.image.version":  "1",
		}
	}
	// What every victim may write to as the user nonroot.
	data := func(more ...image.File) []image.File {
		// Anybody's, since a tmpfs that runc mounts over it takes on this mode and is root's.
		more = append(more, image.File{Path: "/data", Dir: true, Mode: 0o1777, UID: image.NonRoot})
		for _, d := range []string{"/data/avatars", "/data/plugins"} {
			more = append(more, image.File{Path: d, Dir: true, Mode: 0o755, UID: image.NonRoot})
		}
		return more
	}
	r := image.Recipe{Name: name, User: "65532:65532", Labels: labels(name)}
	switch name {
	case "static":
		r.Packages = image.Static
	case "base":
		r.Packages = image.C
	case "python3":
		r.Packages, r.Entrypoint = image.Python3, []string{"/usr/bin/python3.11"}
	case "nodejs":
		r.Packages, r.Entrypoint = image.Node, []string{"/usr/bin/node"}
	case "java17":
		r.Packages, r.Files, r.Entrypoint = image.Java17, []image.File{image.JavaLink()}, []string{"/usr/bin/java", "-jar"}
	case "pause", "peer":
		program, err := l.program(ctx, "kubernetes/"+name)
		if err != nil {
			return r, err
		}
		r.Entrypoint, r.Files = []string{"/" + name}, []image.File{{Path: "/" + name, Mode: 0o755, Data: program}}
	case Collector:
		program, err := l.program(ctx, "../cmd/sherd-collector")
		if err != nil {
			return r, err
		}
		// As in tools/image: anybody may write to /tmp, since beside a target the collector runs as its user.
		r.Entrypoint, r.Files = []string{"/sherd-collector"}, []image.File{{Path: "/sherd-collector", Mode: 0o755, Data: program}, {Path: "/tmp", Dir: true, Mode: 0o1777}}
	case "goweb":
		server, err := l.program(ctx, "victims/goweb")
		if err != nil {
			return r, err
		}
		r.Packages, r.Entrypoint, r.Ports = image.Static, []string{"/app/server"}, []string{"8080/tcp"}
		// Checkpointing refuses Go's default of MPTCP listeners.
		r.Env = []string{"GODEBUG=multipathtcp=0"}
		r.Files = data(image.File{Path: "/app/server", Mode: 0o755, Data: server},
			image.File{Path: "/app/static/checkout.js", Mode: 0o644, Data: []byte("document.forms[0].addEventListener('submit', () => { total.value = items.length; });\n")})
	case "cweb":
		server, err := l.compileC(ctx, "cweb", filepath.Join("victims", "cweb", "server.c"), "-pthread")
		if err != nil {
			return r, err
		}
		r.Packages, r.Entrypoint, r.Ports = image.C, []string{"/app/server"}, []string{"8080/tcp"}
		r.Files = data(image.File{Path: "/app/server", Mode: 0o755, Data: server})
	case "javaweb":
		native, err := l.compileC(ctx, "libshop.so", filepath.Join("victims", "javaweb", "native.c"), "-shared", "-fPIC")
		if err != nil {
			return r, err
		}
		app, err := l.javaProgram(ctx, "javaweb", []archived{{"native/libshop.so", native}}, "Main-Class: shop.Server")
		if err != nil {
			return r, err
		}
		agent, err := l.javaProgram(ctx, "javaagent", nil, "Premain-Class: profiler.Agent", "Can-Retransform-Classes: true")
		if err != nil {
			return r, err
		}
		r.Packages, r.Ports = image.Java17, []string{"8080/tcp"}
		// Little memory, so that garbage is collected while a scenario lasts.
		r.Entrypoint = []string{"/usr/bin/java", "-Xmx64m", "-Xmn16m", "-jar", "/app/app.jar"}
		r.Files = data(image.JavaLink(), image.File{Path: "/app/app.jar", Mode: 0o644, Data: app}, image.File{Path: "/app/profiler.jar", Mode: 0o644, Data: agent})
	case "nodeweb":
		text, err := victimFile("nodeweb/app.js")
		if err != nil {
			return r, err
		}
		r.Packages, r.Entrypoint, r.Ports = image.Node, []string{"/usr/bin/node", "/app/app.js"}, []string{"8080/tcp"}
		r.Files = data(image.File{Path: "/app/app.js", Mode: 0o644, Data: text})
	case "pyweb", "opensslweb", "clockweb", "taintedweb", "taintedweb-memory", "taintedweb-late":
		r.Packages, r.Entrypoint, r.Ports = image.Python3, []string{"/usr/bin/python3.11", "/app/app.py"}, []string{"8080/tcp"}
		r.Env = []string{"PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1"}
		files, err := l.pythonFiles(ctx, &r)
		if err != nil {
			return r, err
		}
		r.Files = data(files...)
	default:
		return r, fmt.Errorf("unknown image %q: known are %s", name, strings.Join(Images, ", "))
	}
	return r, nil
}

// listenTainted is where the images that hold a back door before they start call.
const listenTainted = 47808

// pythonFiles are those of the application in Python, and of the images that have more than it.
func (l *Lab) pythonFiles(ctx context.Context, r *image.Recipe) ([]image.File, error) {
	var files []image.File
	add := func(path, from string, replace ...string) error {
		text, err := victimFile(from)
		if err == nil {
			files = append(files, image.File{Path: path, Mode: 0o644, Data: []byte(strings.NewReplacer(replace...).Replace(string(text)))})
		}
		return err
	}
	err := errors.Join(add("/app/app.py", "pyweb/app.py"), add("/app/jobs.py", "pyweb/jobs.py"), add("/app/conf/app.json", "pyweb/app.json"),
		add("/app/plugins/prices.py", "pyweb/plugin.py"))
	const packages = "/usr/local/lib/python3.11/dist-packages/"
	kind, tainted := strings.CutPrefix(r.Name, "taintedweb")
	switch {
	case err != nil:
	case r.Name == "opensslweb":
		r.Packages = append(slices.Clone(r.Packages), "openssl")
	case r.Name == "clockweb":
		var lib []byte
		lib, err = l.compileC(ctx, "clock.so", filepath.Join("victims", "clock", "clock.c"), "-shared", "-fPIC")
		files = append(files, image.File{Path: "/usr/lib/clock.so", Mode: 0o644, Data: lib})
		r.Env = append(r.Env, "LD_PRELOAD=/usr/lib/clock.so")
	case tainted:
		start := cmp.Or(strings.TrimPrefix(kind, "-"), "shell")
		var program []byte
		if program, err = l.program(ctx, "implant"); err != nil {
			break
		}
		var packed bytes.Buffer
		z := zlib.NewWriter(&packed)
		_, werr := z.Write(program)
		err = errors.Join(werr, z.Close(), add(packages+"metrics.py", "thirdparty/metrics.py", "@START@", start, "@PORT@", strconv.Itoa(listenTainted)))
		files = append(files, image.File{Path: packages + "metrics.dat", Mode: 0o644, Data: packed.Bytes()},
			image.File{Path: packages + "metrics.pth", Mode: 0o644, Data: []byte("import metrics\n")})
	}
	return files, err
}

// victimFile is a file of the vulnerable applications' sources.
func victimFile(name string) ([]byte, error) {
	src, err := source()
	if err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(src, "victims", name))
}

// compileC compiles one of the lab's own sources in C.
func (l *Lab) compileC(ctx context.Context, name, file string, flags ...string) ([]byte, error) {
	src, err := source()
	if err != nil {
		return nil, err
	}
	if !filepath.IsAbs(file) {
		file = filepath.Join(src, file)
	}
	out := filepath.Join(l.base, "bin", name)
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return nil, err
	}
	if _, err := command(ctx, slices.Concat([]string{"gcc", "-O2", "-s", "-Wall", "-Werror"}, flags, []string{"-o", out, file})...); err != nil {
		return nil, err
	}
	return os.ReadFile(out)
}

// source is the directory of the lab's own source.
func source() (string, error) {
	_, file, _, ok := runtime.Caller(0)
	if dir := filepath.Dir(file); ok && filepath.IsAbs(dir) {
		if _, err := os.Stat(filepath.Join(dir, "victims")); err == nil {
			return dir, nil
		}
	}
	// Built with -trimpath: the source is looked for around the current directory.
	for dir, err := os.Getwd(); err == nil && dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "lab", "victims")); err == nil {
			return filepath.Join(dir, "lab"), nil
		}
	}
	return "", fmt.Errorf("the lab's source is not here: run it inside the repository")
}

// goCommand is the path of Go, which need not be on the PATH: then it is make's own.
func goCommand(ctx context.Context, src string) (string, error) {
	if path, err := exec.LookPath("go"); err == nil {
		return path, nil
	}
	return command(ctx, filepath.Join(filepath.Dir(src), "scripts", "go.sh"))
}

// compiled are the programs that this process has compiled already: their source is not looked at twice.
var compiled sync.Map

// program is the content of one of the lab's own commands.
func (l *Lab) program(ctx context.Context, dir string) ([]byte, error) {
	file, err := l.programFile(ctx, dir)
	if err != nil {
		return nil, err
	}
	return os.ReadFile(file)
}

// programFile compiles one of the lab's own commands, static and reproducible. Go's build cache makes the second
// time quick.
func (l *Lab) programFile(ctx context.Context, dir string) (string, error) {
	out := filepath.Join(l.base, "bin", filepath.Base(dir))
	if _, done := compiled.Load(out); done && exists(out) {
		return out, nil
	}
	src, err := source()
	if err != nil {
		return "", err
	}
	goTool, err := goCommand(ctx, src)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, goTool, "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", out, "./"+filepath.Join("lab", dir))
	cmd.Dir = filepath.Dir(src)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if said, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("compiling lab/%s: %w: %s", dir, err, said)
	}
	compiled.Store(out, true)
	return out, nil
}
