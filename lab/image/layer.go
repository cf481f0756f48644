package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"time"
)

// Epoch is the time of every file that the lab itself adds to an image, and the base of the images' created
// times: fixed, so that the same inputs give the same digests.
var Epoch = time.Date(2026, 9, 1, 6, 0, 0, 0, time.UTC)

// File is one file, directory or symlink of a layer.
type File struct {
	Path string // absolute
	Mode int64  // permission bits, setuid and sticky included
	UID  int
	Data []byte
	Dir  bool
	Link string
}

// files makes a layer's tar of files, with the directories above them.
func files(list []File) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	seen := map[string]bool{".": true}
	for _, f := range list {
		name := strings.TrimPrefix(path.Clean(f.Path), "/")
		if err := parents(w, name, seen, Epoch); err != nil {
			return nil, err
		}
		h := &tar.Header{Name: name, Mode: f.Mode, Uid: f.UID, Gid: f.UID, ModTime: Epoch, Format: tar.FormatPAX, Typeflag: tar.TypeReg, Size: int64(len(f.Data))}
		switch {
		case f.Dir:
			if seen[name] {
				return nil, fmt.Errorf("directory %s comes after what is in it", f.Path)
			}
			seen[name] = true
			h.Typeflag, h.Name = tar.TypeDir, name+"/"
		case f.Link != "":
			h.Typeflag, h.Linkname = tar.TypeSymlink, f.Link
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.Data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

func parents(w *tar.Writer, name string, seen map[string]bool, when time.Time) error {
	var up []string
	for d := path.Dir(name); !seen[d]; d = path.Dir(d) {
		seen[d] = true
		up = append(up, d)
	}
	slices.Reverse(up)
	for _, d := range up {
		h := &tar.Header{Typeflag: tar.TypeDir, Name: d + "/", Mode: 0o755, ModTime: when, Format: tar.FormatPAX}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
	}
	return nil
}

// debLayer turns a Debian package into a layer: its files without manuals, and the control file under
// /var/lib/dpkg/status.d, by which scanners know what a distroless image holds. CA certificates are also put
// together into the bundle that programs read, which Debian does when the package is configured.
func debLayer(ctx context.Context, deb string) (layer []byte, name, version string, err error) {
	control, err := exec.CommandContext(ctx, "dpkg-deb", "--field", deb).Output()
	if err != nil {
		return nil, "", "", fmt.Errorf("dpkg-deb --field %s: %w", deb, err)
	}
	name, version = field(control, "Package"), field(control, "Version")
	if name == "" || strings.ContainsAny(name, "/ ") {
		return nil, "", "", fmt.Errorf("%s: no usable package name in its control file", deb)
	}
	sums, err := exec.CommandContext(ctx, "dpkg-deb", "--info", deb, "md5sums").Output()
	if err != nil {
		return nil, "", "", fmt.Errorf("dpkg-deb --info %s md5sums: %w", deb, err)
	}
	data, err := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb).Output()
	if err != nil {
		return nil, "", "", fmt.Errorf("dpkg-deb --fsys-tarfile %s: %w", deb, err)
	}
	var buf, bundle bytes.Buffer
	w := tar.NewWriter(&buf)
	seen := map[string]bool{".": true}
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, "", "", fmt.Errorf("%s: %w", deb, err)
		}
		clean := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		if clean == "" || !wanted(clean) || h.Typeflag == tar.TypeDir && seen[clean] {
			continue
		}
		content, err := io.ReadAll(r)
		if err != nil {
			return nil, "", "", fmt.Errorf("%s: %s: %w", deb, clean, err)
		}
		if err := parents(w, clean, seen, h.ModTime); err != nil {
			return nil, "", "", err
		}
		h.Name, h.Format = clean, tar.FormatPAX
		if h.Typeflag == tar.TypeDir {
			seen[clean] = true
			h.Name += "/"
		}
		if h.Typeflag == tar.TypeLink {
			h.Linkname = strings.TrimPrefix(path.Clean("/"+h.Linkname), "/")
		}
		h.Uname, h.Gname = "", ""
		if err := w.WriteHeader(h); err != nil {
			return nil, "", "", err
		}
		if _, err := w.Write(content); err != nil {
			return nil, "", "", err
		}
		if name == "ca-certificates" && strings.HasSuffix(clean, ".crt") {
			bundle.Write(bytes.TrimSpace(content))
			bundle.WriteByte('\n')
		}
	}
	extra := []File{
		{Path: "/var/lib/dpkg/status.d/" + name, Mode: 0o644, Data: control},
		{Path: "/var/lib/dpkg/status.d/" + name + ".md5sums", Mode: 0o644, Data: sums},
	}
	if bundle.Len() > 0 {
		extra = append(extra, File{Path: "/etc/ssl/certs/ca-certificates.crt", Mode: 0o644, Data: bundle.Bytes()})
	}
	for _, f := range extra {
		if err := parents(w, f.Path[1:], seen, Epoch); err != nil {
			return nil, "", "", err
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.Path[1:], Mode: f.Mode, Size: int64(len(f.Data)), ModTime: Epoch, Format: tar.FormatPAX}
		if err := w.WriteHeader(h); err != nil {
			return nil, "", "", err
		}
		if _, err := w.Write(f.Data); err != nil {
			return nil, "", "", err
		}
	}
	return buf.Bytes(), name, version, w.Close()
}

// wanted leaves out what distroless images leave out: manuals, change logs and packaging helpers, but not the
// copyright files that licences ask for.
func wanted(name string) bool {
	if strings.HasPrefix(name, "usr/share/doc/") {
		rest := strings.Split(strings.TrimPrefix(name, "usr/share/doc/"), "/")
		return len(rest) == 1 || len(rest) == 2 && rest[1] == "copyright"
	}
	for _, drop := range []string{"usr/share/man", "usr/share/lintian", "usr/share/info", "usr/share/bug", "usr/share/locale", "usr/share/zsh",
		"usr/share/bash-completion", "usr/share/gdb", "usr/sbin/update-ca-certificates", "etc/ca-certificates", "usr/share/python3"} {
		if name == drop || strings.HasPrefix(name, drop+"/") {
			return false
		}
	}
	return true
}

// field is one field of a Debian control file.
func field(control []byte, key string) string {
	for line := range strings.Lines(string(control)) {
		if v, ok := strings.CutPrefix(line, key+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
