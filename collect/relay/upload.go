package relay

import (
	"context"
	"crypto/md5" //nolint:gosec // what S3 calls an ETag; the package has its SHA-256
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"crypto/tls"
)

// Upload says where a package goes from the node: to an address that takes it by one PUT, such as one that an object store's owner signed
// in advance.
type Upload struct {
	URL string `json:"url"`
	// Headers are those that the address was signed with.
	Headers map[string]string `json:"headers,omitempty"`
	// CA are certificates that the address is trusted by beside the node's own, PEM.
	CA []byte `json:"ca,omitempty"`
}

// Check says what is wrong with the address.
func (u *Upload) Check() error {
	a, err := url.Parse(u.URL)
	if err != nil {
		return errors.New("the address of the upload can't be read") // the error would show what was signed
	}
	if a.Scheme != "https" && a.Scheme != "http" || a.Host == "" {
		return fmt.Errorf("the address of the upload begins with https:// or http://, not %q", a.Scheme)
	}
	return nil
}

// Uploader sends packages elsewhere.
type Uploader struct {
	// Roots are files of certificates by which addresses are trusted; the first that is there counts.
	Roots []string
	// Pause is the one before the second try, which doubles; 0 is a second.
	Pause time.Duration
}

// uploads is how often a package is sent.
const uploads = 6

// maxPut is what object stores take in one piece.
const maxPut = 5 << 30

// refusedError is an answer that asking again does not change.
type refusedError struct{ error }

// put sends the package at path. That it came whole is seen from the answer where the store gives an MD5 sum.
func (u *Uploader) put(ctx context.Context, to *Upload, path string, res *Result, stage func(string)) error {
	if err := to.Check(); err != nil {
		return err
	}
	if res.Size > maxPut {
		return fmt.Errorf("the package has %d MiB, and an object store takes at most %d in one piece: fetch it through the API server, without --upload", res.Size>>20, maxPut>>20)
	}
	client, err := u.client(to)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	wait := u.Pause
	if wait == 0 {
		wait = time.Second
	}
	for try := 1; ; try++ {
		stage(fmt.Sprintf("uploading %d KiB", res.Size>>10))
		var err error
		res.MD5, err = once(ctx, client, to, path, res.Size)
		var final refusedError
		switch {
		case err == nil:
			res.Uploaded = true
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, &final), try == uploads:
			return fmt.Errorf("the package was made, but not taken at its destination: %w", err)
		}
		stage("the upload failed and is tried again: " + err.Error())
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
		wait *= 2
	}
}

func (u *Uploader) client(to *Upload) (*http.Client, error) {
	pool := x509.NewCertPool()
	for _, file := range u.Roots {
		if b, err := os.ReadFile(file); err == nil && pool.AppendCertsFromPEM(b) {
			break
		}
	}
	if len(to.CA) > 0 && !pool.AppendCertsFromPEM(to.CA) {
		return nil, errors.New("the certificates for the upload can't be read")
	}
	// A redirection would take what was signed for one host to another.
	return &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, ResponseHeaderTimeout: 2 * time.Minute, TLSHandshakeTimeout: 20 * time.Second},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

func once(ctx context.Context, client *http.Client, to *Upload, path string, size int64) (md5sum string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := md5.New() //nolint:gosec // see above
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, to.URL, io.TeeReader(f, sum))
	if err != nil {
		return "", refusedError{errors.New("its address can't be read")}
	}
	req.ContentLength = size
	for k, v := range to.Headers {
		req.Header.Set(k, v)
	}
	resp, err := client.Do(req)
	if err != nil {
		// The error names the address, and with it the signature that lets anybody write there.
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return "", fmt.Errorf("PUT to %s: %w", req.URL.Host, err)
	}
	defer resp.Body.Close()
	words, _ := io.ReadAll(io.LimitReader(resp.Body, 600)) // only to say why
	switch {
	case resp.StatusCode/100 == 2:
	case resp.StatusCode/100 == 5, resp.StatusCode == http.StatusTooManyRequests, resp.StatusCode == http.StatusRequestTimeout:
		return "", fmt.Errorf("%s answers %s: %s", req.URL.Host, resp.Status, words)
	default:
		return "", refusedError{fmt.Errorf("%s answers %s: %s", req.URL.Host, resp.Status, words)}
	}
	md5sum = hex.EncodeToString(sum.Sum(nil))
	if tag := strings.Trim(resp.Header.Get("ETag"), `"`); len(tag) == 32 && resp.Header.Get("x-amz-server-side-encryption") == "" {
		if _, err := hex.DecodeString(tag); err == nil && tag != md5sum {
			return "", fmt.Errorf("%s has stored other bytes than were sent (MD5 %s)", req.URL.Host, tag)
		}
	}
	return md5sum, nil
}
