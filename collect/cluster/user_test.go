package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/sherd-forensics/sherd/target"
	"github.com/sherd-forensics/sherd/target/kubernetes"
)

func ptr[T any](v T) *T { return &v }

// instance is a running container of a pod with these security contexts.
func instance(pod *corev1.PodSecurityContext, c *corev1.SecurityContext, status *corev1.ContainerUser) *kubernetes.Instance {
	return &kubernetes.Instance{Container: "app", Role: kubernetes.App, ID: "containerd://9a", State: target.Running, Pod: &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart"},
		Spec:       corev1.PodSpec{NodeName: "n", SecurityContext: pod, Containers: []corev1.Container{{Name: "app", SecurityContext: c}}},
		Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "app", User: status,
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}},
	}}
}

func TestUserOf(t *testing.T) {
	linux := func(uid, gid int64) *corev1.ContainerUser {
		return &corev1.ContainerUser{Linux: &corev1.LinuxContainerUser{UID: uid, GID: gid}}
	}
	for name, x := range map[string]struct {
		pod    *corev1.PodSecurityContext
		c      *corev1.SecurityContext
		status *corev1.ContainerUser
		want   string // "" for unknown
	}{
		"nothing says it":        {want: ""},
		"the status":             {status: linux(65532, 65532), want: "65532:65532"},
		"the status counts most": {c: &corev1.SecurityContext{RunAsUser: ptr(int64(7))}, status: linux(0, 0), want: "0:0"},
		"the pod":                {pod: &corev1.PodSecurityContext{RunAsUser: ptr(int64(1000)), RunAsGroup: ptr(int64(2000))}, want: "1000:2000"},
		"the container's own": {pod: &corev1.PodSecurityContext{RunAsUser: ptr(int64(1000)), RunAsGroup: ptr(int64(2000))},
			c: &corev1.SecurityContext{RunAsUser: ptr(int64(5))}, want: "5:2000"},
		"the container's group":        {pod: &corev1.PodSecurityContext{RunAsUser: ptr(int64(1000))}, c: &corev1.SecurityContext{RunAsGroup: ptr(int64(6))}, want: "1000:6"},
		"nonroot of distroless":        {pod: &corev1.PodSecurityContext{RunAsUser: ptr(int64(65532))}, want: "65532:65532"},
		"a user that no image knows":   {pod: &corev1.PodSecurityContext{RunAsUser: ptr(int64(12345))}, want: "12345:0"},
		"only that it is not root":     {pod: &corev1.PodSecurityContext{RunAsNonRoot: ptr(true)}, want: ""},
		"a group without a user":       {pod: &corev1.PodSecurityContext{RunAsGroup: ptr(int64(1))}, want: ""},
		"a status without Linux's ids": {status: &corev1.ContainerUser{}, want: ""},
	} {
		u, err := UserOf(instance(x.pod, x.c, x.status))
		if err != nil && x.want == "" && strings.Contains(err.Error(), "--pod-user") {
			continue
		}
		if err != nil || u.String() != x.want || u.From == "" {
			t.Errorf("%s: %v (%s), %v; not %q", name, u, u.From, err, x.want)
		}
	}
	for text, want := range map[string]string{"1000": "1000:0", "65532": "65532:65532", "1:2": "1:2", "0:0": "0:0", "": "", "root": "", "1:": "", "-1": "", "1:-2": "", "1:2:3": "", "99999999999": ""} {
		u, err := ParseUser(text)
		if got := u.String(); (err == nil) != (want != "") || want != "" && got != want {
			t.Errorf("%q is read as %s, %v", text, got, err)
		}
	}
}

func TestMatch(t *testing.T) {
	words := func(s *corev1.SecurityContext) string {
		out := fmt.Sprintf("%d:%d", *s.RunAsUser, *s.RunAsGroup)
		for _, x := range []struct {
			b    *bool
			word string
		}{{s.RunAsNonRoot, " nonroot"}, {s.Privileged, " privileged"}, {s.ReadOnlyRootFilesystem, " readonly"}} {
			if x.b != nil && *x.b {
				out += x.word
			}
		}
		if s.AllowPrivilegeEscalation != nil && !*s.AllowPrivilegeEscalation {
			out += " bound"
		}
		if s.Capabilities != nil {
			out += fmt.Sprintf(" -%v +%v", s.Capabilities.Drop, s.Capabilities.Add)
		}
		if s.AppArmorProfile != nil {
			out += " " + string(s.AppArmorProfile.Type)
		}
		if s.SELinuxOptions != nil {
			out += " " + s.SELinuxOptions.Level
		}
		return out + " " + string(s.SeccompProfile.Type)
	}
	admin := &corev1.Capabilities{Add: []corev1.Capability{"SYS_ADMIN"}}
	for name, x := range map[string]struct {
		c    *corev1.SecurityContext
		u    User
		want string
	}{
		"nothing said":             {nil, User{UID: 65532, GID: 65532}, "65532:65532 nonroot bound -[ALL] +[] RuntimeDefault"},
		"another group":            {nil, User{UID: 1000, GID: 2000}, "1000:2000 nonroot bound -[ALL] +[] RuntimeDefault"},
		"no capability for a user": {&corev1.SecurityContext{Capabilities: admin}, User{UID: 1000}, "1000:0 nonroot bound -[ALL] +[] RuntimeDefault"},
		"profiles and a read-only root": {&corev1.SecurityContext{ReadOnlyRootFilesystem: ptr(true), AppArmorProfile: &corev1.AppArmorProfile{Type: "Localhost"},
			SELinuxOptions: &corev1.SELinuxOptions{Level: "s0:c1"}}, User{UID: 1, GID: 1}, "1:1 nonroot readonly bound -[ALL] +[] Localhost s0:c1 RuntimeDefault"},
		"root as the runtime makes it": {nil, User{}, "0:0 bound RuntimeDefault"},
		"root with less": {&corev1.SecurityContext{Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"CHOWN"}}}, User{},
			"0:0 bound -[ALL] +[CHOWN] RuntimeDefault"},
		"root with more":  {&corev1.SecurityContext{Capabilities: admin}, User{}, "0:0 -[] +[SYS_ADMIN] RuntimeDefault"},
		"privileged root": {&corev1.SecurityContext{Privileged: ptr(true)}, User{}, "0:0 privileged RuntimeDefault"},
		"privileged user": {&corev1.SecurityContext{Privileged: ptr(true)}, User{UID: 5, GID: 5}, "5:5 nonroot bound -[ALL] +[] RuntimeDefault"},
	} {
		if got := words(Match(instance(nil, x.c, nil), x.u)); got != x.want {
			t.Errorf("%s: %s, not %s", name, got, x.want)
		}
	}
}

func TestFitBeside(t *testing.T) {
	for word, change := range map[string]func(*kubernetes.Instance){
		"":                    func(*kubernetes.Instance) {},
		"has ended":           func(i *kubernetes.Instance) { i.State = target.Exited },
		"not been started":    func(i *kubernetes.Instance) { i.ID = "" },
		"ephemeral container": func(i *kubernetes.Instance) { i.Role = kubernetes.Ephemeral },
		"static pod": func(i *kubernetes.Instance) {
			i.Pod.Annotations = map[string]string{"kubernetes.io/config.mirror": "x"}
		},
		"its pod is being delete": func(i *kubernetes.Instance) { i.Pod.DeletionTimestamp = &metav1.Time{} },
	} {
		i := instance(nil, nil, nil)
		change(i)
		if err := FitBeside(i); (err == nil) != (word == "") || err != nil && !strings.Contains(err.Error(), word) {
			t.Errorf("%q: %v", word, err)
		}
	}
}

func TestSpool(t *testing.T) {
	i := instance(nil, nil, nil)
	if got := spoolFor(i.Pod); got != spoolBeside {
		t.Errorf("packages lie in %q", got)
	}
	i.Pod.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse("1Gi")}
	if got := spoolFor(i.Pod); got != "" {
		t.Errorf("in a pod with a limit of the disk packages lie in %q", got)
	}
}

// TestPasses: what speaks of a way leads on to the next; what speaks of the target, the connection or the user's wish does not.
func TestPasses(t *testing.T) {
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	start := &StartError{Node: "n", Why: "ErrImageNeverPull"}
	for name, x := range map[string]struct {
		ctx  context.Context
		err  error
		want bool
	}{
		"nothing":           {t.Context(), nil, false},
		"no collector":      {t.Context(), errors.Join(start, nil), true},
		"no right":          {t.Context(), fmt.Errorf("starting: %w", &kubernetes.DeniedError{Verb: "create", Resource: kubernetes.Jobs.GroupResource()}), true},
		"unfit":             {t.Context(), &UnfitError{"k8s://a/b/c", "it has ended"}, true},
		"interrupted":       {gone, start, false},
		"no such container": {t.Context(), &target.NotFoundError{Runtime: "Kubernetes", Ref: "a/b"}, false},
		"no cluster":        {t.Context(), &kubernetes.UnreachableError{Server: "https://x", Err: errors.New("refused")}, false},
		"anything else":     {t.Context(), errors.New("the disk is full"), false},
	} {
		if got := Passes(x.ctx, x.err); got != x.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestParseWay(t *testing.T) {
	for text, ok := range map[string]bool{"node": true, "pod": true, "api": true, "auto": true, "": false, "Node": false, "all": false} {
		if w, err := ParseWay(text); (err == nil) != ok || ok && string(w) != text {
			t.Errorf("%q: %s, %v", text, w, err)
		}
	}
}

func TestAgainst(t *testing.T) {
	for want, p := range map[string]*Plan{
		"":                         {Steps: []Step{{Have: Granted}, {Have: Spare}, {Have: Unknown}}, Trials: []Trial{{Result: "admitted"}}},
		"kira may not create jobs": {User: "kira", Steps: []Step{{Have: Granted}, {Have: Denied, Right: "create jobs"}, {Have: Denied, Right: "delete jobs"}}},
		"its pod is refused: no":   {Steps: []Step{{Have: Granted}}, Trials: []Trial{{What: "its pod", Result: "refused: no", refused: true}}},
	} {
		if got := p.Against(); got != want || p.OK() != (want == "") {
			t.Errorf("%q, not %q", got, want)
		}
	}
}
