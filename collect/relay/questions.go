package relay

// The questions that a collector on a node answers beside that for a package, and their answers.
const (
	// AskPods lists containers as the node's runtime labels them: the answer is Found. Expect, where given, says of which pod.
	AskPods = "pods"
	// AskDistroless judges containers: Args are Targets, and the answer is Judged.
	AskDistroless = "distroless"
	// AskFreeze stops every process of the target until AskThaw: the answer is Held. Asking again does no harm.
	AskFreeze = "freeze"
	AskThaw   = "thaw"
)

// Targets names containers as the node's runtime does.
type Targets struct {
	Targets []string `json:"targets"`
}

// Found are containers of pods.
type Found struct {
	Containers []FoundContainer `json:"containers"`
	// More is how many there are beyond those.
	More int `json:"more,omitempty"`
}

// FoundContainer is one container of a pod as the node's runtime knows it.
type FoundContainer struct {
	Expect
	Target  string `json:"target"` // "containerd://k8s.io/ID"
	State   string `json:"state"`
	Created string `json:"created,omitempty"` // RFC 3339
	Image   string `json:"image,omitempty"`
	Digest  string `json:"digest,omitempty"`
}

// Judged says for each container that was found whether it is distroless, by the name that it was asked for by.
type Judged struct {
	Of map[string]Judgement `json:"of"`
}

// Judgement is whether one container is distroless, and why.
type Judgement struct {
	Distroless *bool  `json:"distroless"` // nil: its files could not be read, or it is not on the node
	Reason     string `json:"reason"`
}

// What a container that was to be frozen or thawed is now.
const (
	Frozen        = "frozen"
	FrozenAlready = "frozen already" // by somebody else
	Thawed        = "thawed"
	ThawedAlready = "not frozen"
	Gone          = "gone" // none of its processes runs
)

// Held answers AskFreeze and AskThaw with one of the words above.
type Held struct {
	State string `json:"state"`
}
