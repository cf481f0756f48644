package contain

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// RecordKey is the annotation that says how a pod was before it was isolated.
const RecordKey = "sherd.io/isolation"

// maxRecord bounds the record: all annotations of a pod together may have 256 KiB.
const maxRecord = 32 << 10

// change is a label or an annotation that was changed. Before is nil where there was none; After is nil where it was taken away.
type change struct {
	Before *string `json:"before"`
	After  *string `json:"after"`
}

// record is what RecordKey holds.
type record struct {
	Schema int    `json:"schema"`
	ID     string `json:"id"`
	Time   string `json:"time"` // RFC 3339, UTC
	Tool   string `json:"tool"`
	// Labels and Annotations are those that were changed, beside the record itself and Label.
	Labels      map[string]change `json:"labels,omitempty"`
	Annotations map[string]change `json:"annotations,omitempty"`
	// LabelSum and AnnotationSum are over all of them as they were before.
	LabelSum      string `json:"label_sum"`
	AnnotationSum string `json:"annotation_sum"`
	// Owner is the controller that the pod had.
	Owner    *owner `json:"owner,omitempty"`
	Policy   string `json:"policy,omitempty"`   // name of the network policy
	Cordoned bool   `json:"cordoned,omitempty"` // the node, for this pod
	// Frozen are the containers that were frozen, by id; what was frozen by somebody else is not among them.
	Frozen []string `json:"frozen,omitempty"`
}

// owner names a controller.
type owner struct {
	APIVersion string `json:"api_version"`
	Kind       string `json:"kind"`
	Name       string `json:"name"`
	UID        string `json:"uid"`
}

func (o *owner) String() string { return strings.ToLower(o.Kind) + " " + o.Name }

var recordID = regexp.MustCompile(`^[0-9a-f]{12}$`)

// policyName is the name of an isolation's network policy.
func policyName(id string) string { return "sherd-isolate-" + id }

func (r *record) encode() (string, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return "", err
	}
	if len(b) > maxRecord {
		return "", fmt.Errorf("what would have to be recorded of the pod has %d bytes, more than %d", len(b), maxRecord)
	}
	return string(b), nil
}

// errNone says that a pod has no record.
var errNone = errors.New("it is not isolated: it has no annotation " + RecordKey)

// readRecord reads a pod's record. Whoever may change the pod could have written it: it can name nothing but what is this pod's own.
func readRecord(p *corev1.Pod) (*record, error) {
	text, ok := p.Annotations[RecordKey]
	if !ok {
		return nil, errNone
	}
	bad := func(why string) error {
		return fmt.Errorf("its annotation %s is not as Sherd writes it (%s): somebody changed it, and nothing is done by it", RecordKey, why)
	}
	if len(text) > maxRecord {
		return nil, bad("it is too long")
	}
	r := &record{}
	if err := json.Unmarshal([]byte(text), r); err != nil {
		return nil, bad(err.Error())
	}
	switch {
	case r.Schema != 1:
		return nil, fmt.Errorf("its annotation %s has the form %d, which this version does not know", RecordKey, r.Schema)
	case !recordID.MatchString(r.ID):
		return nil, bad("its id")
	case r.Policy != "" && r.Policy != policyName(r.ID):
		return nil, bad("its network policy")
	}
	for k, c := range r.Labels {
		if len(validation.IsQualifiedName(k)) > 0 || k == Label {
			return nil, bad(fmt.Sprintf("the label %q", k))
		}
		for _, v := range []*string{c.Before, c.After} {
			if v != nil && len(validation.IsValidLabelValue(*v)) > 0 {
				return nil, bad("the value of the label " + k)
			}
		}
	}
	for k := range r.Annotations {
		if !slices.Contains(annotationKeys(), k) {
			return nil, bad(fmt.Sprintf("the annotation %q", k))
		}
	}
	ids := containerIDs(p)
	for _, id := range r.Frozen {
		if !ids[id] {
			// An instance that has ended is frozen no more.
			r.Frozen = slices.DeleteFunc(slices.Clone(r.Frozen), func(x string) bool { return !ids[x] })
			break
		}
	}
	return r, nil
}

// containerIDs are the ids that a pod's status names.
func containerIDs(p *corev1.Pod) map[string]bool {
	out := map[string]bool{}
	for _, l := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses, p.Status.EphemeralContainerStatuses} {
		for i := range l {
			out[l[i].ContainerID] = true
		}
	}
	delete(out, "")
	return out
}

// sum is over labels or annotations, without what an isolation adds itself.
func sum(m map[string]string) string {
	h := sha256.New()
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if k != Label && k != RecordKey {
			fmt.Fprintf(h, "%d:%s%d:%s", len(k), k, len(m[k]), m[k])
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// set notes that a key gets a value, nil for none, where it has another one. A key that was noted before keeps what was before.
func set(noted *map[string]change, have map[string]string, key string, value *string) bool {
	old, there := have[key]
	if there == (value != nil) && (!there || old == *value) {
		return false
	}
	if *noted == nil {
		*noted = map[string]change{}
	}
	c := change{After: value}
	if there {
		c.Before = &old
	}
	if before, ok := (*noted)[key]; ok {
		c.Before = before.Before
	}
	(*noted)[key] = c
	return true
}

// back gives what putting back means for what the pod has now: the values to set, nil to take away, and the keys that somebody changed since,
// which stay as they are.
func back(noted map[string]change, have map[string]string) (values map[string]*string, foreign []string) {
	values = map[string]*string{}
	for k, c := range noted {
		now, there := have[k]
		switch {
		case same(c.Before, now, there): // put back already, or never done
		case same(c.After, now, there):
			values[k] = c.Before
		default:
			foreign = append(foreign, k)
		}
	}
	slices.Sort(foreign)
	return values, foreign
}

func same(want *string, have string, there bool) bool {
	return want == nil && !there || want != nil && there && *want == have
}
