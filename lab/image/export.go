package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// Archive writes the layout as one tar file, which `ctr image import` and `podman load` take as it is.
func (i Image) Archive(file string) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	w := tar.NewWriter(f)
	return errors.Join(w.AddFS(os.DirFS(i.Layout)), w.Close(), f.Close())
}

// Unpack writes the image's root file system into a new directory.
func (i Image) Unpack(dir string) error {
	img, err := i.Load()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	flat := mutate.Extract(img)
	defer flat.Close()
	cmd := exec.Command("tar", "--extract", "--same-owner", "--preserve-permissions", "--numeric-owner", "--directory", dir)
	cmd.Stdin = flat
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("unpacking %s: %w: %s", i.Ref, err, said)
	}
	return nil
}
