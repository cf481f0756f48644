package record

// Address is one address of an interface, "10.0.0.2/24".
type Address struct {
	Prefix string `json:"prefix"`
	Scope  uint8  `json:"scope,omitempty"` // RT_SCOPE_…, 0 is global
	Flags  uint32 `json:"flags,omitempty"` // IFA_F_…
}

// Interface is one line of network/interfaces.jsonl. Counters are those of the kernel since the interface was made.
type Interface struct {
	Namespace uint64    `json:"namespace"` // inode number of the network namespace
	Index     int       `json:"index"`
	Name      Name      `json:"name"`
	Kind      string    `json:"kind,omitempty"` // veth, bridge, vlan …
	MAC       string    `json:"mac,omitempty"`
	MTU       uint32    `json:"mtu"`
	Flags     uint32    `json:"flags"` // IFF_…, 0x100 is promiscuous
	State     uint8     `json:"state"` // IF_OPER_…
	Link      int       `json:"link,omitempty"`
	Master    int       `json:"master,omitempty"`
	Addresses []Address `json:"addresses,omitempty"`
	// Promiscuity counts who asked for all packets of the wire.
	Promiscuity     uint32 `json:"promiscuity,omitempty"`
	BytesReceived   uint64 `json:"bytes_received"`
	BytesSent       uint64 `json:"bytes_sent"`
	PacketsReceived uint64 `json:"packets_received"`
	PacketsSent     uint64 `json:"packets_sent"`
	Observed        int64  `json:"observed"`
}

// Route is one line of network/routes.jsonl; with Rule set it is a policy rule that chooses the table.
type Route struct {
	Namespace   uint64 `json:"namespace"`
	Rule        bool   `json:"rule,omitempty"`
	Family      string `json:"family"` // inet, inet6
	Destination string `json:"destination,omitempty"`
	Source      string `json:"source,omitempty"`
	Gateway     string `json:"gateway,omitempty"`
	Preferred   string `json:"preferred,omitempty"` // source address chosen for packets that take it
	Interface   int    `json:"interface,omitempty"`
	Table       uint32 `json:"table"`
	Protocol    uint8  `json:"protocol"` // RTPROT_…: 2 kernel, 3 boot, 4 static, 16 DHCP
	Scope       uint8  `json:"scope"`
	Type        uint8  `json:"type"` // RTN_…: 1 unicast, 2 local, 6 blackhole; of a rule FR_ACT_…
	Priority    uint32 `json:"priority,omitempty"`
	Mark        uint32 `json:"mark,omitempty"`
	Observed    int64  `json:"observed"`
}

// Neighbour is one line of network/neighbours.jsonl.
type Neighbour struct {
	Namespace uint64 `json:"namespace"`
	IP        string `json:"ip"`
	MAC       string `json:"mac,omitempty"`
	Interface int    `json:"interface"`
	State     uint16 `json:"state"` // NUD_…: 2 reachable, 4 stale, 32 failed, 64 noarp, 128 permanent
	Observed  int64  `json:"observed"`
}

// Flow is one direction of a tracked connection. Packets and bytes are 0 unless the kernel accounts them.
type Flow struct {
	Source          string `json:"source"`
	Destination     string `json:"destination"`
	SourcePort      int    `json:"source_port,omitempty"`
	DestinationPort int    `json:"destination_port,omitempty"`
	Packets         uint64 `json:"packets,omitempty"`
	Bytes           uint64 `json:"bytes,omitempty"`
}

// Connection is one line of network/conntrack.jsonl. The kernel keeps flows that ended for a while, so this shows
// connections that no socket shows any more.
type Connection struct {
	// Namespace is where it was tracked: the container's own network namespace, or the host's, where the container's
	// traffic is forwarded and translated; of the host's only what concerns the container's addresses is kept.
	Namespace uint64 `json:"namespace"`
	Host      bool   `json:"host,omitempty"`
	Family    string `json:"family"`
	Protocol  string `json:"protocol"`
	Original  Flow   `json:"original"`
	Reply     Flow   `json:"reply"`
	State     string `json:"state,omitempty"` // of a TCP connection
	Status    uint32 `json:"status"`          // IPS_…: 2 reply seen, 8 confirmed, 16 source NAT, 32 destination NAT
	Timeout   uint32 `json:"timeout"`         // seconds until the kernel forgets it
	Mark      uint32 `json:"mark,omitempty"`
	Started   int64  `json:"started,omitempty"` // known only with nf_conntrack_timestamp
	Observed  int64  `json:"observed"`
}
