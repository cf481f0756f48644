package record

// Permissions are what the API server's RBAC lets one identity do: target/kubernetes/permissions.json. They are worked out over all
// roles and bindings that whoever captured may read; Missed says what was not read, and then they are a lower bound.
type Permissions struct {
	Identity string       `json:"identity"` // "system:serviceaccount:NAMESPACE:NAME"
	Groups   []string     `json:"groups"`   // by which bindings reach it too
	Rules    []Permission `json:"rules"`
	Dangers  []Danger     `json:"dangers"` // the worst first
	Tokens   []Token      `json:"tokens"`
	Cloud    []CloudRole  `json:"cloud,omitempty"`
	// Dangling are bindings whose role is not there: they grant nothing, until somebody makes a role of that name.
	Dangling []string `json:"dangling,omitempty"` // "RoleBinding/shop/cart-view: ClusterRole/view"
	Missed   []string `json:"missed,omitempty"`
}

// Permission is one rule of one role, as granted by one binding (rbac.authorization.k8s.io/v1 PolicyRule).
type Permission struct {
	Verbs         []string `json:"verbs"`
	APIGroups     []string `json:"api_groups,omitempty"`
	Resources     []string `json:"resources,omitempty"`
	ResourceNames []string `json:"resource_names,omitempty"` // empty: all
	URLs          []string `json:"non_resource_urls,omitempty"`
	Namespace     string   `json:"namespace,omitempty"` // "" is the whole cluster
	Role          string   `json:"role"`                // "ClusterRole/view"
	Binding       string   `json:"binding"`             // "RoleBinding/shop/cart-view"
}

// Danger is something that a thief of the identity may do with what it is granted, in words.
type Danger struct {
	What      string `json:"what"` // "read every secret of the namespace shop"
	Kind      string `json:"kind"` // secrets, exec, run-pods, escalate, impersonate, nodes, tokens, webhooks, everything, …
	Technique string `json:"technique"`
	Namespace string `json:"namespace,omitempty"` // "" is the whole cluster
	Rules     []int  `json:"rules"`               // indexes in Rules
}

// Token is a projected service account token of the pod.
type Token struct {
	Path      string   `json:"path"`      // in the containers that mount it
	Audience  string   `json:"audience"`  // "" is the API server's own
	Seconds   int64    `json:"seconds"`   // how long one is valid; the kubelet renews it
	Container []string `json:"container"` // which mount it
}

// CloudRole is an identity of a cloud that the service account may take on, as its annotations or the pod's say.
type CloudRole struct {
	Provider string `json:"provider"` // aws, gcp, azure
	Role     string `json:"role"`     // ARN, Google service account, Azure client id
	From     string `json:"from"`     // the annotation, label or variable
	Tenant   string `json:"tenant,omitempty"`
}

// Exposure is who reaches the pod by what the cluster is told: target/kubernetes/exposure.json.
type Exposure struct {
	Ways     []Way           `json:"ways"`
	Policies []NetworkPolicy `json:"policies"`
	// Ingress and Egress say what the policies leave: "all", "some", "none". A network plugin that does not know policies lets all pass.
	Ingress string `json:"ingress"`
	Egress  string `json:"egress"`
	// Notes are what bounds these words: policies do not hold for a pod in its node's network.
	Notes  []string `json:"notes,omitempty"`
	Missed []string `json:"missed,omitempty"`
}

// Way is one way to the pod.
type Way struct {
	Kind      string   `json:"kind"` // service, ingress, gateway, host-port, host-network
	Name      string   `json:"name"` // "shop/cart"
	Type      string   `json:"type,omitempty"`
	Hosts     []string `json:"hosts,omitempty"`     // of HTTP requests
	Paths     []string `json:"paths,omitempty"`     // of HTTP requests
	Addresses []string `json:"addresses,omitempty"` // where it listens
	Port      int      `json:"port"`                // that clients call
	Target    int      `json:"target"`              // of the pod, 0 if its name is not the specification's
	Protocol  string   `json:"protocol"`
	// Reach is how far it reaches: "outside" (a load balancer's or an ingress's address), "nodes" (any address of a node), "cluster".
	Reach string `json:"reach"`
	// Via are the ways before it: an ingress leads to a service.
	Via string `json:"via,omitempty"`
	// Sources are the networks that alone may call, where the service bounds them.
	Sources []string `json:"sources,omitempty"`
}

// NetworkPolicy is a policy that selects the pod.
type NetworkPolicy struct {
	Name    string   `json:"name"`
	Ingress string   `json:"ingress,omitempty"` // all, some, none; "" if it does not speak of it
	Egress  string   `json:"egress,omitempty"`
	Words   []string `json:"words"` // each rule, in words
}

// References are the secrets and config maps that the pod's specification names, never their contents: target/kubernetes/references.json.
type References struct {
	References []Reference `json:"references"`
}

// Reference is one of them, as it is used in one way.
type Reference struct {
	Kind string `json:"kind"` // secret, configmap
	Name string `json:"name"`
	// Keys are those that the specification names; empty: all of them.
	Keys []string `json:"keys,omitempty"`
	// As says how it is used: volume, projected, env, env-from, image-pull, csi, or volume-driver.
	As         string   `json:"as"`
	Paths      []string `json:"paths,omitempty"`      // where it is mounted
	Variables  []string `json:"variables,omitempty"`  // of the environment
	Containers []string `json:"containers,omitempty"` // which have it; empty: only the kubelet
	Optional   bool     `json:"optional,omitempty"`
}

// Siblings are other running containers of the same image: target/kubernetes/siblings.json.
type Siblings struct {
	Digest   string    `json:"digest"`
	Siblings []Sibling `json:"siblings"`
	// More is how many there are beside those listed.
	More   int      `json:"more,omitempty"`
	Missed []string `json:"missed,omitempty"`
}

// Sibling is one of them.
type Sibling struct {
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
	Container string `json:"container"`
	Node      string `json:"node"`
	ID        string `json:"id"` // the runtime's, without its scheme
	Account   string `json:"account"`
	Started   string `json:"started"` // RFC 3339
}

// Admission is what may have changed or judged the pod when it was made: target/kubernetes/admission.json.
type Admission struct {
	Webhooks []Webhook `json:"webhooks"`
	Traces   []Trace   `json:"traces"`
	Missed   []string  `json:"missed,omitempty"`
}

// Webhook is one that is asked about pods like this one.
type Webhook struct {
	Configuration string   `json:"configuration"` // "MutatingWebhookConfiguration/injector"
	Name          string   `json:"name"`
	Mutating      bool     `json:"mutating,omitempty"`
	Calls         string   `json:"calls"`      // a URL, or "service shop/injector:443/path"
	Operations    []string `json:"operations"` // on pods
	OnFailure     string   `json:"on_failure"` // Fail, Ignore
	// Conditions are CEL conditions that were not evaluated: it is asked if they hold.
	Conditions []string `json:"conditions,omitempty"`
}

// Trace is what a known injector leaves on a pod.
type Trace struct {
	By    string `json:"by"`   // "Istio"
	From  string `json:"from"` // the annotation, label or container
	Value string `json:"value"`
}
