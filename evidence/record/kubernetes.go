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
	Missed   []string     `json:"missed,omitempty"`
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
	From     string `json:"from"`     // the annotation or label
}

// Exposure is who reaches the pod by what the cluster is told: target/kubernetes/exposure.json.
type Exposure struct {
	Ways     []Way           `json:"ways"`
	Policies []NetworkPolicy `json:"policies"`
	// Ingress and Egress say what the policies leave: "all", "some", "none". A network plugin that does not know policies lets all pass.
	Ingress string   `json:"ingress"`
	Egress  string   `json:"egress"`
	Missed  []string `json:"missed,omitempty"`
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
}

// NetworkPolicy is a policy that selects the pod.
type NetworkPolicy struct {
	Name    string   `json:"name"`
	Ingress string   `json:"ingress,omitempty"` // all, some, none; "" if it does not speak of it
	Egress  string   `json:"egress,omitempty"`
	Words   []string `json:"words"` // each rule, in words
}
