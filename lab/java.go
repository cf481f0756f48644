package lab

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// javaRelease is the version of Java that the lab's image has.
const javaRelease = "17"

// archived is one file of a Java archive.
type archived struct {
	name string
	data []byte
}

// compileJava compiles all sources in Java below a directory to classes, in the order of their names.
func (l *Lab) compileJava(ctx context.Context, dir string) ([]archived, error) {
	var sources []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(p, ".java") {
			sources = append(sources, p)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	out, err := os.MkdirTemp("", "classes")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(out)
	args := slices.Concat([]string{"javac", "--release", javaRelease, "-proc:none", "-g:none", "-nowarn", "-encoding", "UTF-8", "-d", out}, sources)
	if _, err := command(ctx, args...); err != nil {
		return nil, err
	}
	var classes []archived
	err = filepath.WalkDir(out, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		classes = append(classes, archived{filepath.ToSlash(strings.TrimPrefix(p, out+"/")), b})
		return err
	})
	if err == nil && len(classes) == 0 {
		err = fmt.Errorf("%s holds no source in Java", dir)
	}
	return classes, err
}

// archive makes a Java archive: the same files give the same bytes. Manifest has the lines of its manifest, "Main-Class: shop.Server".
func archive(files []archived, manifest ...string) ([]byte, error) {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	text := "Manifest-Version: 1.0\r\n" + strings.Join(manifest, "\r\n") + "\r\n\r\n"
	for _, f := range slices.Concat([]archived{{"META-INF/MANIFEST.MF", []byte(text)}}, files) {
		e, err := w.CreateHeader(&zip.FileHeader{Name: f.name, Method: zip.Deflate})
		if err != nil {
			return nil, err
		}
		if _, err := e.Write(f.data); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return b.Bytes(), err
}

// javaProgram compiles one of the lab's own victims to an archive, with other files beside its classes. An archive of the same sources is
// not made twice.
func (l *Lab) javaProgram(ctx context.Context, name string, more []archived, manifest ...string) ([]byte, error) {
	src, err := source()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(src, "victims", name)
	sum := sha256.New()
	fmt.Fprintln(sum, javaRelease, manifest)
	for _, f := range more {
		fmt.Fprintln(sum, f.name, len(f.data))
		sum.Write(f.data)
	}
	err = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		fmt.Fprintln(sum, p, len(b))
		sum.Write(b)
		return err
	})
	if err != nil {
		return nil, err
	}
	kept := filepath.Join(l.base, "bin", fmt.Sprintf("%s-%x.jar", name, sum.Sum(nil)[:8]))
	if b, err := os.ReadFile(kept); err == nil {
		return b, nil
	}
	classes, err := l.compileJava(ctx, dir)
	if err != nil {
		return nil, err
	}
	b, err := archive(append(classes, more...), manifest...)
	if err != nil {
		return nil, err
	}
	// Written whole or not at all: the next reads it.
	if err := os.MkdirAll(filepath.Dir(kept), 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(kept+".new", b, 0o644); err != nil {
		return nil, err
	}
	return b, os.Rename(kept+".new", kept)
}

// plugin compiles a source in Java of a scenario to the archive that the victim takes as a plug-in. $IMPLANT and $HOOK in the source
// become names of files in the archive, $HOST and $PORT the listener's.
func (b *intrusion) plugin(ctx context.Context, file string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(b.c2.Addr)
	if err != nil {
		return nil, err
	}
	code := strings.NewReplacer("$HOST", host, "$PORT", port).Replace(string(text))
	var more []archived
	if strings.Contains(code, "$IMPLANT") {
		bin, err := b.implant(ctx)
		if err != nil {
			return nil, err
		}
		more = append(more, archived{"implant", bin})
	}
	if strings.Contains(code, "$HOOK") {
		lib, err := b.lab.hook(ctx)
		if err != nil {
			return nil, err
		}
		b.truth.SHA256 = digest(lib)
		more = append(more, archived{"hook", lib})
	}
	code = strings.NewReplacer("$IMPLANT", "implant", "$HOOK", "hook").Replace(code)
	dir, err := os.MkdirTemp("", "plugin")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, filepath.Base(file)), []byte(code), 0o600); err != nil {
		return nil, err
	}
	classes, err := b.lab.compileJava(ctx, dir)
	if err != nil {
		return nil, err
	}
	return archive(append(classes, more...), "Main-Class: "+strings.TrimSuffix(filepath.Base(file), ".java"))
}
