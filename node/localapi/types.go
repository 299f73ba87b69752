package localapi

import (
	"time"

	"culvert/node/localapi/ipc"
)

// Caller is who made a request. On loopback the operating system does not tell, and Program is the peer's address.
type Caller = ipc.Caller

// Version says what is running.
type Version struct {
	Version string `json:"version"` // of culvert
	API     string `json:"api"`     // of this API, "v1"
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

// Status is the agent at a glance.
type Status struct {
	Version     string       `json:"version"`
	PID         int          `json:"pid"`
	Started     time.Time    `json:"started"`
	Listen      []string     `json:"listen"`          // addresses for messages and tunnels, then those at web ports
	SOCKS       string       `json:"socks,omitempty"` // HOST:PORT of the SOCKS5 server, absent where there is none
	Roles       []string     `json:"roles"`           // user, tunnel, super
	Memberships []Membership `json:"memberships"`     // empty before the first join
	Tunnels     int          `json:"tunnels"`         // open ones, of either end
	Messages    Messages     `json:"messages"`
	// PortMappings are what came of asking the router to open the agent's port; empty where it is not asked.
	PortMappings []PortMapping `json:"port_mappings"`
	OpenFiles    OpenFiles     `json:"open_files"`
}

// OpenFiles is how many file descriptors the agent may have, and what that means for connections.
type OpenFiles struct {
	Limit       int   `json:"limit"`       // 0 where there is none
	Connections int   `json:"connections"` // at once, at most
	Refused     int64 `json:"refused"`     // connections, for want of descriptors
	Few         bool  `json:"few"`         // fewer connections than limits.connections allows
}

// Messages says by what an agent's messages travel now.
type Messages struct {
	Carrier string `json:"carrier"`           // udp, tls, websocket; empty where nobody answers
	Address string `json:"address,omitempty"` // HOST:PORT that is reached by tls or websocket
	Proxy   string `json:"proxy,omitempty"`   // HOST:PORT of the HTTP proxy on the way there
}

// Membership is this agent's place in one domain.
type Membership struct {
	Domain     string      `json:"domain"`    // name
	DomainID   string      `json:"domain_id"` // 8 hex digits
	NodeID     string      `json:"node_id"`   // 72 hex digits
	Name       string      `json:"name"`      // of this node
	Groups     []string    `json:"groups"`
	State      string      `json:"state"` // active, expired, revoked, banned
	Expires    time.Time   `json:"expires"`
	Operator   string      `json:"operator"` // HOST:PORT of enrolment and renewal
	Keeper     bool        `json:"keeper"`   // keeps bindings at its location, so that it is reached from outside; false: others there do
	SuperNodes []SuperNode `json:"super_nodes"`
}

// SuperNode is a super-node that this agent uses, and why.
type SuperNode struct {
	ID           string   `json:"id"`
	Address      string   `json:"address"`
	Milliseconds float64  `json:"milliseconds"` // round trip, 0 before the first answer
	State        string   `json:"state"`        // unknown, ok, busy, suspected, isolated
	Reasons      []string `json:"reasons"`      // why it is used: home, own_domain, operator, serves_domain, nearest
}

// Location is a network that this machine is in, as one domain names it.
type Location struct {
	ID        string `json:"id"` // 64 hex digits
	Domain    string `json:"domain"`
	Interface string `json:"interface"`
	Prefix    string `json:"prefix"`  // 192.0.2.0/24
	Gateway   string `json:"gateway"` // address of the router
}

// Device is a registered end-device.
type Device struct {
	ID          string   `json:"id"` // 72 hex digits
	Name        string   `json:"name"`
	Domain      string   `json:"domain"`
	MAC         string   `json:"mac,omitempty"`
	Address     string   `json:"address,omitempty"` // fixed address
	Node        string   `json:"node,omitempty"`    // ID of the node on which it runs
	Ports       []string `json:"ports"`             // "631", "161/udp"
	Locations   []string `json:"locations"`
	Groups      []string `json:"groups"`            // who may open it, empty for every node of the domain
	TLSKey      string   `json:"tls_key,omitempty"` // pinned SHA-256, 64 hex digits
	Here        bool     `json:"here"`              // at a location of this machine, or on it
	TunnelNodes int      `json:"tunnel_nodes"`      // announced at its locations
}

// DeviceQuery says which devices are asked for.
type DeviceQuery struct {
	Domain  string // name, empty for all
	Refresh bool   // ask super-nodes instead of answering from what is remembered
}

// Tunnel is a local address that leads to a device's port.
type Tunnel struct {
	ID           string    `json:"id"`
	Device       string    `json:"device"` // name
	DeviceID     string    `json:"device_id"`
	Domain       string    `json:"domain"`
	Port         string    `json:"port"`        // "631", "161/udp"
	Local        string    `json:"local"`       // HOST:PORT to connect to, empty for those of the SOCKS5 server
	Route        string    `json:"route"`       // in use now: lan, direct, mapped, punched, relayed
	TunnelNode   string    `json:"tunnel_node"` // ID of the node at the device's end
	Relay        string    `json:"relay,omitempty"`
	Persist      bool      `json:"persist"` // the same local port again after a restart
	State        string    `json:"state"`   // up, down
	Opened       time.Time `json:"opened"`
	Milliseconds float64   `json:"milliseconds"`    // from the request to the device's answer
	Connections  int       `json:"connections"`     // open now
	BytesIn      int64     `json:"bytes_in"`        // from the device
	BytesOut     int64     `json:"bytes_out"`       // to the device
	Caller       Caller    `json:"caller"`          // who opened it
	End          string    `json:"end"`             // "user": this node's users opened it
	Error        string    `json:"error,omitempty"` // of the latest connection that failed
	Receipt      Receipt   `json:"receipt"`
}

// Receipt is what was tried for a tunnel, and what came of it.
type Receipt struct {
	Attempts     []Attempt `json:"attempts"`     // of the latest race that found a way, in the order of their start
	Races        int       `json:"races"`        // that found a way, or had to and did not
	Milliseconds float64   `json:"milliseconds"` // from the start of the race to the first way
	Connections  int64     `json:"connections"`  // so far; of UDP ports, local addresses that sent
	BytesIn      int64     `json:"bytes_in"`     // from the device
	BytesOut     int64     `json:"bytes_out"`    // to the device
	Dropped      int64     `json:"dropped"`      // datagrams for which there was no room
}

// Attempt is one route to one node that was tried. Without an error it worked.
type Attempt struct {
	Route  string  `json:"route"`
	Node   string  `json:"node"`            // the tunnel-node; this node itself where it reaches the device
	Relay  string  `json:"relay,omitempty"` // ID of the super-node
	After  float64 `json:"after_ms"`        // started so long after the race
	Took   float64 `json:"took_ms"`
	Shared bool    `json:"shared,omitempty"` // over a link that was there, or made for another tunnel
	Error  string  `json:"error,omitempty"`  // why it was not taken
}

// Served is what this node carries, or carried lately, for another node as tunnel-node: the other end's receipt.
type Served struct {
	End         string    `json:"end"`       // "tunnel"
	UserNode    string    `json:"user_node"` // ID of the node whose user opened it
	Device      string    `json:"device"`    // name, empty where it is not known by now
	DeviceID    string    `json:"device_id"`
	Domain      string    `json:"domain"`
	Port        string    `json:"port"`
	Route       string    `json:"route"`
	TunnelNode  string    `json:"tunnel_node"` // ID of this node
	Relay       string    `json:"relay,omitempty"`
	State       string    `json:"state"`             // up while connections are open, else down
	Opened      time.Time `json:"opened"`            // when its first connection came
	Last        time.Time `json:"last"`              // when its last one came or went
	Connections int       `json:"connections"`       // open now
	Total       int64     `json:"total_connections"` // that have ended
	Failed      int64     `json:"failed"`            // of those
	Bytes       int64     `json:"bytes"`             // both ways
	Error       string    `json:"error,omitempty"`   // of the last one that failed
}

// OpenRequest asks for a tunnel. The backend gets it checked and with the domain taken out of Device.
type OpenRequest struct {
	Device  string `json:"device"`            // name, NAME@DOMAIN or ID
	Domain  string `json:"domain,omitempty"`  // where a name is in several
	Port    string `json:"port"`              // "631", "161/udp"
	Route   string `json:"route,omitempty"`   // only this one
	Local   string `json:"local,omitempty"`   // loopback HOST:PORT to listen at, port 0 or empty for any
	Persist bool   `json:"persist,omitempty"` // keep it, with the same local port, until it is closed
}

// JoinRequest enrols this node in the token's domain.
type JoinRequest struct {
	Token string `json:"token"`
	Name  string `json:"name,omitempty"` // of this node, the host name if empty
}

// LeaveRequest ends a membership.
type LeaveRequest struct {
	Domain string `json:"domain,omitempty"` // name or ID; may be empty where there is one membership
}

// EventType says what happened.
type EventType string

// Kinds of event.
const (
	DeviceFound EventType = "device_found"
	DeviceLost  EventType = "device_lost"
	DeviceMoved EventType = "device_moved"
	TunnelUp    EventType = "tunnel_up"
	TunnelDown  EventType = "tunnel_down"
	Dropped     EventType = "dropped" // the listener was too slow, see Event.Dropped
)

// Event is something that apps may want to know at once.
type Event struct {
	Sequence  uint64    `json:"sequence"` // grows by one for each event of this agent's life
	Type      EventType `json:"type"`
	Time      time.Time `json:"time"`
	Domain    string    `json:"domain,omitempty"`
	Device    string    `json:"device,omitempty"` // name
	DeviceID  string    `json:"device_id,omitempty"`
	Locations []string  `json:"locations,omitempty"` // where the device is now
	Tunnel    *Tunnel   `json:"tunnel,omitempty"`
	Reason    string    `json:"reason,omitempty"`  // of tunnel_down, for people
	Dropped   int       `json:"dropped,omitempty"` // events lost before this one
}

// Netcheck is what stands between this machine and the internet, measured just now.
type Netcheck struct {
	Kind              string          `json:"kind"`    // of site: open, port_restricted, carrier_nat, …
	Traits            []string        `json:"traits"`  // dual_stack, upnp, nat_pmp, pcp, the behaviour behind a carrier's NAT
	Summary           string          `json:"summary"` // both in people's words
	Measured          time.Time       `json:"measured"`
	UDP               string          `json:"udp"`     // yes, no, unknown
	Carrier           string          `json:"carrier"` // of messages now: udp, tls, websocket; empty where nobody answers
	Proxy             bool            `json:"proxy"`   // it goes through an HTTP proxy
	IPv4              NetcheckFamily  `json:"ipv4"`
	IPv6              NetcheckFamily  `json:"ipv6"`
	CarrierNAT        string          `json:"carrier_nat"` // yes, no, unknown
	KeepaliveSeconds  float64         `json:"keepalive_seconds"`
	KeepaliveMeasured bool            `json:"keepalive_measured"` // false: as configured, else a safe default
	Servers           []NetcheckProbe `json:"servers"`
	PortMappings      []PortMapping   `json:"port_mappings"`
	Routes            []NetcheckRoute `json:"routes"` // best first
	Advice            []string        `json:"advice"` // what it would take to do better
}

// NetcheckFamily is what was found out for IPv4 or IPv6.
type NetcheckFamily struct {
	Works     bool     `json:"works"`     // over UDP
	Addresses []string `json:"addresses"` // of this machine
	NAT       string   `json:"nat"`       // yes, no, unknown
	Mapped    string   `json:"mapped,omitempty"`
	Mapping   string   `json:"mapping"` // endpoint_independent, sequential, random, unknown
	Step      int      `json:"step,omitempty"`
	Filtering string   `json:"filtering"` // endpoint_independent, address_dependent, address_and_port_dependent, unknown
	Hairpin   string   `json:"hairpin"`   // yes, no, unknown
}

// NetcheckProbe is how one super-node or operator sees this node.
type NetcheckProbe struct {
	ID           string  `json:"id"`
	Address      string  `json:"address"`
	Mapped       string  `json:"mapped,omitempty"` // missing where it did not answer
	Milliseconds float64 `json:"milliseconds"`
}

// PortMapping is a port that the router was asked to open.
type PortMapping struct {
	Protocol  string `json:"protocol"`           // upnp, nat_pmp, pcp
	Transport string `json:"transport"`          // tcp, udp
	External  string `json:"external,omitempty"` // HOST:PORT outside, as the router tells
	State     string `json:"state"`              // mapped (a super-node has reached it), unverified, failed
	Reason    string `json:"reason,omitempty"`   // of what is not mapped
}

// NetcheckRoute says what to expect of one route.
type NetcheckRoute struct {
	Route  string `json:"route"`  // lan, direct, mapped, punched, relayed
	Expect string `json:"expect"` // yes, likely, unlikely, no
	Why    string `json:"why"`
}
