package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"regexp"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/sherd-forensics/sherd/target"
	"github.com/sherd-forensics/sherd/target/kubernetes"
)

// archiveName is what the kubelet calls its archives. A kubelet that names another file is not followed.
var archiveName = regexp.MustCompile(`^checkpoint-[A-Za-z0-9._:+-]+\.tar$`)

// Checkpoint has the kubelet of the container's node make a checkpoint (FEATURE STATE: beta since Kubernetes 1.30) and gives the archive's
// path on the node. The container stands still for a moment, and the archive stays on the node: its files are not the collector's to change.
func Checkpoint(ctx context.Context, c *kubernetes.Cluster, i *kubernetes.Instance) (string, error) {
	if i.State != target.Running {
		return "", errors.New("the container has ended: there is nothing to checkpoint")
	}
	cfg := c.Streaming() // a large memory takes its time
	client, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return "", err
	}
	base, _, err := rest.DefaultServerUrlFor(cfg)
	if err != nil {
		return "", err
	}
	u := base.JoinPath("api/v1/nodes", i.Pod.Spec.NodeName, "proxy/checkpoint", i.Pod.Namespace, i.Pod.Name, i.Container)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), nil)
	if err != nil {
		return "", err
	}
	res, err := client.Do(req)
	if err != nil {
		return "", c.Explain(err, "create", kubernetes.Nodes, "proxy", "")
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil {
		return "", err
	}
	if res.StatusCode != http.StatusOK {
		return "", refusedCheckpoint(c, res.StatusCode, b)
	}
	var said struct {
		Items []string `json:"items"`
	}
	if err := json.Unmarshal(b, &said); err != nil || len(said.Items) != 1 {
		return "", fmt.Errorf("the kubelet's answer to the checkpoint is not in its form: %.200q", b)
	}
	p := said.Items[0]
	if !path.IsAbs(p) || path.Clean(p) != p || path.Base(path.Dir(p)) != "checkpoints" || !archiveName.MatchString(path.Base(p)) {
		return "", fmt.Errorf("the kubelet names %.200q as its checkpoint, which is no archive of its making: it was left alone", p)
	}
	return p, nil
}

// MayCheckpoint says whether the right for it is granted.
func MayCheckpoint(ctx context.Context, c *kubernetes.Cluster) Have {
	return allowed(ctx, c, "create", kubernetes.Nodes, "proxy", "")
}

// refusedCheckpoint says why there is no checkpoint.
func refusedCheckpoint(c *kubernetes.Cluster, status int, b []byte) error {
	var s metav1.Status
	words := string(b)
	if err := json.Unmarshal(b, &s); err == nil && s.Message != "" {
		words = s.Message
	}
	switch status {
	case http.StatusForbidden:
		err := apierrors.NewForbidden(kubernetes.Nodes.GroupResource(), "", errors.New(words))
		return c.Explain(err, "create", kubernetes.Nodes, "proxy", "")
	case http.StatusNotFound:
		return fmt.Errorf("the kubelet does not offer checkpoints (the feature gate ContainerCheckpoint), or does not know the container: %.1000s", words)
	}
	return fmt.Errorf("the kubelet or its container runtime can't checkpoint (that needs CRIU on the node, and containerd 2.1 or CRI-O 1.25): %.1000s", words)
}
