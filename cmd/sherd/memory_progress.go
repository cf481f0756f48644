package main

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sherd-forensics/sherd/cmd/internal/console"
)

// memoryProgress is how far the looking through memory got, for the line of progress.
type memoryProgress struct {
	before, now, total atomic.Int64 // bytes: of the processes done, of this one, of those opened
	begin              time.Time
}

func (m *memoryProgress) done(n int64) { m.now.Store(n) }

// settle takes the process that was looked at for done.
func (m *memoryProgress) settle() {
	m.now.Store(0)
	m.before.Store(m.total.Load())
}

// String says how much was looked at, and how fast.
func (m *memoryProgress) String() string {
	n := m.before.Load() + m.now.Load()
	return fmt.Sprintf("%s of %s  %s/s", console.Bytes(n), console.Bytes(m.total.Load()), console.Bytes(int64(float64(n)/max(time.Since(m.begin).Seconds(), 0.001))))
}
