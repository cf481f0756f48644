package lab

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A scenario that plays in the cluster has a namespace of its own under the restricted profile, and in it what its cluster.yaml says.

// needsCluster reports whether the containers of a scenario are pods.
func (s *Scenario) needsCluster() bool { return s.Victim.Runtime == Kubernetes }

// Runtimes are those that a scenario needs.
func (s *Scenario) Runtimes() []string {
	if s.needsCluster() {
		return []string{Kubernetes}
	}
	return []string{Docker, Containerd, Podman}
}

// openNamespace makes the scenario's namespace and what is to be there before its first pod.
func (st *stage) openNamespace(ctx context.Context) error {
	if !st.scenario.needsCluster() {
		return nil
	}
	if err := st.lab.Up(ctx, Kubernetes); err != nil {
		return err
	}
	suffix := make([]byte, 3)
	if _, err := rand.Read(suffix); err != nil {
		return err
	}
	name := "shop-" + hex.EncodeToString(suffix)
	manifest := fmt.Sprintf(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":%q,"labels":{"pod-security.kubernetes.io/enforce":"restricted"}}}`, name)
	if err := st.lab.apply(ctx, "", []byte(manifest)); err != nil {
		return err
	}
	st.namespace = name
	b, err := os.ReadFile(filepath.Join(st.scenario.Dir, "cluster.yaml"))
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return err
	default:
		if err := st.lab.apply(ctx, name, []byte(strings.ReplaceAll(string(b), "$NAMESPACE", name))); err != nil {
			return err
		}
	}
	// A pod is refused before its namespace has its service account.
	var last error
	if !waitFor(ctx, 30*time.Second, func() bool {
		_, last = st.lab.Kubectl(ctx, "get", "serviceaccount", "-n", name, "default")
		return last == nil
	}) {
		return fmt.Errorf("the namespace has no service account: %w", orTimeout(ctx, last))
	}
	return nil
}

// closeNamespace removes it with all that is in it, and the pods that the intruder started there.
func (st *stage) closeNamespace() error {
	if st.namespace == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	_, err := st.lab.Kubectl(ctx, "delete", "pods", "--all", "-n", st.namespace, "--grace-period=1", "--timeout=60s")
	_, nerr := st.lab.Kubectl(ctx, "delete", "namespace", st.namespace, "--timeout=90s")
	return errors.Join(err, nerr)
}

// pod is how a container of the scenario runs in the cluster.
func (st *stage) pod(v *Victim, variant string) PodSpec {
	return PodSpec{Namespace: st.namespace, Account: v.Account, Once: variant == "exited"}
}

const tokenPath = "/var/run/secrets/kubernetes.io/serviceaccount/token"

// thief calls the API server with the token of the container's pod, from an address that is not the pod's, as whoever was sent the token does:
// METHOD PATH, or METHOD PATH FILE with a body of the scenario's.
func (b *intrusion) thief(ctx context.Context, s *Scenario, call string) error {
	token, err := os.ReadFile(fmt.Sprintf("/proc/%d/root%s", b.c.PID, tokenPath))
	if err != nil {
		return err
	}
	f := strings.Fields(b.stage.placed(call))
	if len(f) < 2 || len(f) > 3 {
		return fmt.Errorf("%q is no METHOD PATH [FILE]", call)
	}
	var body io.Reader
	if len(f) == 3 {
		text, err := os.ReadFile(filepath.Join(s.Dir, f[2]))
		if err != nil {
			return err
		}
		body = strings.NewReader(b.stage.placed(string(text)))
	}
	r, err := http.NewRequestWithContext(ctx, f[0], "https://"+b.lab.cluster().address+f[1], body)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+string(token))
	r.Header.Set("User-Agent", "curl/8.5.0")
	r.Header.Set("Content-Type", "application/json")
	dial := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(b.lab.bridge.host())}}
	// Whom the thief trusts is his own matter.
	client := http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DialContext: dial.DialContext, DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusBadRequest {
		said, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		return fmt.Errorf("%s gave status %d: %s", call, resp.StatusCode, said)
	}
	return nil
}

// placed puts the names into a text that are known only when a scenario plays in the cluster.
func (st *stage) placed(text string) string {
	image := ""
	if st.p.Container != nil {
		image = st.p.Container.Ref
	}
	return strings.NewReplacer("$NAMESPACE", st.namespace, "$IMAGE", image).Replace(text)
}

// clusterFacts are what the truth of a scenario in the cluster may name by what is known only now.
func (st *stage) clusterFacts() []string {
	if st.namespace == "" {
		return nil
	}
	return []string{"${NAMESPACE}", st.namespace, "${THIEF}", st.lab.bridge.host()}
}
