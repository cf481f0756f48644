package kubernetes

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/sherd-forensics/sherd/target"
)

// PodMetrics is what the metrics API keeps of a pod.
var PodMetrics = schema.GroupVersionResource{Group: "metrics.k8s.io", Version: "v1beta1", Resource: "pods"}

// Logs asks the API server for the container's output, of the instance that is and of the one before it: each line with the time at which
// the runtime received it before it. Of each the last limit bytes are kept. Names are those that the kubelet gives the files: the number of
// restarts. What could not be had, or only in part, is in missed.
func (c *Cluster) Logs(ctx context.Context, i *Instance, limit int) (logs []target.Record, missed []string) {
	if i.ID == "" {
		return nil, []string{"the container's output: it was never started"}
	}
	add := func(name, what string, previous bool) {
		d, cut, err := c.log(ctx, i, previous, limit)
		if err != nil {
			missed = append(missed, what+": "+c.Explain(err, "get", Pods, "log", i.Pod.Namespace).Error())
			return
		}
		if cut > 0 {
			missed = append(missed, fmt.Sprintf("%s: the API server gave %d bytes more than are kept, of which the last %d are here", what, cut, limit))
		}
		d.Name = name
		logs = append(logs, *d)
	}
	if i.Restarts > 0 {
		add(strconv.Itoa(i.Restarts-1)+".log", "the output of the instance before", true)
	}
	add(strconv.Itoa(i.Restarts)+".log", "the container's output", false)
	missed = append(missed, "the container's output before it was last rotated, which stream a line came by, and that of instances before the last two: the API server gives none of it")
	return logs, missed
}

// log reads one log. cut is how many bytes of its beginning were left out.
func (c *Cluster) log(ctx context.Context, i *Instance, previous bool, limit int) (_ *target.Record, cut int64, err error) {
	cfg := c.Streaming()
	client, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, 0, err
	}
	base, _, err := rest.DefaultServerUrlFor(cfg)
	if err != nil {
		return nil, 0, err
	}
	u := base.JoinPath("api/v1/namespaces", i.Pod.Namespace, "pods", i.Pod.Name, "log")
	q := url.Values{"container": {i.Container}, "timestamps": {"true"}}
	if previous {
		q.Set("previous", "true")
	}
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, 0, err
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, 0, refusal(res)
	}
	data, cut, err := tail(res.Body, limit)
	if err != nil {
		return nil, 0, err
	}
	if said := instead(data); said != "" {
		return nil, 0, fmt.Errorf("the kubelet says: %s", said)
	}
	return &target.Record{Origin: "GET " + u.RequestURI() + " of the API server", Data: data}, cut, nil
}

// refusal is what the server says in place of a log.
func refusal(res *http.Response) error {
	b, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil {
		return err
	}
	e := apierrors.NewGenericServerResponse(res.StatusCode, "get", Pods.GroupResource(), "", string(bytes.TrimSpace(b)), 0, true)
	var s metav1.Status
	if err := json.Unmarshal(b, &s); err == nil && s.Message != "" {
		e.ErrStatus.Message = s.Message
	}
	return e
}

// instead is what a kubelet gives in a log's place, with no sign of an error but that no time stands before it.
func instead(data []byte) string {
	line, _, more := bytes.Cut(data, []byte("\n"))
	if more || len(data) == 0 || len(line) > 4096 {
		return ""
	}
	stamp, _, _ := bytes.Cut(line, []byte(" "))
	if _, err := time.Parse(time.RFC3339Nano, string(stamp)); err == nil {
		return ""
	}
	return string(line)
}

// tail reads all and keeps the last limit bytes, from the beginning of a line on.
func tail(r io.Reader, limit int) (kept []byte, cut int64, err error) {
	var old, now []byte
	before := byte('\n') // what stands before the bytes that are kept
	for {
		part := make([]byte, limit)
		n, err := io.ReadFull(r, part)
		if len(old) > 0 {
			cut += int64(len(old))
			before = old[len(old)-1]
		}
		old, now = now, part[:n]
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return nil, 0, err
		}
	}
	all := slices.Concat(old, now)
	if over := len(all) - limit; over > 0 {
		cut += int64(over)
		before, all = all[over-1], all[over:]
	}
	if before != '\n' {
		line := bytes.IndexByte(all, '\n') + 1
		if line == 0 {
			line = len(all)
		}
		cut += int64(line)
		all = all[line:]
	}
	return all, cut, nil
}

// Metrics asks for what the cluster measured of the pod, if it measures anything.
func (c *Cluster) Metrics(ctx context.Context, i *Instance) (*target.Record, error) {
	u, err := c.dynamic.Resource(PodMetrics).Namespace(i.Pod.Namespace).Get(ctx, i.Pod.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err), apierrors.IsServiceUnavailable(err):
		return nil, errors.New("the cluster has no metrics of it (metrics.k8s.io)")
	case err != nil:
		return nil, c.Explain(err, "get", PodMetrics, "", i.Pod.Namespace)
	}
	b, err := u.MarshalJSON()
	if err != nil {
		return nil, err
	}
	return &target.Record{Name: "metrics.json", Origin: "GET " + PodMetrics.GroupResource().String() + " " + i.Pod.Namespace + "/" + i.Pod.Name + " of the API server", Data: b}, nil
}
