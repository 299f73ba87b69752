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
	Listen      []string     `json:"listen"`          // addresses for messages and tunnels
	SOCKS       string       `json:"socks,omitempty"` // HOST:PORT of the SOCKS5 server, absent where there is none
	Roles       []string     `json:"roles"`           // user, tunnel, super
	Memberships []Membership `json:"memberships"`     // empty before the first join
	Tunnels     int          `json:"tunnels"`         // open ones, of either end
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
	SuperNodes []SuperNode `json:"super_nodes"`
}

// SuperNode is a super-node that this agent talks to.
type SuperNode struct {
	ID           string  `json:"id"`
	Address      string  `json:"address"`
	Milliseconds float64 `json:"milliseconds"` // round trip, 0 before the first answer
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
	Here        bool     `json:"here"`              // at a location of this machine
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
	Milliseconds float64   `json:"milliseconds"` // from the request to the device's answer
	Connections  int       `json:"connections"`  // open now
	BytesIn      int64     `json:"bytes_in"`     // from the device
	BytesOut     int64     `json:"bytes_out"`    // to the device
	Caller       Caller    `json:"caller"`       // who opened it
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
