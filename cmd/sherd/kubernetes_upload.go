package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/sherd-forensics/sherd/cmd/internal/bucket"
	"github.com/sherd-forensics/sherd/collect/cluster"
	"github.com/sherd-forensics/sherd/collect/relay"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/internal/printable"
	"github.com/sherd-forensics/sherd/target"
	"github.com/sherd-forensics/sherd/target/kubernetes"
)

// uploadFlags say where packages go from their node, instead of here.
type uploadFlags struct{ to, endpoint, ca string }

func (f *uploadFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&f.to, "upload", "", "in a cluster: send the package from the node to `URL`, one that a PUT was signed for, or s3://BUCKET/KEY; a signed receipt stays here")
	fs.StringVar(&f.endpoint, "upload-endpoint", "", "`URL` of the object store for s3://, as the node reaches it (default $AWS_ENDPOINT_URL_S3, $AWS_ENDPOINT_URL, then AWS)")
	fs.StringVar(&f.ca, "upload-ca", "", "`FILE` of certificates to trust the upload's address by, beside the node's own")
}

// upload is where packages go from their node.
type upload struct {
	url   string        // signed by somebody else
	store *bucket.Store // or this
	place bucket.Place
	ca    []byte
	valid time.Duration
}

// open reads the flags. It is nil if nothing is uploaded.
func (f *uploadFlags) open(valid time.Duration) (*upload, error) {
	if f.to == "" {
		if f.endpoint != "" || f.ca != "" {
			return nil, usagef("--upload-endpoint and --upload-ca belong to --upload")
		}
		return nil, nil //nolint:nilnil // nothing is uploaded
	}
	u := &upload{valid: valid + 5*time.Minute}
	var err error
	if f.ca != "" {
		if u.ca, err = os.ReadFile(f.ca); err != nil {
			return nil, usagef("--upload-ca: %v", err)
		}
	}
	if !strings.HasPrefix(f.to, "s3:") {
		u.url = f.to
		if err := (&relay.Upload{URL: f.to}).Check(); err != nil {
			return nil, usagef("--upload: %v", err)
		}
		return u, nil
	}
	if u.place, err = bucket.Parse(f.to); err != nil {
		return nil, usagef("--upload: %v", err)
	}
	u.store, err = bucket.Open(f.endpoint, u.ca)
	return u, err
}

// one says whether no more than one package can go there.
func (u *upload) one() bool { return u.store == nil || !u.place.Folder() }

// send has a collector put the package of a container where it shall go. What stays here is a receipt: the first entry of the package's
// custody, signed, with the package's hash and the key that the collector signed it with.
func (k *clusterCapture) send(ctx context.Context, s *cluster.Session, i *kubernetes.Instance, stage func(string)) (*captured, error) {
	req, err := k.request(ctx, i)
	if err != nil {
		return nil, err
	}
	name := fileName(packageName(i), "") + "-" + time.Now().UTC().Format("20060102T150405Z") + ".sherd"
	receipt := k.f.output
	if receipt == "-" {
		return nil, usagef("--upload leaves a receipt in a file: name that with -o")
	}
	if st, serr := os.Stat(receipt); receipt == "" || serr == nil && st.IsDir() {
		receipt = path.Join(receipt, name)
	}
	if _, err := os.Lstat(evidence.CustodyPath(receipt)); err == nil {
		return nil, fmt.Errorf("%s exists: name another file with -o", printable.Text(evidence.CustodyPath(receipt)))
	}
	to, place := k.upload.url, k.upload.place
	req.Upload = &relay.Upload{URL: to, CA: k.upload.ca}
	if k.upload.store != nil {
		if place.Folder() {
			place.Key += name
		}
		to = place.String()
		if req.Upload.URL, req.Upload.Headers, err = k.upload.store.Sign(ctx, place, k.upload.valid); err != nil {
			return nil, err
		}
	}
	to = bare(to)
	res, err := s.Capture(ctx, req, nowhere{}, stage)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", i.URL(), err)
	}
	if !res.Uploaded {
		return nil, fmt.Errorf("%s: the collector did not say that the package lies at %s", i.URL(), to)
	}
	note := k.tellOfNode(i.URL(), receipt, res)
	if k.upload.store != nil {
		if err := k.upload.store.Check(ctx, place, res.Size, res.MD5); err != nil {
			k.a.note("%s: it was taken, and can't be checked from here: %v", i.URL(), err)
		}
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	err = evidence.AppendCustodySigned(receipt, evidence.CustodyEntry{Action: "uploaded", Actor: k.key.Name, Host: host, Tool: tool, EvidenceID: res.ID, SHA256: res.SHA256,
		Note: fmt.Sprintf("%s; %d bytes from node %s to %s, signed by the collector's key %s", note, res.Size, s.Node, to, res.KeyID)}, k.key)
	if err != nil {
		return nil, fmt.Errorf("the package lies at %s (SHA-256 %s), and its receipt could not be written: %w", printable.Text(to), res.SHA256, err)
	}
	got := &captured{way: cluster.Node, path: to, receipt: evidence.CustodyPath(receipt), node: res, container: &target.Container{URL: i.URL(), Name: i.Pod.Name}}
	if res.Stopped != "" {
		return got, errors.New("the capture was stopped; what was taken until then is sealed in " + printable.Text(to) + ": " + printable.Text(res.Stopped))
	}
	return got, nil
}

// bare is an address without what was signed.
func bare(to string) string {
	u, err := url.Parse(to)
	if err != nil {
		return "an address"
	}
	u.RawQuery, u.User, u.Fragment = "", nil, ""
	return u.String()
}

// nowhere is where bytes go that should not come.
type nowhere struct{}

func (nowhere) Write([]byte) (int, error) {
	return 0, errors.New("the collector sends here what it should upload")
}
