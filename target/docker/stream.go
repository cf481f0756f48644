package docker

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/moby/moby/client"

	"github.com/sherd-forensics/sherd/target"
)

// maxLogFrame bounds one frame of the log stream; dockerd sends at most 16 KiB of a line at once.
const maxLogFrame = 1 << 20

// Streams are the container's output and its list of changed files as Docker's API gives them.
func (r *Runtime) Streams(c *target.Container) []target.Stream {
	return []target.Stream{
		{Path: "logs/api.log", Origin: "GET /containers/" + c.ID + "/logs (as CRI lines)", Open: func(ctx context.Context) (io.ReadCloser, error) {
			in, err := r.api.ContainerInspect(ctx, c.ID, client.ContainerInspectOptions{})
			if err != nil {
				return nil, r.failed("inspecting "+c.Name, err)
			}
			tty := in.Container.Config != nil && in.Container.Config.Tty
			body, err := r.api.ContainerLogs(ctx, c.ID, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Timestamps: true})
			if err != nil {
				return nil, r.failed("reading the logs of "+c.Name, err)
			}
			return criLines(body, tty), nil
		}},
		{Path: "filesystem/changes.json", Origin: "GET /containers/" + c.ID + "/changes", Open: func(ctx context.Context) (io.ReadCloser, error) {
			diff, err := r.api.ContainerDiff(ctx, c.ID, client.ContainerDiffOptions{})
			if err != nil {
				return nil, r.failed("listing the changed files of "+c.Name, err)
			}
			b, err := json.Marshal(diff.Changes)
			if err != nil {
				return nil, err
			}
			return io.NopCloser(strings.NewReader(string(b))), nil
		}},
	}
}

// criLines turns Docker's log stream (an 8-byte header before each frame, unless the container has a terminal) into the CRI log
// format, which says time, stream and text on each line.
func criLines(body io.ReadCloser, tty bool) io.ReadCloser {
	pr, pw := io.Pipe()
	go func() {
		defer body.Close()
		pw.CloseWithError(relay(pw, bufio.NewReaderSize(body, 1<<16), tty))
	}()
	return pr
}

func relay(w io.Writer, r *bufio.Reader, tty bool) error {
	if tty {
		for {
			line, err := r.ReadString('\n')
			if werr := criLine(w, "stdout", line); werr != nil {
				return werr
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
		}
	}
	var head [8]byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return cut(err)
		}
		size := binary.BigEndian.Uint32(head[4:])
		if size > maxLogFrame {
			return fmt.Errorf("a log frame of %d bytes", size)
		}
		frame := make([]byte, size)
		if _, err := io.ReadFull(r, frame); err != nil {
			return cut(err)
		}
		stream := "stdout"
		if head[0] == 2 {
			stream = "stderr"
		}
		if err := criLine(w, stream, string(frame)); err != nil {
			return err
		}
	}
}

// errCut stands for an end in the middle of a frame, which io.ReadFull's own error would let pass for an ordinary end.
var errCut = errors.New("the log stream ended in the middle of a frame")

func cut(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return errCut
	}
	return err
}

// criLine writes "TIME STREAM F TEXT"; the API puts the time first on each line. A part of a longer line is marked P.
func criLine(w io.Writer, stream, line string) error {
	at, text, ok := strings.Cut(line, " ")
	if !ok && line == "" {
		return nil
	}
	tag := "F"
	if !strings.HasSuffix(text, "\n") {
		tag = "P"
	}
	_, err := fmt.Fprintf(w, "%s %s %s %s\n", at, stream, tag, strings.TrimRight(text, "\r\n"))
	return err
}
