package relay

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Packages wait on the node's own disk, which is the kubelet's too: one that fills up has pods evicted, the container that is captured
// among them. So a package grows there only while there is room. When there is not, it is held back until what there is has been
// fetched, and that is given back to the disk.
const (
	// scarce is the part of the disk, one in so many, that must stay free. Kubelets evict at a tenth.
	scarce = 8
	// window stays on the disk behind what was sent: a connection that breaks loses less than that on its way.
	window = 32 << 20
	// look is how often the disk is looked at, in bytes written.
	look = 8 << 20
	// patience is how long a package without room waits for somebody to fetch it.
	patience = 2 * time.Minute
)

// spool writes a job's package and tells those who wait for it.
type spool struct {
	f    *os.File
	j    *job
	ctx  context.Context //nolint:containedctx // of the capture that writes here
	free func(dir string) (available, total int64, err error)

	unseen int64 // bytes since the disk was looked at
	tight  bool
}

func (s *Server) room(dir string) (available, total int64, err error) {
	if s.free != nil {
		return s.free(dir)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, err
	}
	return int64(st.Bavail) * st.Bsize, int64(st.Blocks) * st.Bsize, nil
}

func (s *spool) Write(b []byte) (int, error) {
	if s.unseen += int64(len(b)); s.unseen > look || s.tight || s.j.size == 0 {
		s.unseen = 0
		if err := s.wait(); err != nil {
			return 0, err
		}
	}
	n, err := s.f.Write(b)
	s.j.mu.Lock()
	defer s.j.mu.Unlock()
	s.j.size += int64(n)
	s.j.grown.Broadcast()
	return n, err
}

// wait returns when there is room for more.
func (s *spool) wait() error {
	available, total, err := s.free(s.f.Name())
	if err != nil || available >= total/scarce {
		s.tight = false
		return nil //nolint:nilerr // a file system that doesn't tell is written to until it refuses
	}
	if s.j.upload != nil {
		return fmt.Errorf("the node's disk has %d MiB free of %d, too little for a package that must lie there whole before it is uploaded: fetch it through the API server, without --upload", available>>20, total>>20)
	}
	if !s.tight {
		s.tight = true
		s.j.stage(fmt.Sprintf("the node's disk has %d MiB free of %d: the package passes through without staying there", available>>20, total>>20))
	}
	if err := s.drained(); err != nil {
		return err
	}
	return s.punch()
}

// drained waits until somebody has fetched what there is.
func (s *spool) drained() error {
	j := s.j
	j.mu.Lock()
	defer j.mu.Unlock()
	var timer *time.Timer
	late := false
	wake := func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		late = true
		j.grown.Broadcast()
	}
	timer = time.AfterFunc(patience, wake)
	defer timer.Stop()
	stop := context.AfterFunc(s.ctx, wake)
	defer stop()
	for at := j.sent; j.size-j.sent > look && !late; {
		j.grown.Wait()
		if j.sent != at {
			at = j.sent
			timer.Reset(patience)
		}
	}
	switch {
	case s.ctx.Err() != nil:
		return context.Cause(s.ctx)
	case late:
		return errors.New("the node's disk is nearly full, and nobody fetches the package: it can't grow")
	}
	return nil
}

// punch gives the disk back what was fetched, but for a window.
func (s *spool) punch() error {
	s.j.mu.Lock()
	defer s.j.mu.Unlock()
	to := (s.j.sent - window) &^ 4095
	if to <= s.j.gone {
		return nil
	}
	err := unix.Fallocate(int(s.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, s.j.gone, to-s.j.gone)
	if err != nil {
		return fmt.Errorf("the node's disk is nearly full, and its file system does not give back what was fetched: %w", err)
	}
	s.j.gone = to
	return nil
}

// fetched notes that the package was sent up to there.
func (j *job) fetched(to int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if to > j.sent {
		j.sent = to
		j.grown.Broadcast()
	}
}

// has says whether the package still lies there from an offset on.
func (j *job) has(at int64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if at < j.gone {
		return fmt.Errorf("the package no longer lies on the node before byte %d, for want of room, and byte %d is asked for", j.gone, at)
	}
	return nil
}
