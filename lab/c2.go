package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
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
	if strings.Contains(line, "mining.subscribe") {
		// A miner waits for the pool's answers and for work.
		if _, err := io.WriteString(conn, stratum); err != nil {
			return
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

// stratum is what a pool says to a miner that subscribes: yes, how hard it is, and a job.
const stratum = `{"id":1,"result":[[["mining.set_difficulty","1"],["mining.notify","1"]],"08000002",4],"error":null}
{"id":null,"method":"mining.set_difficulty","params":[1]}
{"id":null,"method":"mining.notify","params":["1","00","01","02",[],"20000000","1d00ffff","5e000000",true]}
`

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
