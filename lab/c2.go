package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// C2 is the listener that an intruder's program calls: "command and control" that only listens and counts.
type C2 struct {
	Addr string // IP:PORT

	l        net.Listener
	arrivals chan *Session
	mu       sync.Mutex
	sessions []*Session
}

// Session is one call that arrived.
type Session struct {
	Remote string            // the caller's address
	At     time.Time         // when it arrived
	Hello  map[string]string // what it said of itself: pid, mode, exe

	conn     net.Conn
	received atomic.Int64
}

// ListenC2 listens on a free port of host.
func ListenC2(host string) (*C2, error) {
	if _, _, err := net.SplitHostPort(host); err != nil {
		host = net.JoinHostPort(host, "0")
	}
	l, err := net.Listen("tcp4", host)
	if err != nil {
		return nil, err
	}
	c := &C2{Addr: l.Addr().String(), l: l, arrivals: make(chan *Session, 64)}
	go c.serve()
	return c, nil
}

func (c *C2) serve() {
	for {
		conn, err := c.l.Accept()
		if err != nil {
			return
		}
		go c.session(conn)
	}
}

func (c *C2) session(conn net.Conn) {
	s := &Session{Remote: conn.RemoteAddr().String(), At: time.Now(), Hello: map[string]string{}, conn: conn}
	c.mu.Lock()
	c.sessions = append(c.sessions, s)
	c.mu.Unlock()
	defer conn.Close()
	r := bufio.NewReader(conn)
	line, err := r.ReadString('\n')
	s.received.Add(int64(len(line)))
	if err != nil {
		return
	}
	for _, kv := range strings.Fields(line) {
		if k, v, ok := strings.Cut(kv, "="); ok {
			s.Hello[k] = v
		}
	}
	select {
	case c.arrivals <- s:
	default: // nobody waits for so many
	}
	buf := make([]byte, 64<<10)
	for {
		n, err := r.Read(buf)
		s.received.Add(int64(n))
		if err != nil {
			return
		}
	}
}

// Wait returns the next caller that greeted.
func (c *C2) Wait(ctx context.Context) (*Session, error) {
	select {
	case s := <-c.arrivals:
		return s, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("nobody called the listener %s: %w", c.Addr, ctx.Err())
	}
}

// Received is the number of bytes that the caller has sent so far.
func (s *Session) Received() int64 { return s.received.Load() }

// Send gives the caller a command: "ping" or "exit".
func (s *Session) Send(command string) error {
	_, err := fmt.Fprintln(s.conn, command)
	return err
}

// Close ends the listener and all sessions.
func (c *C2) Close() error {
	err := c.l.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.sessions {
		if cerr := s.conn.Close(); cerr != nil && !errors.Is(cerr, net.ErrClosed) {
			err = errors.Join(err, cerr)
		}
	}
	return err
}
