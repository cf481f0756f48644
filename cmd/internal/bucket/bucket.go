// Package bucket signs addresses by which somebody else may put one object into a bucket of an object store that speaks S3, and looks at
// what came of it. The credentials stay here.
package bucket

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// Place is where in a bucket.
type Place struct{ Bucket, Key string }

// Parse reads s3://BUCKET/KEY; a key that is empty or ends with a slash is a folder.
func Parse(s string) (Place, error) {
	rest, ok := strings.CutPrefix(s, "s3://")
	b, key, _ := strings.Cut(rest, "/")
	if !ok || b == "" || strings.ContainsAny(b, "?#@:") {
		return Place{}, fmt.Errorf("a place in a bucket is s3://BUCKET/KEY, not %q", s)
	}
	return Place{b, key}, nil
}

func (p Place) String() string { return "s3://" + p.Bucket + "/" + p.Key }

// Folder reports whether objects go below the place instead of being it.
func (p Place) Folder() bool { return p.Key == "" || strings.HasSuffix(p.Key, "/") }

// Store is an object store and who uses it.
type Store struct{ c *minio.Client }

// Open connects as AWS's own programs would: credentials from the environment or ~/.aws/credentials (AWS_PROFILE), the region from AWS_REGION, the
// address from endpoint, AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL. ca are more certificates to trust, PEM.
func Open(endpoint string, ca []byte) (*Store, error) {
	region := cmp.Or(os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION"), "us-east-1")
	endpoint = cmp.Or(endpoint, os.Getenv("AWS_ENDPOINT_URL_S3"), os.Getenv("AWS_ENDPOINT_URL"), "https://s3."+region+".amazonaws.com")
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || strings.Trim(u.Path, "/") != "" {
		return nil, fmt.Errorf("the object store's address is https://HOST, not %q", endpoint)
	}
	creds := credentials.NewChainCredentials([]credentials.Provider{&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}})
	v, err := creds.GetWithContext(nil)
	if err != nil || v.AccessKeyID == "" {
		return nil, errors.New("no credentials for the bucket: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE for one of ~/.aws/credentials")
	}
	transport, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return nil, errors.New("no way to speak HTTP")
	}
	transport = transport.Clone()
	if len(ca) > 0 {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(ca) {
			return nil, errors.New("no certificate can be read in what the upload is to be trusted by")
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	c, err := minio.New(u.Host, &minio.Options{Creds: creds, Secure: u.Scheme == "https", Region: region, Transport: transport, MaxRetries: 3})
	if err != nil {
		return nil, fmt.Errorf("the object store at %s: %w", endpoint, err)
	}
	return &Store{c}, nil
}

// Sign gives an address by which one object may be put there until then, and the headers that go with it. An object that is there is not
// overwritten.
func (s *Store) Sign(ctx context.Context, p Place, valid time.Duration) (string, map[string]string, error) {
	headers := map[string]string{"If-None-Match": "*"}
	h := http.Header{}
	for k, v := range headers {
		h.Set(k, v)
	}
	u, err := s.c.PresignHeader(ctx, http.MethodPut, p.Bucket, p.Key, valid, nil, h)
	if err != nil {
		return "", nil, fmt.Errorf("signing an address in %s: %w", p, err)
	}
	return u.String(), headers, nil
}

// Check holds what the store has there against what was put.
func (s *Store) Check(ctx context.Context, p Place, size int64, md5 string) error {
	o, err := s.c.StatObject(ctx, p.Bucket, p.Key, minio.StatObjectOptions{})
	switch {
	case err != nil:
		return fmt.Errorf("looking at %s: %w", p, err)
	case o.Size != size:
		return fmt.Errorf("%s has %d bytes, and the package %d", p, o.Size, size)
	}
	// With encryption by a key of the store's owner, and in pieces, the tag is no sum.
	if len(o.ETag) == len(md5) && o.ETag != md5 && o.Metadata.Get("x-amz-server-side-encryption") == "" {
		return fmt.Errorf("%s has other bytes than the package (MD5 %s, not %s)", p, o.ETag, md5)
	}
	return nil
}
