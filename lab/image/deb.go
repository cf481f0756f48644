package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Packages fetches Debian packages through apt and keeps them. The versions are settled once for a cache and
// kept in a file, so that an image stays the same until the cache goes.
type Packages struct {
	Dir  string               // where packages and versions.json are kept
	Say  func(string, ...any) // progress
	vers map[string]string
}

// Version settles the version of each named package.
func (p *Packages) versions(ctx context.Context, names []string) error {
	if err := os.MkdirAll(p.Dir, 0o755); err != nil {
		return err
	}
	file := filepath.Join(p.Dir, "versions.json")
	if p.vers == nil {
		p.vers = map[string]string{}
		if b, err := os.ReadFile(file); err == nil {
			if err := json.Unmarshal(b, &p.vers); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	var unknown []string
	for _, n := range names {
		if p.vers[n] == "" {
			unknown = append(unknown, n)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	found, err := madison(ctx, unknown)
	if err != nil || len(found) < len(unknown) {
		// A fresh machine's lists are empty or old.
		uerr := p.update(ctx)
		if found, err = madison(ctx, unknown); err != nil {
			return errors.Join(uerr, err)
		}
		if len(found) < len(unknown) && uerr != nil {
			return uerr
		}
	}
	for _, n := range unknown {
		if found[n] == "" {
			return fmt.Errorf("apt knows no package %s: the lab's images are made of Debian 12's packages", n)
		}
		p.vers[n] = found[n]
	}
	b, err := json.MarshalIndent(p.vers, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}

// update has apt fetch its lists. One bad source of several is an error of apt's, but need not matter here.
func (p *Packages) update(ctx context.Context) error {
	p.Say("apt-get update")
	if out, err := exec.CommandContext(ctx, "apt-get", "update", "-qq").CombinedOutput(); err != nil {
		return fmt.Errorf("apt-get update: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// madison asks apt for the newest version of each package in Debian's own archives; other sources on the
// machine (a vendor's build of Node) would change what the image is.
func madison(ctx context.Context, names []string) (map[string]string, error) {
	out, err := exec.CommandContext(ctx, "apt-cache", append([]string{"madison"}, names...)...).Output()
	if err != nil {
		return nil, fmt.Errorf("apt-cache madison: %w", err)
	}
	found := map[string]string{}
	for line := range strings.Lines(string(out)) {
		f := strings.Split(line, "|")
		if len(f) != 3 || !strings.Contains(f[2], "Packages") || strings.Contains(f[2], "nodesource") {
			continue
		}
		name, version := strings.TrimSpace(f[0]), strings.TrimSpace(f[1])
		if found[name] == "" {
			found[name] = version
		}
	}
	return found, nil
}

// fetch returns the files of the packages, in the order asked for.
func (p *Packages) fetch(ctx context.Context, names []string) ([]string, error) {
	if err := p.versions(ctx, names); err != nil {
		return nil, err
	}
	if err := p.download(ctx, names); err != nil {
		// The archive has moved on since apt's lists were fetched: settle the versions anew, once.
		if uerr := p.update(ctx); uerr != nil {
			return nil, errors.Join(err, uerr)
		}
		for _, n := range names {
			delete(p.vers, n)
		}
		if err := p.versions(ctx, names); err != nil {
			return nil, err
		}
		if err := p.download(ctx, names); err != nil {
			return nil, err
		}
	}
	var files []string
	for _, n := range names {
		f := p.file(n)
		if f == "" {
			return nil, fmt.Errorf("apt-get download left no file for %s %s in %s", n, p.vers[n], p.Dir)
		}
		files = append(files, f)
	}
	return files, nil
}

// download fetches those of the packages that are not in the cache.
func (p *Packages) download(ctx context.Context, names []string) error {
	var missing []string
	for _, n := range names {
		if p.file(n) == "" {
			missing = append(missing, n+"="+p.vers[n])
		}
	}
	if len(missing) == 0 {
		return nil
	}
	began := time.Now()
	cmd := exec.CommandContext(ctx, "apt-get", append([]string{"download", "-qq", "-o", "APT::Sandbox::User=root"}, missing...)...)
	cmd.Dir = p.Dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("apt-get download %s: %w: %s", strings.Join(missing, " "), err, bytes.TrimSpace(out))
	}
	p.Say("fetched %d Debian packages in %.1f s", len(missing), time.Since(began).Seconds())
	return nil
}

// file is the package's file in the cache, "" if it is not there. apt writes an epoch's colon as %3a.
func (p *Packages) file(name string) string {
	found, _ := filepath.Glob(filepath.Join(p.Dir, name+"_"+strings.ReplaceAll(p.vers[name], ":", "%3a")+"_*.deb"))
	slices.Sort(found)
	if len(found) == 0 {
		return ""
	}
	return found[0]
}
