// Package image builds distroless images from Debian packages, the way the well-known ones are made: base files,
// one layer for each package with its control file under /var/lib/dpkg/status.d, the application last, and no
// shell. The result is an OCI layout with real digests. The same inputs give the same bytes.
package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// recipeVersion goes into every image's key: raise it when the way of building changes.
const recipeVersion = "1"

// Recipe says what an image is made of.
type Recipe struct {
	Name       string
	Packages   []string // Debian packages, one layer each, lowest first
	Files      []File   // the application's layer; none for a base image
	Entrypoint []string
	Env        []string
	User       string
	Ports      []string // "8080/tcp"
	Labels     map[string]string
}

// Image is a built image.
type Image struct {
	Name   string
	Ref    string // name and tag under which runtimes hold it
	Layout string // directory of the OCI layout
	Digest string // of the manifest
	Key    string // hash of everything that went in
}

// Repository is the name that the lab's images bear. The .test domain belongs to nobody.
const Repository = "registry.test/lab"

// Load opens the built image as go-containerregistry sees it.
func (i Image) Load() (v1.Image, error) {
	p, err := layout.FromPath(i.Layout)
	if err != nil {
		return nil, err
	}
	h, err := v1.NewHash(i.Digest)
	if err != nil {
		return nil, err
	}
	return p.Image(h)
}

// Build builds the image below dir, unless it is there already.
func Build(ctx context.Context, r Recipe, pkgs *Packages, dir string) (Image, error) {
	if err := pkgs.versions(ctx, r.Packages); err != nil {
		return Image{}, err
	}
	key, err := r.key(pkgs)
	if err != nil {
		return Image{}, err
	}
	out := Image{Name: r.Name, Ref: Repository + "/" + r.Name + ":1", Layout: filepath.Join(dir, r.Name+"-"+key[:16]), Key: key}
	if b, err := os.ReadFile(filepath.Join(out.Layout, "DIGEST")); err == nil {
		out.Digest = string(b)
		return out, nil
	}
	began := time.Now()
	img, err := r.assemble(ctx, pkgs)
	if err != nil {
		return Image{}, fmt.Errorf("building %s: %w", r.Name, err)
	}
	// Half a layout must never be taken for a whole one: the digest's file is written last.
	if err := os.RemoveAll(out.Layout); err != nil {
		return Image{}, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Image{}, err
	}
	p, err := layout.Write(out.Layout, empty.Index)
	if err != nil {
		return Image{}, err
	}
	if err := p.AppendImage(img, layout.WithAnnotations(annotations(out.Ref))); err != nil {
		return Image{}, err
	}
	h, err := img.Digest()
	if err != nil {
		return Image{}, err
	}
	out.Digest = h.String()
	if err := os.WriteFile(filepath.Join(out.Layout, "DIGEST"), []byte(out.Digest), 0o644); err != nil {
		return Image{}, err
	}
	pkgs.Say("built image %s in %.1f s", out.Ref, time.Since(began).Seconds())
	return out, nil
}

// key hashes the recipe with the versions of its packages.
func (r Recipe) key(pkgs *Packages) (string, error) {
	versions := map[string]string{}
	for _, n := range r.Packages {
		versions[n] = pkgs.vers[n]
	}
	b, err := json.Marshal(struct {
		Version  string
		Recipe   Recipe
		Packages map[string]string
	}{recipeVersion, r, versions})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}

func (r Recipe) assemble(ctx context.Context, pkgs *Packages) (v1.Image, error) {
	base, err := files(baseFiles())
	if err != nil {
		return nil, err
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	step := 0
	add := func(img v1.Image, layer []byte, by string) (v1.Image, error) {
		l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer)), nil },
			tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
		if err != nil {
			return nil, err
		}
		step++
		return mutate.Append(img, mutate.Addendum{Layer: l, MediaType: types.OCILayer, History: v1.History{
			Created: v1.Time{Time: Epoch.Add(time.Duration(step) * time.Second)}, CreatedBy: by, Author: "lab",
		}})
	}
	if img, err = add(img, base, "base files"); err != nil {
		return nil, err
	}
	debs, err := pkgs.fetch(ctx, r.Packages)
	if err != nil {
		return nil, err
	}
	for _, deb := range debs {
		layer, name, version, err := debLayer(ctx, deb)
		if err != nil {
			return nil, err
		}
		if img, err = add(img, layer, "package "+name+" "+version); err != nil {
			return nil, err
		}
	}
	if len(r.Files) > 0 {
		layer, err := files(r.Files)
		if err != nil {
			return nil, err
		}
		if img, err = add(img, layer, "application "+r.Name); err != nil {
			return nil, err
		}
	}
	ports := map[string]struct{}{}
	for _, p := range r.Ports {
		ports[p] = struct{}{}
	}
	c, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	c = c.DeepCopy()
	c.Architecture, c.OS, c.Author = architecture, "linux", "lab"
	c.Created = v1.Time{Time: Epoch.Add(time.Hour)}
	c.Config = v1.Config{
		Entrypoint: r.Entrypoint, User: r.User, Labels: r.Labels, WorkingDir: "/", ExposedPorts: ports,
		Env: append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"}, r.Env...),
	}
	return mutate.ConfigFile(img, c)
}
