// Child is the process that the tests look at. It prints "ready" and waits for the end of its standard input.
package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func init() { runtime.LockOSThread() } // main runs on the process's first thread

func main() {
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func ready() error {
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

func run(mode string, args []string) error {
	switch mode {
	case "wait":
		return ready()
	case "hold":
		return hold(args[0])
	case "memexec":
		return memexec(args)
	case "unlink": // a file, as often its own program's
		if err := os.Remove(args[0]); err != nil {
			return err
		}
		return ready()
	case "maplib":
		return maplib(args[0], len(args) > 1)
	case "threads":
		return threads(args[0])
	case "owntable":
		return owntable(args[0])
	case "headless":
		go func() { time.Sleep(time.Minute); os.Exit(0) }()
		f, err := os.Create(args[0])
		if err != nil {
			return err
		}
		if _, err := f.WriteString("held by a headless process"); err != nil {
			return err
		}
		if err := os.Remove(args[0]); err != nil {
			return err
		}
		fmt.Println("ready")
		_, _, _ = syscall.Syscall(syscall.SYS_EXIT, 0, 0, 0)
	case "later": // runs something else when its standard input ends
		if err := ready(); err != nil {
			return err
		}
		return memexec([]string{"sleep"})
	case "sleep":
		fmt.Println("ready")
		time.Sleep(time.Minute)
	case "openunlink":
		if _, err := unix.Open(args[0], unix.O_RDONLY, 0); err != nil {
			return err
		}
		if err := unix.Unlink(args[0]); err != nil {
			return err
		}
		return ready()
	case "lease":
		fd, err := unix.Open(args[0], unix.O_RDWR|unix.O_CREAT, 0o600)
		if err != nil {
			return err
		}
		if err := unix.Unlink(args[0]); err != nil {
			return err
		}
		if _, err := unix.Write(fd, []byte("guarded")); err != nil {
			return err
		}
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
			return err
		}
		return ready()
	case "zombie":
		cmd := exec.Command("/proc/self/exe", "exit")
		if err := cmd.Start(); err != nil {
			return err
		}
		return ready()
	case "exit":
		return nil
	case "fork":
		fmt.Println("ready")
		for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
			if err := exec.Command("/proc/self/exe", "exit").Run(); err != nil {
				return err
			}
		}
	case "descriptors":
		n, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		path := "/dev/null"
		if len(args) > 1 {
			path = args[1]
		}
		for range n {
			if _, err := unix.Open(path, unix.O_RDONLY, 0); err != nil {
				return err
			}
		}
		return ready()
	case "pivot":
		return pivot(args[0], args[1:])
	}
	return fmt.Errorf("unknown mode %q", mode)
}

// hold opens one of everything.
func hold(dir string) error {
	comm := []byte("a) R 1\n\x1b[2J\xff\x00")
	if _, _, e := unix.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_NAME, uintptr(ptr(comm)), 0); e != 0 {
		return e
	}
	gone, err := unix.Open(filepath.Join(dir, "gone\xff\n\x1b"), unix.O_RDWR|unix.O_CREAT, 0o640)
	if err != nil {
		return err
	}
	if _, err := unix.Write(gone, []byte(strings.Repeat("deleted ", 1000))); err != nil {
		return err
	}
	if _, err := unix.Seek(gone, 7, io.SeekStart); err != nil {
		return err
	}
	if err := unix.Unlink(filepath.Join(dir, "gone\xff\n\x1b")); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "there (deleted)"), []byte("not deleted"), 0o600); err != nil {
		return err
	}
	if _, err := unix.Open(filepath.Join(dir, "there (deleted)"), unix.O_RDONLY, 0); err != nil {
		return err
	}
	mem, err := unix.MemfdCreate("hidden", 0)
	if err != nil {
		return err
	}
	if _, err := unix.Write(mem, []byte("\x7fELF in memory")); err != nil {
		return err
	}
	if _, err := unix.Dup(mem); err != nil {
		return err
	}
	sparse, err := unix.MemfdCreate("sparse", 0)
	if err != nil {
		return err
	}
	if err := unix.Ftruncate(sparse, 1<<40); err != nil {
		return err
	}
	if _, err := unix.Pwrite(sparse, []byte("in the middle"), 1<<30); err != nil {
		return err
	}
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		return err
	}
	if _, err := unix.Open(filepath.Join(dir, "fifo"), unix.O_RDWR, 0); err != nil {
		return err
	}
	if _, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0); err != nil {
		return err
	}
	if err := unix.Pipe2(make([]int, 2), 0); err != nil {
		return err
	}
	if _, err := unix.Open("/dev/null", unix.O_RDONLY, 0); err != nil {
		return err
	}
	if _, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0); err != nil {
		return err
	}
	if _, err := unix.EpollCreate1(0); err != nil {
		return err
	}
	return ready()
}

func memexec(args []string) error {
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	fd, err := unix.MemfdCreate("kworker", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	if _, err := unix.Write(fd, b); err != nil {
		return err
	}
	return unix.Exec("/proc/self/fd/"+strconv.Itoa(fd), append([]string{"[kworker/0:1]"}, args...), os.Environ())
}

func maplib(path string, remove bool) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	if _, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE); err != nil {
		return err
	}
	f.Close()
	if remove {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return ready()
}

func threads(number string) error {
	n, err := strconv.Atoi(number)
	if err != nil {
		return err
	}
	up := make(chan bool)
	for range n {
		go func() {
			runtime.LockOSThread()
			up <- true
			time.Sleep(time.Hour)
		}()
	}
	for range n {
		<-up
	}
	return ready()
}

// owntable has a thread with descriptors and a network of its own.
func owntable(path string) error {
	if _, _, err := os.Pipe(); err != nil { // the Go runtime makes its epoll descriptor now, while the table is one
		return err
	}
	up := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_FILES | unix.CLONE_NEWNET)
		var fd int
		if err == nil {
			fd, err = unix.Open(path, unix.O_RDWR|unix.O_CREAT, 0o600)
		}
		if err == nil {
			_, err = unix.Write(fd, []byte("known to one thread"))
		}
		if err == nil {
			err = unix.Unlink(path)
		}
		up <- err
		time.Sleep(time.Hour)
	}()
	if err := <-up; err != nil {
		return err
	}
	return ready()
}

// pivot becomes a container's first process, as a runtime does.
func pivot(root string, args []string) error {
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return err
	}
	if err := unix.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return err
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return err
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	for i, a := range args {
		if a == "--tmpfs" {
			if err := unix.Mount("tmpfs", args[i+1], "tmpfs", 0, ""); err != nil {
				return err
			}
			b, err := os.ReadFile(args[i+2])
			if err != nil {
				return err
			}
			if err := os.WriteFile(args[i+1]+"/tool", b, 0o755); err != nil {
				return err
			}
			args = append([]string{args[i+1] + "/tool"}, args[i+3:]...)
			break
		}
	}
	return unix.Exec(args[0], args, os.Environ())
}
