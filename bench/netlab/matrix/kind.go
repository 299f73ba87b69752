package matrix

// Kind names how a site is connected; package lab has routers of that name.
type Kind string

// The kinds, in the order of tables.
const (
	Open           Kind = "open"
	UPnP1          Kind = "upnp-v1"
	UPnP2          Kind = "upnp-v2"
	NATPMP         Kind = "nat-pmp"
	PCP            Kind = "pcp"
	FullCone       Kind = "full-cone"
	Restricted     Kind = "restricted"
	PortRestricted Kind = "port-restricted"
	PortHashed     Kind = "port-hashed"
	Carrier        Kind = "carrier"
	DualStack      Kind = "dual-stack"
	IPv6Only       Kind = "ipv6-only"
	Sequential     Kind = "sequential"
	Symmetric      Kind = "symmetric"
	UDPBlocked     Kind = "udp-blocked"
	HTTPSOnly      Kind = "https-only"
	ProxyOnly      Kind = "proxy-only"
)

// Each kind has two sites, which are named by whose they are.
const (
	userSide   = "user"
	deviceSide = "device"
)

// Mapping is how a site's router chooses outside ports.
type Mapping int

// Independent also stands for routers that do not translate.
const (
	Independent Mapping = iota
	InSequence
	ByChance
)

// Traits are what follows from a kind for those who want to reach the site.
type Traits struct {
	V4, V6   bool // families that lead out
	UDP      bool // it gets out
	AnyPort  bool // TCP gets out to any port, not only to 443 (and 80)
	Open     bool // everybody reaches its ports, in all its families
	Maps     bool // the router opens IPv4 ports on request
	Mapping  Mapping
	Netcheck string // what the netcheck command calls it
}

var traits = map[Kind]Traits{
	Open:           {V4: true, V6: true, UDP: true, AnyPort: true, Open: true, Netcheck: "open"},
	UPnP1:          {V4: true, UDP: true, AnyPort: true, Maps: true, Netcheck: "port_restricted"},
	UPnP2:          {V4: true, UDP: true, AnyPort: true, Maps: true, Netcheck: "port_restricted"},
	NATPMP:         {V4: true, UDP: true, AnyPort: true, Maps: true, Netcheck: "port_restricted"},
	PCP:            {V4: true, UDP: true, AnyPort: true, Maps: true, Netcheck: "port_restricted"},
	FullCone:       {V4: true, UDP: true, AnyPort: true, Netcheck: "full_cone"},
	Restricted:     {V4: true, UDP: true, AnyPort: true, Netcheck: "restricted"},
	PortRestricted: {V4: true, UDP: true, AnyPort: true, Netcheck: "port_restricted"},
	PortHashed:     {V4: true, UDP: true, AnyPort: true, Netcheck: "port_restricted"},
	Carrier:        {V4: true, UDP: true, AnyPort: true, Netcheck: "carrier_nat"},
	DualStack:      {V4: true, V6: true, UDP: true, AnyPort: true, Netcheck: "port_restricted"},
	IPv6Only:       {V6: true, UDP: true, AnyPort: true, Netcheck: "ipv6_only"},
	Sequential:     {V4: true, UDP: true, AnyPort: true, Mapping: InSequence, Netcheck: "symmetric_sequential"},
	Symmetric:      {V4: true, UDP: true, AnyPort: true, Mapping: ByChance, Netcheck: "symmetric_random"},
	UDPBlocked:     {V4: true, Netcheck: "udp_blocked"},
	HTTPSOnly:      {V4: true, Netcheck: "443_only"},
	ProxyOnly:      {V4: true, Netcheck: "proxy_only"},
}

// Kinds are all kinds, in the order of tables.
func Kinds() []Kind {
	return []Kind{Open, UPnP1, UPnP2, NATPMP, PCP, FullCone, Restricted, PortRestricted, PortHashed, Carrier, DualStack, IPv6Only,
		Sequential, Symmetric, UDPBlocked, HTTPSOnly, ProxyOnly}
}

// Traits of the kind; of one that does not exist nothing works.
func (k Kind) Traits() Traits { return traits[k] }
