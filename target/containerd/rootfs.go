package containerd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	bolt "go.etcd.io/bbolt"

	"github.com/sherd-forensics/sherd/target"
	"github.com/sherd-forensics/sherd/target/internal/boltcopy"
	"github.com/sherd-forensics/sherd/target/procfs"
)

// Rootfs tells where the files of a snapshot lie. Only the mounts of active snapshots, which containers have, are
// asked for: a view of a committed one would have to be created.
func (r *Runtime) Rootfs(ctx context.Context, namespace, snapshotter, key string) (target.Rootfs, error) {
	if snapshotter == "" {
		snapshotter = "overlayfs"
	}
	if key == "" {
		return target.Rootfs{}, errors.New("the container has no snapshot: whoever started it brought a root of its own")
	}
	ms, err := r.api.mounts(ctx, namespace, snapshotter, key)
	if err != nil {
		return target.Rootfs{}, fmt.Errorf("snapshot %s of %s: %w", key, snapshotter, err)
	}
	if len(ms) == 0 {
		return target.Rootfs{}, fmt.Errorf("snapshot %s of %s has no mounts", key, snapshotter)
	}
	m := ms[len(ms)-1]
	readOnly := slices.Contains(m.options, "ro")
	switch {
	case m.kind == "overlay" || m.kind == "fuse3.fuse-overlayfs" || strings.HasSuffix(m.kind, "/overlay"):
		o := procfs.ParseOverlay(m.options)
		fs := target.Rootfs{Driver: "overlay", Upper: o.Upper, Work: o.Work, ReadOnly: readOnly}
		for _, d := range o.Lower {
			fs.Layers = append(fs.Layers, target.Layer{Dir: d})
		}
		return fs, nil
	case m.kind == "bind" && snapshotter == "native":
		fs := target.Rootfs{Driver: "native", Merged: m.source, ReadOnly: readOnly}
		fs.Layers, err = r.nativeLayers(m.source)
		return fs, err
	case m.kind == "bind" && filepath.Base(m.source) == "fs": // an overlay snapshot of an image without layers
		return target.Rootfs{Driver: "overlay", Upper: m.source, ReadOnly: readOnly}, nil
	}
	return target.Rootfs{Merged: m.source, ReadOnly: readOnly}, fmt.Errorf("the layers of snapshotter %s (a mount of type %s) are not known", snapshotter, m.kind)
}

// nativeLayers follows the parents of a snapshot of the native snapshotter. The API gives no directory for a committed
// snapshot, so the snapshotter's own database is read, from a copy in memory: containerd holds a lock on the file.
func (r *Runtime) nativeLayers(dir string) ([]target.Layer, error) {
	snapshots := filepath.Dir(dir)
	id, err := strconv.ParseUint(filepath.Base(dir), 10, 64)
	if err != nil || filepath.Base(snapshots) != "snapshots" {
		return nil, fmt.Errorf("the snapshot's directory %s does not look like the native snapshotter's", dir)
	}
	var ids []uint64
	err = boltcopy.View(r.places, filepath.Join(filepath.Dir(snapshots), "metadata.db"), func(tx *bolt.Tx) error {
		ids, err = parents(tx, id)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("the layers below %s: %w", dir, err)
	}
	var out []target.Layer
	for _, id := range ids {
		out = append(out, target.Layer{Dir: filepath.Join(snapshots, strconv.FormatUint(id, 10)), Whole: true})
	}
	slices.Reverse(out)
	return out, nil
}

// parents lists the numbers of a snapshot's parents, nearest first. The database has a bucket v1/snapshots with a bucket
// for each key, which holds "id" (uvarint) and "parent" (a key): containerd's snapshots/storage/bolt.go.
func parents(tx *bolt.Tx, id uint64) ([]uint64, error) {
	v1 := tx.Bucket([]byte("v1"))
	if v1 == nil || v1.Bucket([]byte("snapshots")) == nil {
		return nil, errors.New("the snapshotter's database has an unknown form")
	}
	all := v1.Bucket([]byte("snapshots"))
	number := func(b *bolt.Bucket) (uint64, bool) {
		n, size := binary.Uvarint(b.Get([]byte("id")))
		return n, size > 0
	}
	var at *bolt.Bucket
	err := all.ForEachBucket(func(k []byte) error {
		b := all.Bucket(k)
		if n, ok := number(b); ok && n == id {
			at = b
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if at == nil {
		return nil, fmt.Errorf("the snapshotter's database has no snapshot %d", id)
	}
	var out []uint64
	for range maxLayers {
		parent := at.Get([]byte("parent"))
		if len(parent) == 0 {
			return out, nil
		}
		if at = all.Bucket(parent); at == nil {
			return nil, fmt.Errorf("the parent %s is missing from the snapshotter's database", parent)
		}
		n, ok := number(at)
		if !ok {
			return nil, fmt.Errorf("the parent %s has no number", parent)
		}
		out = append(out, n)
	}
	return nil, fmt.Errorf("more than %d layers", maxLayers)
}
