package image_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"path"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/sherd-forensics/sherd/internal/testenv"
	"github.com/sherd-forensics/sherd/lab"
	"github.com/sherd-forensics/sherd/lab/image"
)

// Every image is valid, is built in layers, says what it holds, and has neither shell nor package manager.
func TestImages(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "dpkg-deb", "apt-get")
	l := lab.Open(t.Output())
	for _, name := range lab.Images {
		t.Run(name, func(t *testing.T) {
			built, err := l.Image(context.Background(), name)
			if err != nil {
				t.Fatal(err)
			}
			img, err := built.Load()
			if err != nil {
				t.Fatal(err)
			}
			if err := validate.Image(img); err != nil {
				t.Error(err)
			}
			if d, err := img.Digest(); err != nil || d.String() != built.Digest {
				t.Errorf("digest %s, %v; built was %s", d, err, built.Digest)
			}
			checkConfig(t, img)
			checkFiles(t, name, img)
		})
	}
}

func checkConfig(t *testing.T, img v1.Image) {
	t.Helper()
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil || len(layers) < 6 || len(c.History) != len(layers) {
		t.Errorf("%d layers, %d history, %v", len(layers), len(c.History), err)
	}
	if c.Config.User != "65532:65532" || c.Config.Labels["org.opencontainers.image.title"] == "" || c.Created.IsZero() || c.History[0].Created.IsZero() {
		t.Errorf("config %+v", c)
	}
}

func checkFiles(t *testing.T, name string, img v1.Image) {
	t.Helper()
	flat := mutate.Extract(img)
	defer flat.Close()
	have := map[string]*tar.Header{}
	packages := 0
	for r := tar.NewReader(flat); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		p := "/" + path.Clean(h.Name)
		have[p] = h
		switch path.Base(p) {
		case "sh", "bash", "dash", "busybox", "apt", "apt-get", "dpkg", "perl", "tar":
			if h.Typeflag != tar.TypeDir {
				t.Errorf("holds %s", p)
			}
		}
		if path.Dir(p) == "/var/lib/dpkg/status.d" && !strings.HasSuffix(p, ".md5sums") {
			packages++
			b, err := io.ReadAll(r)
			if err != nil || !bytes.HasPrefix(b, []byte("Package: "+path.Base(p)+"\n")) {
				t.Errorf("%s is no control file: %.60q, %v", p, b, err)
			}
		}
	}
	want := []string{"/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/os-release", "/usr/lib/os-release", "/tmp", "/home/nonroot",
		"/etc/ssl/certs/ca-certificates.crt", "/usr/share/zoneinfo/Europe/Berlin", "/var/lib/dpkg/status.d/tzdata"}
	switch name {
	case "base":
		triplet := map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}[runtime.GOARCH]
		want = append(want, "/lib/"+triplet+"/libc.so.6", "/usr/lib/"+triplet+"/libssl.so.3")
	case "python3", "pyweb":
		want = append(want, "/usr/bin/python3.11", "/usr/lib/python3.11/pickle.py")
	case "opensslweb":
		want = append(want, "/usr/bin/openssl", "/app/app.py")
	case "clockweb":
		want = append(want, "/usr/lib/clock.so", "/app/app.py")
	case "taintedweb", "taintedweb-memory", "taintedweb-late":
		want = append(want, "/usr/local/lib/python3.11/dist-packages/metrics.pth", "/app/app.py")
	case "nodejs", "nodeweb":
		want = append(want, "/usr/bin/node")
	case "goweb":
		want = append(want, "/app/server", "/app/static/checkout.js")
	}
	for _, p := range want {
		if have[p] == nil {
			t.Errorf("lacks %s", p)
		}
	}
	if h := have["/tmp"]; h != nil && h.Mode&0o7777 != 0o1777 {
		t.Errorf("/tmp has mode %o", h.Mode)
	}
	if h := have["/home/nonroot"]; h != nil && h.Uid != image.NonRoot {
		t.Errorf("/home/nonroot is %d's", h.Uid)
	}
	if packages < 5 {
		t.Errorf("%d packages", packages)
	}
}

// The same inputs give the same image, byte for byte.
func TestReproducible(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "dpkg-deb", "apt-get")
	l := lab.Open(t.Output())
	if _, err := l.Image(context.Background(), "static"); err != nil {
		t.Fatal(err)
	}
	var digests []string
	for range 2 {
		pkgs := &image.Packages{Dir: l.Base() + "/packages", Say: t.Logf}
		img, err := image.Build(context.Background(), image.Recipe{Name: "twice", Packages: image.Static[:2], User: "65532"}, pkgs, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, img.Digest)
	}
	if digests[0] != digests[1] {
		t.Errorf("two builds gave %s and %s", digests[0], digests[1])
	}
}
