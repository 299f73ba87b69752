package config

import (
	_ "embed"
	"time"
)

// Config is a node's configuration, complete and checked when it comes from [Load].
type Config struct {
	Listen           string   `toml:"listen"`            // HOST:PORT for UDP and TCP, host may be empty
	Super            bool     `toml:"super"`             // offer this node as a super-node
	Volunteer        bool     `toml:"volunteer"`         // offer this node by itself where it is reachable from the internet
	VolunteerAfter   Duration `toml:"volunteer_after"`   // for how long it must have been so
	Tunnel           bool     `toml:"tunnel"`            // serve end-devices of this LAN
	Routes           []string `toml:"routes"`            // best first, out of RouteNames
	PortMap          bool     `toml:"portmap"`           // ask routers to open the port
	Sessions         bool     `toml:"sessions"`          // talk in sessions
	Advertise        []string `toml:"advertise"`         // HOST[:PORT], super-nodes only; no port means that of Listen
	Keepalive        Duration `toml:"keepalive"`         // of a NAT's bindings; 0: as found by probing
	AnnounceInterval Duration `toml:"announce_interval"` // how often NodeInfo is announced
	RecordExpiry     Duration `toml:"record_expiry"`     // when an announced NodeInfo expires
	API              string   `toml:"api"`               // loopback HOST:PORT of the local API, empty for none
	SOCKS            string   `toml:"socks"`             // loopback HOST:PORT of the SOCKS5 server, empty for none
	SOCKSUser        string   `toml:"socks_user"`        // what its clients must know; both or none
	SOCKSPassword    string   `toml:"socks_password"`
	Proxy            string   `toml:"proxy"`        // HTTP proxy as a URL, empty for the environment's
	ListenHTTPS      string   `toml:"listen_https"` // HOST:PORT that is reached at port 443, AutoListen or NoListen
	ListenHTTP       string   `toml:"listen_http"`  // HOST:PORT that is reached at port 80, AutoListen or NoListen
	Relay            bool     `toml:"relay"`        // operators only: relay tunnels where no super-node can
	AuditBind        []string `toml:"audit_bind"`   // operators only: addresses of this machine that spies ask from
	Log              Log      `toml:"log"`
	Limits           Limits   `toml:"limits"`
	Timeouts         Timeouts `toml:"timeouts"`

	// Consent is what this agent agrees to serve. It only narrows, and an empty list narrows nothing except
	// what needs consent by itself: devices on this machine and at fixed addresses without a pin.
	Consent []Consent `toml:"consent"`

	// ListenSet says that somebody chose Listen. Otherwise a node takes any free port where 7700 is in use.
	ListenSet bool `toml:"-"`
}

// Words in the place of an address for ListenHTTPS and ListenHTTP.
const (
	AutoListen = "auto" // the well-known port of every address, where this node is a super-node on all of them and may bind it
	NoListen   = "off"
)

// Log says what is logged, and how.
type Log struct {
	Level  string `toml:"level"`  // debug, info, warn, error
	Format string `toml:"format"` // text, json
}

// Limits are caps; whoever is at one is refused and counted, and nobody else notices.
type Limits struct {
	Tunnels             int   `toml:"tunnels"`                // open tunnels on this node
	TunnelsPerNode      int   `toml:"tunnels_per_node"`       // open tunnels of one other node
	TunnelsPerDomain    int   `toml:"tunnels_per_domain"`     // open tunnels of one domain
	Connections         int   `toml:"connections"`            // TCP connections
	RelayBytesPerNode   Bytes `toml:"relay_bytes_per_node"`   // a day, 0 for no limit
	RelayBytesPerDomain Bytes `toml:"relay_bytes_per_domain"` // a day, 0 for no limit
	RelayRate           Bytes `toml:"relay_rate"`             // a second, 0 for no limit
	RelayRatePerNode    Bytes `toml:"relay_rate_per_node"`    // a second, 0 for no limit
	RelayRatePerDomain  Bytes `toml:"relay_rate_per_domain"`  // a second, 0 for no limit
}

// Timeouts bound every wait.
type Timeouts struct {
	Open           Duration `toml:"open"`            // an open in all
	Handshake      Duration `toml:"handshake"`       // a link's handshake, a relay's join
	Device         Duration `toml:"device"`          // an end-device's answer
	IdleConnection Duration `toml:"idle_connection"` // a tunnelled connection without a byte
	IdleLink       Duration `toml:"idle_link"`       // a link without a tunnelled connection
	Shutdown       Duration `toml:"shutdown"`        // a graceful stop
}

// Consent is one entry of the consent list: this agent serves the ports of a device to the nodes of the groups.
type Consent struct {
	Device string   `toml:"device"` // name or ID of a registered device
	Ports  []Port   `toml:"ports"`  // at least one
	Groups []string `toml:"groups"` // empty: whoever the device's record allows
}

// RouteNames returns the routes that this version knows, best first.
func RouteNames() []string { return []string{"lan", "direct", "mapped", "punched", "relayed"} }

// Default returns the configuration of a node on which nobody has set anything.
func Default() Config {
	return Config{
		Listen:           ":7700",
		Volunteer:        true,
		VolunteerAfter:   Duration(5 * time.Minute),
		Tunnel:           true,
		Routes:           RouteNames(),
		PortMap:          true,
		Sessions:         true,
		Advertise:        []string{},
		AuditBind:        []string{},
		AnnounceInterval: Duration(5 * time.Minute),
		RecordExpiry:     Duration(10 * time.Minute),
		ListenHTTPS:      AutoListen,
		ListenHTTP:       AutoListen,
		Log:              Log{Level: "info", Format: "text"},
		Limits: Limits{
			Tunnels:             20000,
			TunnelsPerNode:      1000,
			TunnelsPerDomain:    10000,
			Connections:         8192,
			RelayBytesPerNode:   256 << 30,
			RelayBytesPerDomain: 4 << 40,
		},
		Timeouts: Timeouts{
			Open:           Duration(30 * time.Second),
			Handshake:      Duration(10 * time.Second),
			Device:         Duration(10 * time.Second),
			IdleConnection: Duration(time.Hour),
			IdleLink:       Duration(10 * time.Minute),
			Shutdown:       Duration(5 * time.Second),
		},
	}
}

//go:embed example.toml
var example string

// Example returns an annotated config.toml that names every setting with its default.
func Example() string { return example }
