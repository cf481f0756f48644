package relay

import (
	"bytes"
	"crypto/md5" //nolint:gosec // an ETag
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// store is an object store that behaves as told.
func store(t *testing.T, tls bool, answer func(try int, body []byte, w http.ResponseWriter)) (*httptest.Server, *atomic.Int32) {
	t.Helper()
	var tries atomic.Int32
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := int(tries.Add(1))
		b, err := io.ReadAll(r.Body)
		if err != nil || r.Method != http.MethodPut || r.ContentLength != int64(len(b)) || r.Header.Get("X-Signed") != "yes" {
			http.Error(w, "not as it was signed", http.StatusForbidden)
			return
		}
		answer(n, b, w)
	})
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = nil
	if tls {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s, &tries
}

func TestUpload(t *testing.T) {
	want := content(1<<20 + 3)
	s := &Server{Capture: pieces(want, nil), Uploads: &Uploader{Pause: time.Millisecond}}
	socket := serve(t, s)
	job := 0
	send := func(u *Upload) (*Result, string, error) {
		job++
		u.Headers = map[string]string{"X-Signed": "yes"}
		var came bytes.Buffer
		var stages []string
		res, err := ask(t, socket, &Request{Job: fmt.Sprint("u", job), Upload: u}, -1, &came, func(s string) { stages = append(stages, s) })
		if came.Len() > 0 {
			t.Errorf("%d bytes came here as well", came.Len())
		}
		return res, strings.Join(stages, "\n"), err
	}
	good := func(_ int, b []byte, w http.ResponseWriter) {
		if !bytes.Equal(b, want) {
			http.Error(w, "other bytes", http.StatusBadRequest)
			return
		}
		w.Header().Set("ETag", fmt.Sprintf(`"%x"`, md5.Sum(b))) //nolint:gosec // an ETag
	}
	t.Run("plain", func(t *testing.T) {
		at, _ := store(t, false, good)
		if res, _, err := send(&Upload{URL: at.URL + "/b/k?X-Amz-Signature=secret"}); err != nil || !res.Uploaded || res.Size != int64(len(want)) {
			t.Fatalf("%+v, %v", res, err)
		}
	})
	t.Run("certificate", func(t *testing.T) {
		at, _ := store(t, true, good)
		if _, _, err := send(&Upload{URL: at.URL + "/b/k?X-Amz-Signature=secret"}); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("a certificate of nobody's: %v", err)
		}
		ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: at.Certificate().Raw})
		if res, _, err := send(&Upload{URL: at.URL + "/b/k", CA: ca}); err != nil || !res.Uploaded {
			t.Errorf("%+v, %v", res, err)
		}
	})
	t.Run("again", func(t *testing.T) {
		at, tries := store(t, false, func(n int, b []byte, w http.ResponseWriter) {
			switch n {
			case 1:
				http.Error(w, "slow down", http.StatusServiceUnavailable)
			case 2:
				w.Header().Set("ETag", `"00000000000000000000000000000000"`) // it stored something else
			default:
				good(n, b, w)
			}
		})
		if res, stages, err := send(&Upload{URL: at.URL}); err != nil || !res.Uploaded || tries.Load() != 3 || !strings.Contains(stages, "slow down") || !strings.Contains(stages, "other bytes") {
			t.Errorf("%+v, %v after %d tries:\n%s", res, err, tries.Load(), stages)
		}
	})
	t.Run("refused", func(t *testing.T) {
		at, tries := store(t, false, func(_ int, _ []byte, w http.ResponseWriter) {
			http.Error(w, "Request has expired", http.StatusForbidden)
		})
		if _, _, err := send(&Upload{URL: at.URL}); err == nil || !strings.Contains(err.Error(), "Request has expired") || tries.Load() != 1 {
			t.Errorf("%v after %d tries", err, tries.Load())
		}
	})
	t.Run("elsewhere", func(t *testing.T) {
		at, _ := store(t, false, func(_ int, _ []byte, w http.ResponseWriter) {
			w.Header().Set("Location", "http://127.0.0.1:1/")
			w.WriteHeader(http.StatusTemporaryRedirect)
		})
		if _, _, err := send(&Upload{URL: at.URL}); err == nil || !strings.Contains(err.Error(), "307") {
			t.Errorf("a redirection is followed: %v", err)
		}
	})
	t.Run("address", func(t *testing.T) {
		if _, _, err := send(&Upload{URL: "file:///etc/passwd"}); err == nil || !strings.Contains(err.Error(), "http") {
			t.Error(err)
		}
	})
}
