package containerd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"

	"github.com/sherd-forensics/sherd/target"
)

// maxAnswer bounds what one call may bring: containerd itself refuses messages over 16 MiB.
const maxAnswer = 32 << 20

// statusError is a call that containerd answered with a failure, https://grpc.io/docs/guides/status-codes/.
type statusError struct {
	code int
	text string
}

func (e *statusError) Error() string {
	if e.text == "" {
		return "gRPC status " + strconv.Itoa(e.code)
	}
	return e.text
}

// conn speaks gRPC (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md) over a Unix socket with the standard
// library's HTTP/2: the few calls that are made need nothing more.
type conn struct {
	socket string
	http   *http.Client
	pool   *http.Transport
}

func dial(socket string) *conn {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	t := &http.Transport{
		Protocols: protocols,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
		DisableCompression: true,
	}
	return &conn{socket: socket, http: &http.Client{Transport: t}, pool: t}
}

func (c *conn) close() { c.pool.CloseIdleConnections() }

// call makes one call and gives its messages: one, or several of a stream.
func (c *conn) call(ctx context.Context, namespace, method string, msg []byte) ([][]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, target.Asking)
	defer cancel()
	out, err := c.exchange(ctx, namespace, method, msg)
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, target.Answer("containerd", c.socket, err)
	}
	return out, nil
}

func (c *conn) exchange(ctx context.Context, namespace, method string, msg []byte) ([][]byte, error) {
	body := make([]byte, 5, 5+len(msg))
	binary.BigEndian.PutUint32(body[1:], uint32(len(msg))) //nolint:gosec // requests are a few names long
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://containerd/containerd.services."+method, bytes.NewReader(append(body, msg...)))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	if namespace != "" {
		req.Header.Set("Containerd-Namespace", namespace)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the answer has HTTP status %s: this is no containerd", resp.Status)
	}
	var out [][]byte
	rest := int64(maxAnswer)
	for {
		m, err := message(resp.Body, &rest)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, status(resp)
}

// message reads one length-prefixed message: a byte that says whether it is compressed, four of length.
func message(r io.Reader, rest *int64) ([]byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	if head[0] != 0 {
		return nil, fmt.Errorf("%w: compressed, which was not asked for", errMalformed)
	}
	n := int64(binary.BigEndian.Uint32(head[1:]))
	if *rest -= n; *rest < 0 {
		return nil, fmt.Errorf("the answer is larger than %d MiB", maxAnswer>>20)
	}
	// Grown as the bytes arrive: the length is only a claim.
	var b bytes.Buffer
	if got, err := io.CopyN(&b, r, n); err != nil {
		return nil, fmt.Errorf("%w: %d of %d bytes: %w", errMalformed, got, n, io.ErrUnexpectedEOF)
	}
	return b.Bytes(), nil
}

// status reads the call's outcome from the trailers, or from the headers of an answer without messages.
func status(resp *http.Response) error {
	get := func(k string) string {
		if v := resp.Trailer.Get(k); v != "" {
			return v
		}
		return resp.Header.Get(k)
	}
	code, err := strconv.Atoi(get("Grpc-Status"))
	if err != nil {
		return fmt.Errorf("%w: no status at its end", errMalformed)
	}
	if code == 0 {
		return nil
	}
	text, err := url.PathUnescape(get("Grpc-Message"))
	if err != nil {
		text = get("Grpc-Message")
	}
	return &statusError{code, text}
}

// unary makes a call that has one message as its answer.
func (c *conn) unary(ctx context.Context, namespace, method string, msg []byte) ([]byte, error) {
	all, err := c.call(ctx, namespace, method, msg)
	if err != nil {
		return nil, err
	}
	if len(all) != 1 {
		return nil, fmt.Errorf("%s: %w: %d answers", method, errMalformed, len(all))
	}
	return all[0], nil
}

func (c *conn) namespaces(ctx context.Context) ([]string, error) {
	b, err := c.unary(ctx, "", "namespaces.v1.Namespaces/List", nil)
	if err != nil {
		return nil, err
	}
	return each(b, 1, func(msg []byte) (string, error) {
		name, _, err := decodeEntry(msg)
		return name, err
	})
}

func (c *conn) containers(ctx context.Context, namespace string) ([]containerRecord, error) {
	b, err := c.unary(ctx, namespace, "containers.v1.Containers/List", nil)
	if err != nil {
		return nil, err
	}
	return each(b, 1, decodeContainer)
}

func (c *conn) tasks(ctx context.Context, namespace string) (map[string]taskRecord, error) {
	b, err := c.unary(ctx, namespace, "tasks.v1.Tasks/List", nil)
	if err != nil {
		return nil, err
	}
	all, err := each(b, 1, decodeTask)
	if err != nil {
		return nil, err
	}
	out := map[string]taskRecord{}
	for _, t := range all {
		id := t.containerID
		if id == "" { // the list of tasks names the container in id alone
			id = t.id
		}
		out[id] = t
	}
	return out, nil
}

func (c *conn) mounts(ctx context.Context, namespace, snapshotter, key string) ([]mountRecord, error) {
	b, err := c.unary(ctx, namespace, "snapshots.v1.Snapshots/Mounts", request(field{1, snapshotter}, field{2, key}))
	if err != nil {
		return nil, err
	}
	return each(b, 1, decodeMount)
}

func (c *conn) snapshot(ctx context.Context, namespace, snapshotter, key string) (snapshotInfo, error) {
	b, err := c.unary(ctx, namespace, "snapshots.v1.Snapshots/Stat", request(field{1, snapshotter}, field{2, key}))
	if err != nil {
		return snapshotInfo{}, err
	}
	return one(b, 1, decodeInfo)
}

// imageNames lists the names of all images.
func (c *conn) imageNames(ctx context.Context, namespace string) ([]string, error) {
	b, err := c.unary(ctx, namespace, "images.v1.Images/List", nil)
	if err != nil {
		return nil, err
	}
	return each(b, 1, func(image []byte) (string, error) {
		name, _, err := decodeEntry(image)
		return name, err
	})
}

// image gives the descriptor that an image's name stands for.
func (c *conn) image(ctx context.Context, namespace, name string) (descriptor, error) {
	b, err := c.unary(ctx, namespace, "images.v1.Images/Get", request(field{1, name}))
	if err != nil {
		return descriptor{}, err
	}
	return one(b, 1, func(image []byte) (descriptor, error) { return one(image, 3, decodeDescriptor) })
}

// content reads a blob of the content store.
func (c *conn) content(ctx context.Context, namespace, digest string) ([]byte, error) {
	parts, err := c.call(ctx, namespace, "content.v1.Content/Read", request(field{1, digest}))
	if err != nil {
		return nil, err
	}
	var out []byte
	for _, p := range parts {
		err := fields(p, func(num protoNumber, _ uint64, b []byte) error {
			if num == 2 {
				out = append(out, b...)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}
