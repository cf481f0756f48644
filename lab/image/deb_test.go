package image

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/sherd-forensics/sherd/internal/testenv"
)

// A cache whose version the archive no longer holds is settled anew.
func TestPackageMovedOn(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "apt-get", "dpkg-deb")
	dir := t.TempDir()
	old, err := json.Marshal(map[string]string{"netbase": "0.0-gone"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "versions.json"), old, 0o644); err != nil {
		t.Fatal(err)
	}
	p := &Packages{Dir: dir, Say: t.Logf}
	files, err := p.fetch(context.Background(), []string{"netbase"})
	if err != nil {
		t.Fatal(err)
	}
	_, name, version, err := debLayer(context.Background(), files[0])
	if err != nil || name != "netbase" || version == "" || version == "0.0-gone" {
		t.Errorf("got %q %q, %v", name, version, err)
	}
}
