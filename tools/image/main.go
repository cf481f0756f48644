// Image packs Sherd's two programs into images FROM scratch, one file and nothing else: we are distroless too. It needs
// no container engine; the archives that it writes are taken by docker load, ctr image import and skopeo.
// The same binaries give the same digests.
package main

import (
	"archive/tar"
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func main() {
	version := flag.String("version", "devel", "version to label the images with")
	bin := flag.String("bin", "bin", "folder of the built programs")
	out := flag.String("out", "dist", "folder to write to")
	flag.Parse()
	for _, program := range []string{"sherd-collector", "sherd"} {
		path, digest, size, err := pack(program, *version, *bin, *out)
		if err != nil {
			fmt.Fprintf(os.Stderr, "image: %s: %v\n", program, err)
			os.Exit(1)
		}
		fmt.Printf("%s  %s  %.1f MiB\n", path, digest, float64(size)/(1<<20))
	}
}

// pack writes one program's image and returns the archive's path, the image's digest and the archive's size.
func pack(program, version, bin, out string) (path, digest string, size int64, err error) {
	content, err := os.ReadFile(filepath.Join(bin, program))
	if err != nil {
		return "", "", 0, err
	}
	var layer bytes.Buffer
	tw := tar.NewWriter(&layer)
	// A volume is mounted at /out, and temporary files need a place.
	for _, d := range []struct {
		name string
		mode int64
	}{{"out/", 0o755}, {"tmp/", 0o1777}} {
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: d.name, Mode: d.mode, ModTime: time.Unix(0, 0)}); err != nil {
			return "", "", 0, err
		}
	}
	if err := tw.WriteHeader(&tar.Header{Name: program, Mode: 0o755, Size: int64(len(content)), ModTime: time.Unix(0, 0)}); err != nil {
		return "", "", 0, err
	}
	if _, err := tw.Write(content); err != nil {
		return "", "", 0, err
	}
	if err := tw.Close(); err != nil {
		return "", "", 0, err
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil })
	if err != nil {
		return "", "", 0, err
	}
	img, err := mutate.AppendLayers(empty.Image, l)
	if err != nil {
		return "", "", 0, err
	}
	img, err = mutate.ConfigFile(img, config(program, version, img))
	if err != nil {
		return "", "", 0, err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return "", "", 0, err
	}
	tag, err := name.NewTag("sherd-forensics/" + program + ":" + version)
	if err != nil {
		return "", "", 0, err
	}
	path = filepath.Join(out, program+".tar")
	if err := tarball.WriteToFile(path, tag, img); err != nil {
		return "", "", 0, err
	}
	d, err := img.Digest()
	if err != nil {
		return "", "", 0, err
	}
	st, err := os.Stat(path)
	if err != nil {
		return "", "", 0, err
	}
	return path, d.String(), st.Size(), nil
}

func config(program, version string, img v1.Image) *v1.ConfigFile {
	cf := &v1.ConfigFile{Architecture: runtime.GOARCH, OS: "linux", Author: "Sherd"}
	if have, err := img.ConfigFile(); err == nil {
		cf.RootFS, cf.History = have.RootFS, have.History
	}
	cf.Config.Entrypoint = []string{"/" + program}
	cf.Config.Env = []string{"HOME=/tmp"}
	cf.Config.WorkingDir = "/out"
	cf.Config.Labels = map[string]string{
		"org.opencontainers.image.title":    program,
		"org.opencontainers.image.version":  version,
		"org.opencontainers.image.source":   "https://github.com/sherd-forensics/sherd",
		"org.opencontainers.image.licenses": "Apache-2.0",
	}
	return cf
}
