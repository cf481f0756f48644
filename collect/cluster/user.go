package cluster

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/sherd-forensics/sherd/target/kubernetes"
)

// User is whom a container's processes run as, and how that is known.
type User struct {
	UID, GID int64
	// From says where the numbers are from: "the container's status", …
	From string
}

func (u User) String() string { return fmt.Sprintf("%d:%d", u.UID, u.GID) }

// ParseUser reads UID or UID:GID.
func ParseUser(s string) (User, error) {
	uid, gid, both := strings.Cut(s, ":")
	u := User{From: "as told"}
	var err error
	if u.UID, err = strconv.ParseInt(uid, 10, 32); err == nil && u.UID >= 0 {
		u.GID = groupOf(u.UID)
		if !both {
			return u, nil
		}
		if u.GID, err = strconv.ParseInt(gid, 10, 32); err == nil && u.GID >= 0 {
			return u, nil
		}
	}
	return User{}, fmt.Errorf("%q is no user: UID or UID:GID in numbers, as in 65532:65532", s)
}

// errUser says that nothing tells whom a container runs as.
var errUser = errors.New("the image decides whom the container runs as, and the cluster does not say whom: name it with --pod-user UID:GID")

// UserOf tells whom the processes of a container run as. What the kubelet saw (Kubernetes 1.31 and later) counts most, then the
// specification. A group that nothing names is that of the distroless images' own users, else 0, which a runtime takes for a user that the
// image does not know.
func UserOf(i *kubernetes.Instance) (User, error) {
	if s := i.Status(); s != nil && s.User != nil && s.User.Linux != nil {
		return User{s.User.Linux.UID, s.User.Linux.GID, "the container's status"}, nil
	}
	var uid, gid *int64
	if p := i.Pod.Spec.SecurityContext; p != nil {
		uid, gid = p.RunAsUser, p.RunAsGroup
	}
	if c := i.Security(); c != nil {
		if c.RunAsUser != nil {
			uid = c.RunAsUser
		}
		if c.RunAsGroup != nil {
			gid = c.RunAsGroup
		}
	}
	switch {
	case uid == nil:
		return User{}, errUser
	case gid == nil:
		return User{*uid, groupOf(*uid), "the specification; the group is a guess"}, nil
	}
	return User{*uid, *gid, "the specification"}, nil
}

// groupOf is the group of a user of the distroless images: nonroot and nobody.
func groupOf(uid int64) int64 {
	if uid == 65532 || uid == 65534 {
		return uid
	}
	return 0
}

// Match is the security context of a collector beside a container: no more than the container has, and no less, since the kernel lets a
// process look at another only with the same user, group and rights. The restricted profile of Pod Security admits it wherever it admits
// the container.
func Match(i *kubernetes.Instance, u User) *corev1.SecurityContext {
	no, yes := false, true
	out := &corev1.SecurityContext{RunAsUser: &u.UID, RunAsGroup: &u.GID, AllowPrivilegeEscalation: &no,
		Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}}
	if u.UID != 0 {
		out.RunAsNonRoot = &yes
	}
	c := i.Security()
	if c == nil {
		c = &corev1.SecurityContext{}
	}
	out.SELinuxOptions, out.AppArmorProfile, out.ReadOnlyRootFilesystem = c.SELinuxOptions, c.AppArmorProfile, c.ReadOnlyRootFilesystem
	if u.UID != 0 {
		return out // whatever the specification adds, the user has none of it in force
	}
	out.Capabilities = c.Capabilities.DeepCopy()
	if c.Privileged != nil && *c.Privileged {
		out.Privileged, out.AllowPrivilegeEscalation, out.Capabilities = &yes, nil, nil
		return out
	}
	if out.Capabilities != nil {
		for _, a := range out.Capabilities.Add {
			if a == "SYS_ADMIN" || a == "CAP_SYS_ADMIN" || a == "ALL" {
				out.AllowPrivilegeEscalation = nil // Kubernetes does not take both
			}
		}
	}
	return out
}
