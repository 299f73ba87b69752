package config

import (
	"encoding"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// setting is one value that flags and environment can set: its name in the file, and where it goes.
type setting struct {
	name   string // "limits.connections"
	target any    // *string, *bool, *int, *[]string or an encoding.TextUnmarshaler
}

// settings lists all of c but the consent list. A test compares it with the struct.
func (c *Config) settings() []setting {
	l, t := &c.Limits, &c.Timeouts
	return []setting{
		{"listen", &c.Listen},
		{"super", &c.Super},
		{"volunteer", &c.Volunteer},
		{"volunteer_after", &c.VolunteerAfter},
		{"tunnel", &c.Tunnel},
		{"routes", &c.Routes},
		{"portmap", &c.PortMap},
		{"sessions", &c.Sessions},
		{"advertise", &c.Advertise},
		{"keepalive", &c.Keepalive},
		{"announce_interval", &c.AnnounceInterval},
		{"record_expiry", &c.RecordExpiry},
		{"api", &c.API},
		{"socks", &c.SOCKS},
		{"socks_user", &c.SOCKSUser},
		{"socks_password", &c.SOCKSPassword},
		{"proxy", &c.Proxy},
		{"listen_https", &c.ListenHTTPS},
		{"listen_http", &c.ListenHTTP},
		{"relay", &c.Relay},
		{"audit_bind", &c.AuditBind},
		{"log.level", &c.Log.Level},
		{"log.format", &c.Log.Format},
		{"limits.tunnels", &l.Tunnels},
		{"limits.tunnels_per_node", &l.TunnelsPerNode},
		{"limits.tunnels_per_domain", &l.TunnelsPerDomain},
		{"limits.connections", &l.Connections},
		{"limits.relay_bytes_per_node", &l.RelayBytesPerNode},
		{"limits.relay_bytes_per_domain", &l.RelayBytesPerDomain},
		{"limits.relay_rate", &l.RelayRate},
		{"limits.relay_rate_per_node", &l.RelayRatePerNode},
		{"limits.relay_rate_per_domain", &l.RelayRatePerDomain},
		{"timeouts.open", &t.Open},
		{"timeouts.handshake", &t.Handshake},
		{"timeouts.device", &t.Device},
		{"timeouts.idle_connection", &t.IdleConnection},
		{"timeouts.idle_link", &t.IdleLink},
		{"timeouts.shutdown", &t.Shutdown},
	}
}

// envName is the environment variable of a setting.
func (s setting) envName() string {
	return "CULVERT_" + strings.ToUpper(strings.ReplaceAll(s.name, ".", "_"))
}

// set reads a value as a flag or a variable has it.
func (s setting) set(value string) error {
	switch t := s.target.(type) {
	case *string:
		*t = value
	case *bool:
		v, err := strconv.ParseBool(value)
		if err != nil {
			return fmt.Errorf("%.40q is neither true nor false", value)
		}
		*t = v
	case *int:
		v, err := strconv.Atoi(value)
		if err != nil {
			return fmt.Errorf("%.40q is not a whole number", value)
		}
		*t = v
	case *[]string:
		*t = splitList(value)
	case encoding.TextUnmarshaler:
		return t.UnmarshalText([]byte(value))
	default:
		return errors.New("cannot be set here, only in the file")
	}
	return nil
}

// splitList reads a list of a flag or a variable.
func splitList(value string) []string {
	list := []string{}
	for item := range strings.SplitSeq(value, ",") {
		if item = strings.TrimSpace(item); item != "" {
			list = append(list, item)
		}
	}
	return list
}
