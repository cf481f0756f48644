package containerd

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/opencontainers/image-spec/specs-go/v1"
)

// image is what the content store has of an image.
type image struct {
	manifestDigest string
	manifest       []byte
	configDigest   string
	config         []byte
	index          []byte // nil when the name stands for the manifest itself
	indexDigest    string
	diffs          []string // of the uncompressed layers
	layers         []string // of the blobs
}

// image follows a name to the manifest that this machine's platform uses, and reads manifest and configuration.
func (r *Runtime) image(ctx context.Context, namespace, name string) (*image, error) {
	if name == "" {
		return nil, nil
	}
	d, err := r.api.image(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	raw, err := r.blob(ctx, namespace, d.digest)
	if err != nil {
		return nil, err
	}
	img := &image{manifestDigest: d.digest, manifest: raw}
	var doc struct {
		Manifests []v1.Descriptor
		Config    v1.Descriptor
		Layers    []v1.Descriptor
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, fmt.Errorf("manifest %s: %w", d.digest, err)
	}
	if len(doc.Manifests) > 0 {
		img.index, img.indexDigest = raw, d.digest
		if raw, img.manifestDigest, err = r.present(ctx, namespace, doc.Manifests); err != nil {
			return nil, err
		}
		img.manifest = raw
		doc.Config, doc.Layers = v1.Descriptor{}, nil
		if err := json.Unmarshal(raw, &doc); err != nil {
			return nil, fmt.Errorf("manifest %s: %w", img.manifestDigest, err)
		}
	}
	for _, l := range doc.Layers[:min(len(doc.Layers), maxLayers)] {
		img.layers = append(img.layers, string(l.Digest))
	}
	img.configDigest = string(doc.Config.Digest)
	if img.config, err = r.blob(ctx, namespace, img.configDigest); err != nil {
		return nil, err
	}
	var cfg struct {
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := json.Unmarshal(img.config, &cfg); err != nil {
		return nil, fmt.Errorf("image configuration %s: %w", img.configDigest, err)
	}
	img.diffs = cfg.RootFS.DiffIDs[:min(len(cfg.RootFS.DiffIDs), maxLayers)]
	return img, nil
}

const maxLayers = 512

// present finds the manifest of an index whose configuration lies in the store: the one that was pulled for this machine.
func (r *Runtime) present(ctx context.Context, namespace string, ms []v1.Descriptor) ([]byte, string, error) {
	var last error
	for _, m := range ms[:min(len(ms), 64)] {
		if m.Platform != nil && (m.Platform.OS == "unknown" || m.Platform.OS == "windows") { // attestations, and what can't run here
			continue
		}
		raw, err := r.blob(ctx, namespace, string(m.Digest))
		if err != nil {
			last = err
			continue
		}
		var doc v1.Manifest
		if err := json.Unmarshal(raw, &doc); err != nil {
			last = err
			continue
		}
		if _, err := r.blob(ctx, namespace, string(doc.Config.Digest)); err != nil {
			last = err
			continue
		}
		return raw, string(m.Digest), nil
	}
	return nil, "", fmt.Errorf("none of the index's %d manifests is in the store: %w", len(ms), last)
}

// blob reads a document from the content store and checks its hash.
func (r *Runtime) blob(ctx context.Context, namespace, digest string) ([]byte, error) {
	want, ok := strings.CutPrefix(digest, "sha256:")
	if !ok {
		return nil, fmt.Errorf("the digest %q is not sha256", digest)
	}
	b, err := r.api.content(ctx, namespace, digest)
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != want {
		return nil, fmt.Errorf("the content store's %s has another hash", digest)
	}
	return b, nil
}

// album holds the images that were looked up, by namespace and name; nil for one that can't be read.
type album map[[2]string]*image

func (r *Runtime) cached(ctx context.Context, a album, namespace, name string) (*image, error) {
	k := [2]string{namespace, name}
	if img, ok := a[k]; ok && img != nil {
		return img, nil
	}
	img, err := r.image(ctx, namespace, name)
	a[k] = img
	return img, err
}

// chainID identifies a stack of layers (image-spec, "Layer ChainID"); containerd names committed snapshots by it.
func chainID(diffs []string) string {
	chain := ""
	for i, d := range diffs {
		if i == 0 {
			chain = d
			continue
		}
		sum := sha256.Sum256([]byte(chain + " " + d))
		chain = "sha256:" + hex.EncodeToString(sum[:])
	}
	return chain
}

// maxImages bounds the search for an image that lost its name.
const maxImages = 256

// imageOf finds the image that the container was made from. A container remembers only a name, and the name may stand for another image by
// now: the snapshot that the container's own lies on decides. A note tells when the name does not lead there.
func (r *Runtime) imageOf(ctx context.Context, f found, a album) (*image, string) {
	named, err := r.cached(ctx, a, f.namespace, f.image)
	parent := ""
	if key := cmp.Or(f.snapshotKey, f.id); f.snapshotter != "" {
		if info, serr := r.api.snapshot(ctx, f.namespace, f.snapshotter, key); serr == nil {
			parent = info.parent
		}
	}
	// A snapshot with shifted owners, for a user namespace, has the chain's id with a suffix.
	fits := func(img *image) bool {
		chain := chainID(img.diffs)
		return parent == chain || chain != "" && strings.HasPrefix(parent, chain+"-")
	}
	switch {
	case f.image == "":
		return nil, "" // as Docker's are, which keeps images itself
	case named != nil && (parent == "" || fits(named)):
		return named, ""
	case named == nil && parent == "":
		return nil, fmt.Sprintf("the image %s can't be read from containerd: %v", f.image, err)
	}
	names, lerr := r.api.imageNames(ctx, f.namespace)
	if lerr == nil {
		for _, n := range names[:min(len(names), maxImages)] {
			if img, err := r.cached(ctx, a, f.namespace, n); err == nil && img != nil && fits(img) {
				return img, fmt.Sprintf("the image's name %s does not lead to what the container was made from, which is %s by now", f.image, n)
			}
		}
	}
	if named == nil {
		return nil, fmt.Sprintf("the image %s can't be read from containerd (%v), and no other has the container's layers", f.image, err)
	}
	return nil, fmt.Sprintf("the name %s stands for another image (%s) by now: the container's own is no longer there, and its layers have no ids", f.image, named.manifestDigest)
}
