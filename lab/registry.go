package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/sherd-forensics/sherd/lab/image"
)

// registryPort is taken where it is free: the reference that the runtime remembers is then the same each time.
const registryPort = "5788"

// serveRegistry answers the pull requests of the registry protocol for one image, on loopback, until stop is
// called. See https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#pull
func serveRegistry(img image.Image) (host string, stop func(), err error) {
	l, err := net.Listen("tcp4", "127.0.0.1:"+registryPort)
	if err != nil {
		if l, err = net.Listen("tcp4", "127.0.0.1:0"); err != nil {
			return "", nil, err
		}
	}
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		dir, last := filepath.Split(strings.TrimPrefix(r.URL.Path, "/v2/"))
		if last == "" {
			return // the version check
		}
		digest, err := v1.NewHash(last)
		if err != nil {
			http.NotFound(w, r)
			return
		}
		if strings.HasSuffix(dir, "/manifests/") {
			w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
			w.Header().Set("Docker-Content-Digest", digest.String())
		} else {
			w.Header().Set("Content-Type", "application/octet-stream")
		}
		http.ServeFile(w, r, filepath.Join(img.Layout, "blobs", digest.Algorithm, digest.Hex))
	})}
	served := make(chan struct{})
	go func() { _ = server.Serve(l); close(served) }()
	return l.Addr().String(), func() { server.Close(); <-served }, nil
}

// detached runs a program whose container inherits its standard output and error.
func detached(ctx context.Context, out *os.File, argv ...string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		return errors.Join(fmt.Errorf("%s: %w", strings.Join(argv, " "), err), errors.New(tail(out.Name(), 5)))
	}
	return nil
}
