// Package thread runs what changes a thread's view of the machine, such as entering a namespace, on a thread that ends afterwards.
package thread

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// Apart runs f on a thread of its own, which ends with it, and waits. The thread is never the process's first: that one can't end before
// the process does, so it would keep f's view for good, and whoever joins the process's namespaces by its id, as a container's
// runtime does to execute something beside it, joins those of its first thread.
//
// A child that f starts with Pdeathsig dies with the thread.
func Apart(f func()) {
	done := make(chan struct{})
	go apart(f, done)
	<-done
}

func apart(f func(), done chan<- struct{}) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// While this goroutine holds the first thread, the other one gets another.
		defer runtime.UnlockOSThread()
		again := make(chan struct{})
		go apart(f, again)
		<-again
		close(done)
		return
	}
	defer close(done) // the thread ends with the goroutine, since it is not unlocked
	f()
}
