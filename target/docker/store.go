package docker

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/client"

	"github.com/sherd-forensics/sherd/target"
)

// image is what of an image's inspect answer matters, and its bytes.
type image struct {
	RepoTags    []string
	RepoDigests []string
	RootFS      struct{ Layers []string }
	raw         []byte
}

// image inspects the container's image, once for each; nil if Docker doesn't have it any more.
func (r *Runtime) image(ctx context.Context, c *target.Container) *image {
	id := c.Image.ConfigID
	if id == "" {
		c.Warn("Docker does not say which image the container was made from")
		return nil
	}
	r.mu.Lock()
	img, known := r.images[id]
	r.mu.Unlock()
	if !known {
		var raw bytes.Buffer
		ctx, cancel := context.WithTimeout(ctx, target.Asking)
		defer cancel()
		_, err := r.api.ImageInspect(ctx, id, client.ImageInspectWithRawResponse(&raw))
		if err == nil {
			img = &image{raw: raw.Bytes()}
			err = json.Unmarshal(img.raw, img)
		}
		if err != nil && !isNotFound(err) {
			c.Warn("Docker did not tell about the image: " + err.Error())
			return nil
		}
		r.mu.Lock()
		r.images[id] = img
		r.mu.Unlock()
	}
	if img == nil {
		c.Warn("the image " + id + " is no longer in Docker's store: what it held is known by its layers alone")
		return nil
	}
	c.Image.Digest = digest(c.Image.Name, img.RepoDigests)
	return img
}

// digest chooses the manifest's digest that the image's own repository gave, if several did.
func digest(name string, repoDigests []string) string {
	repo := name
	if at := strings.IndexByte(repo, '@'); at >= 0 {
		return repo[at+1:]
	}
	if colon := strings.LastIndexByte(repo, ':'); colon > strings.LastIndexByte(repo, '/') {
		repo = repo[:colon]
	}
	best := ""
	for _, rd := range repoDigests {
		where, d, ok := strings.Cut(rd, "@")
		if !ok {
			continue
		}
		if where == repo {
			return d
		}
		best = cmp.Or(best, d)
	}
	return best
}

// maxChain bounds how many layers an image may have; the kernel mounts 500.
const maxChain = 512

// vfs follows the records of Docker's layer store, which the API does not give for the vfs driver: the container's root is a
// directory of its own, and each layer of the image a complete tree.
func (r *Runtime) vfs(ctx context.Context, c *target.Container) {
	root := r.dataRoot(ctx)
	db := filepath.Join(root, "image", "vfs", "layerdb")
	read := func(elements ...string) string {
		b, err := r.places.ReadFile(filepath.Join(append([]string{db}, elements...)...))
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(b))
	}
	dir := func(id string) string { return filepath.Join(root, "vfs", "dir", path.Base("/"+id)) }
	mount := read("mounts", c.ID, "mount-id")
	if mount == "" {
		c.Warn("where the container's files lie is not known: Docker's layer store at " + db + " can't be read")
		return
	}
	c.Rootfs = target.Rootfs{Driver: "vfs", Merged: dir(mount)}
	if id := read("mounts", c.ID, "init-id"); id != "" {
		c.Rootfs.Layers = append(c.Rootfs.Layers, target.Layer{Dir: dir(id), Whole: true, Init: true})
	}
	for chain, n := read("mounts", c.ID, "parent"), 0; chain != "" && n < maxChain; n++ {
		algo, hex, ok := strings.Cut(chain, ":")
		if !ok || algo != "sha256" || !isHex(hex) {
			c.Warn("Docker's layer store names a layer " + strconv.Quote(chain))
			return
		}
		if id := read(algo, hex, "cache-id"); id != "" {
			c.Rootfs.Layers = append(c.Rootfs.Layers, target.Layer{Dir: dir(id), Whole: true, DiffID: read(algo, hex, "diff")})
		}
		chain = read(algo, hex, "parent")
	}
	slices.Reverse(c.Rootfs.Layers)
}

func isHex(s string) bool { return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == "" }

// digests finds the layers' blobs, which Docker notes when it pulls.
func (r *Runtime) digests(ctx context.Context, c *target.Container, driver string) {
	if r.remote || driver == "" || strings.ContainsAny(driver, "/.") {
		return
	}
	for i := range c.Rootfs.Layers {
		l := &c.Rootfs.Layers[i]
		hex := strings.TrimPrefix(l.DiffID, "sha256:")
		if !isHex(hex) {
			continue
		}
		b, err := r.places.ReadFile(filepath.Join(r.dataRoot(ctx), "image", driver, "distribution", "v2metadata-by-diffid", "sha256", hex))
		if err != nil {
			continue
		}
		var pulled []struct{ Digest string }
		if json.Unmarshal(b, &pulled) == nil && len(pulled) > 0 {
			l.Digest = pulled[len(pulled)-1].Digest
		}
	}
}

// records keeps Docker's documents byte for byte.
func (r *Runtime) records(ctx context.Context, c *target.Container, in *inspected) {
	add := func(name, origin string, b []byte) {
		c.Records = append(c.Records, target.Record{Name: name, Origin: origin, Data: b})
	}
	add("inspect.json", "GET /containers/"+c.ID+"/json", in.raw)
	if img := r.image(ctx, &target.Container{Image: c.Image}); img != nil {
		add("image-inspect.json", "GET /images/"+c.Image.ConfigID+"/json", img.raw)
		hctx, cancel := context.WithTimeout(ctx, target.Asking)
		defer cancel()
		h, err := r.api.ImageHistory(hctx, c.Image.ConfigID)
		if err == nil {
			var b []byte
			if b, err = json.MarshalIndent(h.Items, "", " "); err == nil {
				add("image-history.json", "GET /images/"+c.Image.ConfigID+"/history, encoded anew", b)
			}
		}
		if err != nil {
			c.Warn("Docker did not give the image's history: " + err.Error())
		}
	}
	if r.remote {
		return
	}
	r.imageConfig(ctx, c, in, add)
	if r.kernel != nil && c.PID != 0 {
		if b, at := r.kernel.Config(c.PID, c.ID); b != nil {
			add("config.json", at, b)
		} else {
			c.Warn("the OCI configuration was not found beside the container's shim or in the usual state directories")
		}
	}
	for _, f := range []string{"config.v2.json", "hostconfig.json"} {
		if in.HostsPath == "" && in.ResolvConfPath == "" {
			break
		}
		at := filepath.Join(filepath.Dir(cmp.Or(in.HostsPath, in.ResolvConfPath)), f)
		if b, err := r.places.ReadFile(at); err == nil {
			add("docker-"+f, at, b)
		} else {
			c.Warn(fmt.Sprintf("Docker's own %s can't be read: %v", f, err))
		}
	}
}

// imageConfig takes the image's configuration from the store: its hash is the image's id.
func (r *Runtime) imageConfig(ctx context.Context, c *target.Container, in *inspected, add func(name, origin string, b []byte)) {
	hex := strings.TrimPrefix(c.Image.ConfigID, "sha256:")
	if !isHex(hex) || in.Driver == "" || strings.ContainsAny(in.Driver, "/.") {
		return
	}
	at := filepath.Join(r.dataRoot(ctx), "image", in.Driver, "imagedb", "content", "sha256", hex)
	if b, err := r.places.ReadFile(at); err == nil {
		add("image-config.json", at, b)
		return
	}
	// With the containerd image store the id is the manifest's digest.
	if in.ImageManifestDescriptor != nil {
		c.Image.Digest = string(in.ImageManifestDescriptor.Digest)
	}
	c.Warn("the image's configuration is not in Docker's own store (" + at + ")")
}
