package image

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// As is the same image with another user in its configuration, for a runtime whose command line cannot say who a
// container runs as (ctr before 1.7).
func (i Image) As(user string) (Image, error) {
	tag := "user-" + strings.ReplaceAll(user, ":", "-")
	out := i
	out.Ref += "-" + tag
	out.Layout += "-" + tag
	done := filepath.Join(out.Layout, "DIGEST")
	if b, err := os.ReadFile(done); err == nil {
		out.Digest = string(b)
		return out, nil
	}
	img, err := i.Load()
	if err != nil {
		return out, err
	}
	c, err := img.ConfigFile()
	if err != nil {
		return out, err
	}
	c = c.DeepCopy()
	c.Config.User = user
	if img, err = mutate.ConfigFile(img, c); err != nil {
		return out, err
	}
	if err := os.RemoveAll(out.Layout); err != nil {
		return out, err
	}
	p, err := layout.Write(out.Layout, empty.Index)
	if err != nil {
		return out, err
	}
	if err := p.AppendImage(img, layout.WithAnnotations(annotations(out.Ref))); err != nil {
		return out, err
	}
	h, err := img.Digest()
	if err != nil {
		return out, err
	}
	out.Digest = h.String()
	return out, os.WriteFile(done, []byte(out.Digest), 0o644)
}

// annotations name an image inside a layout: the OCI specification's way, and containerd's.
func annotations(ref string) map[string]string {
	return map[string]string{"org.opencontainers.image.ref.name": ref, "io.containerd.image.name": ref}
}
