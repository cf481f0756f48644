package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/internal/thread"
)

// Netlink (RFC 3549, netlink(7)) is spoken raw: sockets come by the hundred thousand and are written out as they
// come, and the collector stays small without a library that decodes what is not needed here. Numbers are in
// the byte order of the machine.
var native = binary.NativeEndian

// handles are netlink sockets that live in one network namespace, whichever thread uses them.
type handles struct {
	diag, route, filter int // descriptors, -1 when not to be had
	inodes              map[uint64]bool
}

func (h *handles) close() {
	for _, fd := range []int{h.diag, h.route, h.filter} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// answerTimeout bounds the wait for one netlink message.
const answerTimeout = 10 * time.Second

// enter opens netlink sockets in the network namespace that nsPath leads to. A thread of ours enters the
// namespace for that moment and ends afterwards; the sockets stay where they were made. Nothing runs in the target.
func enter(nsPath string, here bool) (*handles, error) {
	if here {
		return open()
	}
	fd, err := unix.Open(nsPath, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: nsPath, Err: err}
	}
	defer unix.Close(fd)
	var h *handles
	thread.Apart(func() {
		if err = unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			err = fmt.Errorf("setns into %s: %w", nsPath, err)
			return
		}
		h, err = open()
	})
	return h, err
}

func open() (*handles, error) {
	h := &handles{diag: -1, route: -1, filter: -1, inodes: map[uint64]bool{}}
	var errs []error
	for _, p := range []struct {
		fd    *int
		proto int
		name  string
	}{{&h.diag, unix.NETLINK_SOCK_DIAG, "sock_diag"}, {&h.route, unix.NETLINK_ROUTE, "rtnetlink"}, {&h.filter, unix.NETLINK_NETFILTER, "netfilter"}} {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, p.proto)
		if err != nil {
			errs = append(errs, fmt.Errorf("netlink socket for %s: %w", p.name, err))
			continue
		}
		*p.fd = fd
		tv := unix.NsecToTimeval(answerTimeout.Nanoseconds())
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
			errs = append(errs, fmt.Errorf("netlink timeout: %w", err))
		}
		// Strict checking makes the kernel honour the header's filters; older kernels lack it, which is no loss.
		_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1)
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1<<20)
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil {
			h.inodes[st.Ino] = true
		}
	}
	if h.diag < 0 && h.route < 0 && h.filter < 0 {
		return nil, errors.Join(errs...)
	}
	return h, nil
}

// errInterrupted says that what is listed changed during the listing, so that something may be missing or twice.
var errInterrupted = errors.New("the kernel's table changed while it was listed: entries may be missing or listed twice")

// dump sends one request and calls each with the payload of every answer, which is valid only during the call.
func dump(fd int, typ uint16, req []byte, each func(typ uint16, payload []byte) error) error {
	if fd < 0 {
		return errors.New("no netlink socket")
	}
	seq := uint32(time.Now().UnixNano())
	msg := make([]byte, unix.SizeofNlMsghdr, unix.SizeofNlMsghdr+len(req))
	msg = append(msg, req...)
	native.PutUint32(msg[0:], uint32(len(msg)))
	native.PutUint16(msg[4:], typ)
	native.PutUint16(msg[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	native.PutUint32(msg[8:], seq)
	if err := unix.Sendto(fd, msg, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("netlink request: %w", err)
	}
	buf := make([]byte, 1<<18)
	interrupted := false
	for {
		n, from, err := unix.Recvfrom(fd, buf, 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return fmt.Errorf("the kernel did not answer within %v", answerTimeout)
		case err != nil:
			return fmt.Errorf("netlink answer: %w", err)
		}
		if nl, ok := from.(*unix.SockaddrNetlink); !ok || nl.Pid != 0 {
			continue // only the kernel has a say
		}
		end, intr, err := messages(buf[:n], seq, each)
		interrupted = interrupted || intr
		if err != nil {
			return err
		}
		if end {
			if interrupted {
				return errInterrupted
			}
			return nil
		}
	}
}

// messages takes one datagram apart. end is true after the last message of the dump.
func messages(b []byte, seq uint32, each func(uint16, []byte) error) (end, interrupted bool, err error) {
	for len(b) >= unix.SizeofNlMsghdr {
		n := int(native.Uint32(b))
		if n < unix.SizeofNlMsghdr || n > len(b) {
			return true, interrupted, fmt.Errorf("netlink message of %d bytes in %d", n, len(b))
		}
		typ, flags, mseq := native.Uint16(b[4:]), native.Uint16(b[6:]), native.Uint32(b[8:])
		body := b[unix.SizeofNlMsghdr:n]
		b = b[min((n+3)&^3, len(b)):]
		if mseq != seq {
			continue
		}
		interrupted = interrupted || flags&unix.NLM_F_DUMP_INTR != 0
		switch typ {
		case unix.NLMSG_DONE, unix.NLMSG_ERROR:
			if len(body) >= 4 {
				if code := int32(native.Uint32(body)); code < 0 {
					return true, interrupted, unix.Errno(-code)
				}
			}
			return true, interrupted, nil
		case unix.NLMSG_NOOP:
		default:
			if err := each(typ, body); err != nil {
				return true, interrupted, err
			}
		}
	}
	return false, interrupted, nil
}

// attributes calls each for every attribute in b; what does not fit ends it.
func attributes(b []byte, each func(typ uint16, v []byte)) {
	for len(b) >= 4 {
		n := int(native.Uint16(b))
		if n < 4 || n > len(b) {
			return
		}
		each(native.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[4:n])
		b = b[min((n+3)&^3, len(b)):]
	}
}

func u32(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return native.Uint32(b)
}

func u64(b []byte) uint64 {
	if len(b) < 8 {
		return 0
	}
	return native.Uint64(b)
}
