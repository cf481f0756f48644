package filesystem

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/sherd-forensics/sherd/evidence/record"
)

func sum(b []byte) [32]byte { return sha256.Sum256(b) }

func hashOf(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}

func TestOverlay(t *testing.T) {
	r := overlay(t, "")
	tamper(t, r.merged)
	forget(t, r.upper, r.layers[0], r.layers[1])
	before := state(t, r.upper, r.layers[0], r.layers[1])
	p, path := capture(t, r.container(), Options{})
	unchanged(t, before, state(t, r.upper, r.layers[0], r.layers[1]))
	if c := complaints(p); len(c) > 0 {
		t.Errorf("complaints: %q", c)
	}
	compareTrees(t, r.upper, extract(t, path)+"/filesystem/upper")

	all := rows(t, p, false)
	for key, want := range map[string]record.File{
		"root /usr/bin/dropped":         {Layer: -1, Type: "file", Mode: 0o4755, SHA256: hashOf(evil), Artifact: "filesystem/upper/usr/bin/dropped"},
		"root /usr/bin/dropped2":        {Layer: -1, Type: "file", Mode: 0o4755, SHA256: hashOf(evil), Artifact: "filesystem/upper/usr/bin/dropped2"},
		"root /usr/bin/app":             {Layer: -1, Type: "file", Mode: 0o755, SHA256: hashOf("\x7fELF APP"), Artifact: "filesystem/upper/usr/bin/app"},
		"image /usr/bin/app":            {Layer: 0, Type: "file", Mode: 0o755, SHA256: hashOf("\x7fELF app")},
		"root /usr/bin/tool":            {Layer: -1, Type: "file", Mode: 0o4755, SHA256: hashOf("\x7fELF tool"), Artifact: "filesystem/upper/usr/bin/tool"},
		"image /usr/bin/tool":           {Layer: 0, Type: "file", Mode: 0o755, SHA256: hashOf("\x7fELF tool")},
		"root /lib/libc.so":             {Layer: -1, Type: "whiteout"},
		"image /lib/libc.so":            {Layer: 0, Type: "file", Mode: 0o755, SHA256: hashOf(strings.Repeat("libc", 10_000))},
		"root /opt/gone":                {Layer: -1, Type: "whiteout"},
		"image /opt/gone":               {Layer: 0, Type: "dir", Mode: 0o755},
		"image /opt/gone/b/c":           {Layer: 0, Type: "file", Mode: 0o644, SHA256: hashOf("c")},
		"root /opt/opaque":              {Layer: -1, Type: "dir", Mode: 0o755, Opaque: true},
		"image /opt/opaque/x":           {Layer: 0, Type: "file", Mode: 0o644, SHA256: hashOf("x")},
		"root /opt/opaque/y":            {Layer: -1, Type: "file", Mode: 0o644, SHA256: hashOf("y"), Artifact: "filesystem/upper/opt/opaque/y"},
		"root /opt/swap":                {Layer: -1, Type: "dir", Mode: 0o755, Opaque: true},
		"image /opt/swap":               {Layer: 0, Type: "file", Mode: 0o644, SHA256: hashOf("a file")},
		"root /usr/bin/link":            {Layer: -1, Type: "symlink", Mode: 0o777, Target: "app"},
		"image /usr/bin/link":           {Layer: 0, Type: "symlink", Mode: 0o777, Target: "tool"},
		"both /layered":                 {Layer: 1, Type: "file", Mode: 0o644, SHA256: hashOf("high")},
		"layer /layered 0":              {Layer: 0, Type: "file", Mode: 0o644, SHA256: hashOf("low")},
		"both /etc/config":              {Layer: 1, Type: "file", Mode: 0o644, SHA256: hashOf("new")},
		"root /tmp/\xff\x1b[31m\n\"odd": {Layer: -1, Type: "file", Mode: 0o644, SHA256: hashOf("odd name"), Artifact: `filesystem/upper/tmp/\xff\x1b[31m\x0a"odd`},
		"root /tmp/fifo":                {Layer: -1, Type: "fifo", Mode: 0o600},
		"root /tmp/null":                {Layer: -1, Type: "char", Mode: 0o666},
		"root /tmp/sock":                {Layer: -1, Type: "socket", Mode: 0o600},
		"root /tmp/empty":               {Layer: -1, Type: "file", SHA256: hashOf(""), Artifact: "filesystem/upper/tmp/empty"},
		"root /tmp/sparse":              {Layer: -1, Type: "file", Mode: 0o644, SHA256: hashOf(strings.Repeat("\x00", 5<<20) + "middle" + strings.Repeat("\x00", 15<<20-6)), Artifact: "filesystem/upper/tmp/sparse"},
		"root /app/main":                {Layer: -1, Type: "file", Mode: 0o755, SHA256: hashOf("\x7fELF main"), Artifact: "filesystem/upper/app/main"},
		"both /data":                    {Layer: 0, Type: "dir", Mode: 0o755},
		"root /":                        {Layer: -1, Type: "dir", Mode: 0o755},
		"image /":                       {Layer: 1, Type: "dir", Mode: 0o755},
	} {
		got, ok := all[key]
		if !ok {
			t.Errorf("no row %q", key)
			continue
		}
		if got.Layer != want.Layer || got.Type != want.Type || got.SHA256 != want.SHA256 || got.Target != want.Target ||
			got.Artifact != want.Artifact || got.Opaque != want.Opaque || got.Type != "whiteout" && got.Mode != want.Mode {
			t.Errorf("%q:\n got  %+v\n want %+v", key, got, want)
		}
	}
	if x := all["root /app/main"].Xattrs["security.capability"]; len(x) != 20 {
		t.Errorf("capability of /app/main: %x", x)
	}
	for _, key := range []string{"both /usr/bin/app", "root /opt/opaque/x", "both /opt/opaque/x", "root /data", "layer /etc 0"} {
		if f, ok := all[key]; ok {
			t.Errorf("row %q should not be: %+v", key, f)
		}
	}
	if f := all["root /usr/bin/dropped"]; f.Btime == 0 || f.Ctime == 0 || f.Mtime != 1_600_000_001_123_456_789 || string(f.Magic) != "\x7fELF evi" {
		t.Errorf("times or magic: %+v", f)
	}
	if p.Coverage().Collected["filesystem"] != "complete" {
		t.Errorf("coverage %+v", p.Coverage())
	}
}

// TestCopies: drivers that copy whole trees give the same answers, from a comparison.
func TestCopies(t *testing.T) {
	r := overlay(t, "")
	base := t.TempDir()
	var layers []string
	for i := range r.layers {
		dir := base + "/" + string(rune('0'+i))
		for _, l := range r.layers[:i+1] {
			check(t, os.MkdirAll(dir, 0o755))
			run(t, "cp", "-a", l+"/.", dir)
		}
		layers = append(layers, dir)
	}
	merged := base + "/merged"
	run(t, "cp", "-a", layers[1], merged)
	// What overlayfs marks, a copy simply lacks.
	tamper(t, merged)
	c := r.container()
	c.Rootfs.Driver, c.Rootfs.Upper, c.Rootfs.Merged = "native", "", merged
	for i := range c.Rootfs.Layers {
		c.Rootfs.Layers[i].Dir, c.Rootfs.Layers[i].Whole = layers[i], true
	}
	forget(t, merged, layers[0], layers[1])
	before := state(t, merged, layers[0], layers[1])
	p, _ := capture(t, c, Options{})
	unchanged(t, before, state(t, merged, layers[0], layers[1]))
	if c := complaints(p); len(c) > 0 {
		t.Errorf("complaints: %q", c)
	}
	all := rows(t, p, false)
	for key, want := range map[string]record.File{
		"both /etc/config":      {Layer: 1, SHA256: hashOf("new")},
		"both /layered":         {Layer: 1, SHA256: hashOf("high")},
		"layer /layered 0":      {Layer: 0, SHA256: hashOf("low")},
		"image /lib/libc.so":    {Layer: 1, SHA256: hashOf(strings.Repeat("libc", 10_000))},
		"root /usr/bin/dropped": {Layer: -1, SHA256: hashOf(evil), Artifact: "filesystem/upper/usr/bin/dropped"},
		"root /usr/bin/app":     {Layer: -1, SHA256: hashOf("\x7fELF APP"), Artifact: "filesystem/upper/usr/bin/app"},
		"root /usr/bin/tool":    {Layer: -1, SHA256: hashOf("\x7fELF tool"), Artifact: "filesystem/upper/usr/bin/tool"},
		"image /usr/bin/app":    {Layer: 1, SHA256: hashOf("\x7fELF app")},
		"image /opt/gone/b/c":   {Layer: 1, SHA256: hashOf("c")},
	} {
		got, ok := all[key]
		if !ok || got.SHA256 != want.SHA256 || got.Artifact != want.Artifact || got.Layer != want.Layer {
			t.Errorf("%q:\n got  %+v\n want %+v", key, got, want)
		}
	}
	if _, ok := p.Artifact("filesystem/upper/etc/config"); ok {
		t.Error("an unchanged file was kept")
	}
}
