package evidence

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"filippo.io/age"
	attest "github.com/in-toto/attestation/go/v1"
	"golang.org/x/crypto/ssh"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sherd-forensics/sherd/internal/testenv"
)

func TestKeyMadeOnce(t *testing.T) {
	isolate(t)
	path := DefaultKeyPath()
	var wg sync.WaitGroup
	ids := make([]string, 8)
	for i := range ids {
		wg.Go(func() {
			k, err := LoadOrCreateKey(path)
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = k.ID()
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] || !strings.HasPrefix(id, "SHA256:") {
			t.Fatalf("several keys were made: %q", ids)
		}
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", st.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".key-*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	k := must[*Key](t)(LoadKey(path))
	if !strings.Contains(k.Name, "@") || k.Ephemeral {
		t.Errorf("%+v", k)
	}
	trusted := must[[]PublicKey](t)(LoadTrusted(nil))
	if len(trusted) != 1 || trusted[0].ID() != k.ID() {
		t.Errorf("trusted %v", trusted)
	}
	other := must[*Key](t)(NewKey("kira@acme"))
	if err := os.MkdirAll(trustedDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	pub := filepath.Join(trustedDir(), "kira.pub")
	if err := os.WriteFile(pub, must[[]byte](t)(other.PublicPEM()), 0o600); err != nil {
		t.Fatal(err)
	}
	if trusted = must[[]PublicKey](t)(LoadTrusted(nil)); len(trusted) != 2 || trusted[1].Name != "kira@acme" {
		t.Errorf("trusted %v", trusted)
	}
	if trusted = must[[]PublicKey](t)(LoadTrusted([]string{pub})); len(trusted) != 1 || trusted[0].ID() != other.ID() {
		t.Errorf("trusted %v", trusted)
	}
	if trusted = must[[]PublicKey](t)(LoadTrusted([]string{path})); len(trusted) != 1 || trusted[0].ID() != k.ID() {
		t.Errorf("a private key's file stands for its public half: %v", trusted)
	}
	if _, err := LoadTrusted([]string{"nowhere.pub"}); err == nil {
		t.Error("a key that is not there is trusted")
	}
}

func TestKeyPlaceNotWritable(t *testing.T) {
	isolate(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// Below a file nothing can be made, not even by root. That it is no folder must not pass for "no key yet".
	if k, err := LoadOrCreateKey(filepath.Join(file, "sherd", "key")); err == nil && !k.Ephemeral {
		t.Errorf("a key was kept below a file: %+v", k)
	}
	if k := must[*Key](t)(LoadOrCreateKey("/proc/nowhere/key")); !k.Ephemeral {
		t.Errorf("%+v", k)
	}
}

func TestBadKeys(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"garbage": "garbage", "empty": "", "cut": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
		"large": strings.Repeat("x", maxKeyFile+1),
	} {
		path := filepath.Join(dir, name+".key")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadOrCreateKey(path); err == nil || !strings.Contains(err.Error(), name+".key") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := LoadPublicKey(path); err == nil || !strings.Contains(err.Error(), name+".key") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOpenSSLKey signs with a key that openssl made, and has openssl read ours.
func TestOpenSSLKey(t *testing.T) {
	testenv.NeedTool(t, "openssl")
	isolate(t)
	path := filepath.Join(t.TempDir(), "k.pem")
	run(t, "openssl", "genpkey", "-algorithm", "ed25519", "-out", path)
	k := must[*Key](t)(LoadKey(path))
	c := exec.Command("openssl", "pkey", "-pubin", "-text", "-noout")
	c.Stdin = bytes.NewReader(must[[]byte](t)(k.PublicPEM()))
	if out, err := c.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("ED25519")) {
		t.Errorf("%s %v", out, err)
	}
}

// TestStatementIsInToto holds the statement against in-toto's own types.
func TestStatementIsInToto(t *testing.T) {
	isolate(t)
	b := small(t, WriterOptions{Tool: "test"})
	at := frameBounds(t, b)
	sig := b[at[len(at)-3]+skipHeader : at[len(at)-2]]
	st := must[*Statement](t)(parseSignature(sig))
	_, payload, ok := bytes.Cut(sig, []byte(`"payload":"`))
	if !ok {
		t.Fatalf("%s", sig)
	}
	payload, _, _ = bytes.Cut(payload, []byte(`"`))
	body := must[[]byte](t)(strictBase64(string(payload)))
	var theirs attest.Statement
	if err := protojson.Unmarshal(body, &theirs); err != nil {
		t.Fatalf("%v\n%s", err, body)
	}
	if err := theirs.Validate(); err != nil {
		t.Error(err)
	}
	if theirs.GetPredicate().GetFields()["id"].GetStringValue() != st.Predicate.ID || theirs.GetSubject()[0].GetDigest()["sha256"] != st.Subject[0].Digest.SHA256 {
		t.Errorf("%v", &theirs)
	}
}

func TestRecipientsAndIdentities(t *testing.T) {
	isolate(t)
	dir := t.TempDir()
	x := must[*age.X25519Identity](t)(age.GenerateX25519Identity())
	h := must[*age.HybridIdentity](t)(age.GenerateHybridIdentity())
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sshPub := must[ssh.PublicKey](t)(ssh.NewPublicKey(pub))
	block := must[*pem.Block](t)(ssh.MarshalPrivateKey(priv, "kira"))
	write := func(name, s string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	sshKey := write("id_ed25519", string(pem.EncodeToMemory(block)))
	ageKey := write("age.key", "# created\n"+x.String()+"\n"+h.String()+"\n")
	list := write("recipients", "# ours\n\n"+x.Recipient().String()+"\n"+string(ssh.MarshalAuthorizedKey(sshPub)))

	for name, c := range map[string]struct {
		to   []string
		with string
	}{
		"age": {[]string{x.Recipient().String()}, ageKey}, "post-quantum": {[]string{h.Recipient().String()}, ageKey},
		"ssh": {[]string{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(sshPub)))}, sshKey}, "file": {[]string{list}, sshKey},
	} {
		t.Run(name, func(t *testing.T) {
			rs := must[[]age.Recipient](t)(ParseRecipients(c.to))
			path, s := build(t, WriterOptions{Recipients: rs}, variety(t))
			raw := must[[]byte](t)(os.ReadFile(path))
			if bytes.Contains(raw, []byte("kira@acme")) {
				t.Error("the signer's name stands in the clear")
			}
			ids := must[[]age.Identity](t)(LoadIdentities([]string{c.with}))
			p := must[*Package](t)(Open(path, OpenOptions{Identities: ids}))
			defer p.Close()
			if b := must[[]byte](t)(p.ReadFile("process/1/core", 1<<30)); !bytes.Equal(b, noise(1, 3<<20+17)) {
				t.Error("not what was sealed")
			}
			o := trustTest()
			o.Identities = ids
			r, err := Verify(t.Context(), path, o)
			if err != nil || r.SHA256 != s.SHA256 || !r.Encrypted || p.SHA256() != s.SHA256 {
				t.Errorf("%v %+v", err, r)
			}
		})
	}
	for _, bad := range []string{"age1nonsense", "ssh-ed25519 nonsense", x.String(), filepath.Join(dir, "none"), write("empty", "#\n"), write("bad", "nonsense\n")} {
		if _, err := ParseRecipients([]string{bad}); err == nil {
			t.Errorf("%q is taken for a recipient", bad)
		} else if strings.Contains(err.Error(), x.String()) {
			t.Errorf("the error gives a private key away: %v", err)
		}
	}
	for _, bad := range []string{filepath.Join(dir, "none"), write("bad2", "nonsense\n")} {
		if _, err := LoadIdentities([]string{bad}); err == nil {
			t.Errorf("%q is taken for an identity", bad)
		}
	}
}
