package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// metadataAddress is where clouds serve a machine's metadata. See RFC 3927 on link-local addresses.
const metadataAddress = "169.254.169.254"

// metadata is a made-up metadata service. It lives in a network namespace of its own on the lab's bridge, and only the container's
// namespace is told the way there: if the machine has a real one, nothing changes for it.
type metadata struct {
	ns     netns
	server *http.Server
}

// serveMetadata gives a container a metadata service, of a machine whose role has keys that open nothing.
func (l *Lab) serveMetadata(ctx context.Context, c *Container) (*metadata, error) {
	if c.Spec.HostNetwork {
		return nil, errors.New("a metadata service needs a network namespace of the lab's, and the container shares the machine's")
	}
	unlock, err := l.lockFile(ctx, "net.lock")
	if err != nil {
		return nil, err
	}
	defer unlock()
	m := &metadata{}
	if m.ns, err = l.bridge.attach(ctx, "metadata-"+c.Name); err != nil {
		return nil, err
	}
	m.server = &http.Server{Handler: http.HandlerFunc(answerMetadata), ReadHeaderTimeout: 10 * time.Second}
	var listener net.Listener
	err = inNetns(m.ns.path(), func() error {
		if _, err := command(ctx, "ip", "addr", "add", metadataAddress+"/32", "dev", "lo"); err != nil {
			return err
		}
		var err error
		listener, err = net.Listen("tcp4", metadataAddress+":80")
		return err
	})
	if err == nil {
		err = inNetns(fmt.Sprintf("/proc/%d/ns/net", c.PID), func() error {
			_, err := command(ctx, "ip", "route", "add", metadataAddress+"/32", "via", m.ns.addr)
			return err
		})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("a metadata service: %w", err), m.close())
	}
	go func() { _ = m.server.Serve(listener) }() // ends with the listener
	return m, nil
}

func (m *metadata) close() error { return errors.Join(m.server.Close(), m.ns.remove()) }

// answerMetadata speaks as the best known cloud's does, with a session's token and without.
func answerMetadata(w http.ResponseWriter, r *http.Request) {
	const role = "/latest/meta-data/iam/security-credentials/"
	switch r.Method + " " + r.URL.Path {
	case "PUT /latest/api/token":
		fmt.Fprint(w, "AQAEAMadeUpTokenOfTheLab==")
	case "GET " + role:
		fmt.Fprint(w, "shop-node-role")
	case "GET " + role + "shop-node-role":
		fmt.Fprint(w, `{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":"ASIAMADEUPBYTHELAB00","SecretAccessKey":"made/up/by/the/lab/opens/nothing/0000000","Token":"IQoMadeUp==","Expiration":"2030-01-01T00:00:00Z"}`)
	case "GET /latest/meta-data/instance-id":
		fmt.Fprint(w, "i-0123456789abcdef0")
	default:
		http.NotFound(w, r)
	}
}

// inNetns runs f in another network namespace, which must not be this machine's own. The thread that went there is not used again.
func inNetns(path string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		done <- func() error {
			fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return fmt.Errorf("opening the network namespace %s: %w", path, err)
			}
			defer unix.Close(fd)
			var there, here unix.Stat_t
			if err := errors.Join(unix.Fstat(fd, &there), unix.Stat("/proc/self/ns/net", &here)); err != nil {
				return err
			}
			if there.Ino == here.Ino {
				return fmt.Errorf("the network namespace %s is the machine's own", path)
			}
			if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("entering the network namespace %s: %w", path, err)
			}
			return f()
		}()
	}()
	return <-done
}
