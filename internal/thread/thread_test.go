package thread

import (
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestApart(t *testing.T) {
	var mu sync.Mutex
	seen := map[int]bool{}
	var wait sync.WaitGroup
	for range 200 {
		wait.Go(func() {
			Apart(func() {
				mu.Lock()
				defer mu.Unlock()
				seen[unix.Gettid()] = true
			})
		})
	}
	wait.Wait()
	if seen[os.Getpid()] {
		t.Error("something ran on the process's first thread")
	}
	left := func() (n int) {
		for tid := range seen {
			if _, err := os.Stat("/proc/self/task/" + strconv.Itoa(tid)); err == nil {
				n++
			}
		}
		return n
	}
	// A thread ends a moment after its goroutine. Some of the numbers may be those of new threads by now.
	for until := time.Now().Add(5 * time.Second); left() > len(seen)/4 && time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		runtime.Gosched()
	}
	if n := left(); n > len(seen)/4 {
		t.Errorf("%d of %d threads are still there", n, len(seen))
	}
}

// first holds the process's first thread for TestFromTheFirst.
var first = make(chan func())

func TestMain(m *testing.M) {
	// The main goroutine starts on the first thread.
	runtime.LockOSThread()
	code := make(chan int)
	go func() { code <- m.Run() }()
	for {
		select {
		case f := <-first:
			f()
		case c := <-code:
			os.Exit(c)
		}
	}
}

func TestFromTheFirst(t *testing.T) {
	done := make(chan struct{})
	first <- func() {
		defer close(done)
		if unix.Gettid() != unix.Getpid() {
			t.Error("this is not the first thread")
		}
		// As if the goroutine of Apart had come to the first thread by chance.
		ran := 0
		ch := make(chan struct{})
		go func() { <-ch }()
		apart(func() { ran = unix.Gettid() }, ch)
		if ran == 0 || ran == unix.Getpid() {
			t.Errorf("ran on thread %d of process %d", ran, unix.Getpid())
		}
	}
	<-done
}
