package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5" //nolint:gosec // an ETag
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/sherd-forensics/sherd/evidence"
)

// signedStore is an object store on the node's address that takes what was signed with its one secret, as S3 does it:
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
type signedStore struct {
	mu      sync.Mutex
	objects map[string][]byte
}

const storeSecret = "the-secret-of-the-test"

func (s *signedStore) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch r.Method {
	case http.MethodHead:
		b, ok := s.objects[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("ETag", fmt.Sprintf(`"%x"`, md5.Sum(b))) //nolint:gosec // an ETag
		w.Header().Set("Last-Modified", "Sun, 29 Nov 2026 01:00:00 GMT")
		w.Header().Set("Content-Length", fmt.Sprint(len(b)))
	case http.MethodPut:
		if why := wrongSignature(r); why != "" {
			http.Error(w, why, http.StatusForbidden)
			return
		}
		if _, ok := s.objects[r.URL.Path]; ok && r.Header.Get("If-None-Match") == "*" {
			http.Error(w, "PreconditionFailed", http.StatusPreconditionFailed)
			return
		}
		b, err := io.ReadAll(r.Body)
		if err != nil || int64(len(b)) != r.ContentLength {
			http.Error(w, "IncompleteBody", http.StatusBadRequest)
			return
		}
		s.objects[r.URL.Path] = b
		w.Header().Set("ETag", fmt.Sprintf(`"%x"`, md5.Sum(b))) //nolint:gosec // an ETag
	default:
		http.Error(w, "MethodNotAllowed", http.StatusMethodNotAllowed)
	}
}

func wrongSignature(r *http.Request) string {
	q := r.URL.Query()
	given := q.Get("X-Amz-Signature")
	q.Del("X-Amz-Signature")
	scope := strings.SplitN(q.Get("X-Amz-Credential"), "/", 2)
	if len(scope) != 2 {
		return "no credential"
	}
	headers := ""
	for _, h := range strings.Split(q.Get("X-Amz-SignedHeaders"), ";") {
		v := r.Header.Get(h)
		if h == "host" {
			v = r.Host
		}
		headers += h + ":" + v + "\n"
	}
	canonical := strings.Join([]string{r.Method, (&url.URL{Path: r.URL.Path}).EscapedPath(), strings.ReplaceAll(q.Encode(), "+", "%20"), headers, q.Get("X-Amz-SignedHeaders"), "UNSIGNED-PAYLOAD"}, "\n")
	sum := sha256.Sum256([]byte(canonical))
	text := strings.Join([]string{"AWS4-HMAC-SHA256", q.Get("X-Amz-Date"), scope[1], hex.EncodeToString(sum[:])}, "\n")
	key := []byte("AWS4" + storeSecret)
	for _, part := range append(strings.Split(scope[1], "/"), text) {
		m := hmac.New(sha256.New, key)
		m.Write([]byte(part))
		key = m.Sum(nil)
	}
	if hex.EncodeToString(key) != given {
		return "SignatureDoesNotMatch"
	}
	return ""
}

// TestLiveClusterUpload sends packages from the node to an object store, and has the nodes tell which containers are distroless.
func TestLiveClusterUpload(t *testing.T) {
	s := openShop(t, podNamed("cart", "")+podNamed("other", ""))
	s.isReady(t, "cart", "other")
	before := s.objects(t)
	target := "k8s://" + s.namespace + "/cart/app"
	store := &signedStore{objects: map[string][]byte{}}
	l, err := net.Listen("tcp", net.JoinHostPort(s.l.NodeAddress(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(store)
	server.Listener = l
	server.Start()
	defer server.Close()
	t.Setenv("AWS_ACCESS_KEY_ID", "kira")
	t.Setenv("AWS_SECRET_ACCESS_KEY", storeSecret)
	t.Setenv("AWS_ENDPOINT_URL", server.URL)
	receipts := t.TempDir()
	upload := func(args ...string) (int, string) {
		status, _, errOut := s.sherd(t, append([]string{"collect"}, args...)...)
		return status, errOut
	}
	t.Run("one", func(t *testing.T) {
		at := filepath.Join(receipts, "cart.sherd")
		if status, errOut := upload(target, "--upload", "s3://case7/cart.sherd", "-o", at); status != 0 {
			t.Fatalf("ended with %d: %s", status, errOut)
		}
		b := store.objects["/case7/cart.sherd"]
		// Fetched from the store, the package is whole, and its custody begins with the receipt.
		if err := os.WriteFile(at, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if status, _, errOut := sherd(t, s.l, "verify", at); status != 0 {
			t.Error(errOut)
		}
		log, err := evidence.ReadCustody(at)
		if err != nil || len(log) == 0 || log[0].Action != "uploaded" || log[0].SHA256 != fmt.Sprintf("%x", sha256.Sum256(b)) || len(log[0].Sig) == 0 ||
			!strings.Contains(log[0].Note, "to s3://case7/cart.sherd, signed by the collector's key") || strings.Contains(log[0].Note, "Signature") {
			t.Errorf("%v: %+v", err, log)
		}
		if bytes.Contains(b, []byte(storeSecret)) {
			t.Error("the secret is in the package")
		}
	})
	t.Run("there", func(t *testing.T) {
		if status, errOut := upload(target, "--upload", "s3://case7/cart.sherd", "-o", filepath.Join(receipts, "again.sherd")); status != 1 || !strings.Contains(errOut, "PreconditionFailed") {
			t.Errorf("status %d; an object is overwritten: %s", status, errOut)
		}
	})
	t.Run("several", func(t *testing.T) {
		if status, errOut := upload("-n", s.namespace, "--upload", "s3://case7/all/", "-o", receipts); status != 0 {
			t.Errorf("ended with %d: %s", status, errOut)
		}
		n := 0
		for name := range store.objects {
			if strings.HasPrefix(name, "/case7/all/") {
				n++
			}
		}
		if got, _ := filepath.Glob(receipts + "/shop-*.custody.jsonl"); n != 2 || len(got) != 2 {
			t.Errorf("%d objects and %d receipts", n, len(got))
		}
		if status, errOut := upload("-n", s.namespace, "--upload", "s3://case7/one"); status != 2 || !strings.Contains(errOut, "names one object") {
			t.Errorf("status %d: %s", status, errOut)
		}
	})
	t.Run("distroless", func(t *testing.T) {
		status, out, _ := s.sherd(t, "targets", "-n", s.namespace, "--inspect", "--collector-image", s.collector, "--json")
		var doc struct {
			Containers []struct {
				Pod        string
				Distroless *struct {
					Distroless *bool
					Reason     string
				}
			}
		}
		if err := json.Unmarshal([]byte(out), &doc); status != 0 || err != nil || len(doc.Containers) != 2 {
			t.Fatalf("status %d, %v, %d containers", status, err, len(doc.Containers))
		}
		for _, c := range doc.Containers {
			if d := c.Distroless; d == nil || d.Distroless == nil || !*d.Distroless || !strings.Contains(d.Reason, "no shell") {
				t.Errorf("%s: %+v", c.Pod, d)
			}
		}
		if status, out, _ := s.sherd(t, "targets", "-n", s.namespace, "--inspect", "--collector-image", s.collector); status != 0 || !strings.Contains(out, "yes: no shell") {
			t.Errorf("status %d", status)
		}
	})
	s.same(t, before)
}
