package operator

import (
	"encoding/hex"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"culvert/protocol"
)

// DeviceSpec describes an end-device, as the admin API, the command line and CSV files do.
type DeviceSpec struct {
	Name      string   `json:"name"`
	Domain    string   `json:"domain,omitempty"`
	MAC       string   `json:"mac,omitempty"`     // exactly one of mac, address and node
	Address   string   `json:"address,omitempty"` // fixed, on another subnet than the workstations
	Node      string   `json:"node,omitempty"`    // ID or name of the node on whose machine it runs
	Ports     []string `json:"ports"`             // 631, 161/udp, 9100=GROUP+GROUP for a port that only those groups open
	Locations []string `json:"locations,omitempty"`
	At        string   `json:"at,omitempty"` // ID or name of a node whose announced locations are taken
	TLSKey    string   `json:"tls_key,omitempty"`
	Allow     []string `json:"allow,omitempty"`
}

// DevicePatch changes what it names.
type DevicePatch struct {
	Name      *string   `json:"name,omitempty"`
	MAC       *string   `json:"mac,omitempty"`
	Address   *string   `json:"address,omitempty"`
	Node      *string   `json:"node,omitempty"`
	Ports     *[]string `json:"ports,omitempty"`
	Locations *[]string `json:"locations,omitempty"`
	At        *string   `json:"at,omitempty"`
	TLSKey    *string   `json:"tls_key,omitempty"` // empty: no pin any more
	Allow     *[]string `json:"allow,omitempty"`
}

// apply lays the patch over what is registered. A new target (MAC, address or node) takes the old one's place.
func (p DevicePatch) apply(s DeviceSpec) DeviceSpec {
	set := func(dst *string, v *string) {
		if v != nil {
			*dst = *v
		}
	}
	list := func(dst *[]string, v *[]string) {
		if v != nil {
			*dst = *v
		}
	}
	if p.MAC != nil || p.Address != nil || p.Node != nil {
		s.MAC, s.Address, s.Node = "", "", ""
	}
	set(&s.Name, p.Name)
	set(&s.MAC, p.MAC)
	set(&s.Address, p.Address)
	set(&s.Node, p.Node)
	set(&s.TLSKey, p.TLSKey)
	list(&s.Ports, p.Ports)
	list(&s.Allow, p.Allow)
	if p.Locations != nil || p.At != nil {
		s.Locations, s.At = nil, ""
	}
	list(&s.Locations, p.Locations)
	set(&s.At, p.At)
	return s
}

// specOf is the description that gives v again.
func specOf(v protocol.EndDeviceValue) DeviceSpec {
	s := DeviceSpec{Name: v.Name, Allow: v.Allow, TLSKey: hex.EncodeToString(v.TLSPin), Ports: []string{}}
	if len(v.MAC) > 0 {
		s.MAC = net.HardwareAddr(v.MAC).String()
	}
	if v.Address.IsValid() {
		s.Address = v.Address.String()
	}
	if !v.Node.IsZero() {
		s.Node = v.Node.String()
	}
	for _, p := range v.Ports {
		t := p.String()
		if len(p.Allow) > 0 {
			t += "=" + strings.Join(p.Allow, "+")
		}
		s.Ports = append(s.Ports, t)
	}
	for _, l := range v.Locations {
		s.Locations = append(s.Locations, hex.EncodeToString(l[:]))
	}
	return s
}

// value checks everything that needs no registry; node and locations of At are filled in by the caller.
func (s DeviceSpec) value() (protocol.EndDeviceValue, error) {
	v := protocol.EndDeviceValue{Name: s.Name, Allow: s.Allow}
	if err := protocol.CheckName(s.Name); err != nil {
		return v, invalid("device %v", err)
	}
	targets := 0
	for _, t := range []string{s.MAC, s.Address, s.Node} {
		if t != "" {
			targets++
		}
	}
	if targets != 1 {
		return v, invalid("device %s needs exactly one of MAC, address and node; it has %d", s.Name, targets)
	}
	var err error
	if s.MAC != "" {
		if v.MAC, err = parseMAC(s.MAC); err != nil {
			return v, err
		}
	}
	if s.Address != "" {
		if v.Address, err = parseTarget(s.Address); err != nil {
			return v, err
		}
	}
	if v.Ports, err = parsePorts(s.Ports); err != nil {
		return v, err
	}
	if s.At != "" && len(s.Locations) > 0 {
		return v, invalid("give locations or a node that is there, not both")
	}
	if v.Locations, err = parseLocations(s.Locations); err != nil {
		return v, err
	}
	if len(v.Locations) == 0 && s.At == "" && s.Node == "" {
		return v, invalid("device %s has no location; `culvert location` on a computer beside it prints the ID, or name such a computer's node", s.Name)
	}
	if s.TLSKey != "" {
		if v.TLSPin, err = hex.DecodeString(strings.ReplaceAll(s.TLSKey, ":", "")); err != nil || len(v.TLSPin) != 32 {
			return v, invalid("TLS key %.80q is not the SHA-256 of a key: 64 hex digits", s.TLSKey)
		}
	}
	if err := protocol.CheckGroups(s.Allow); err != nil {
		return v, invalid("allow: %v", err)
	}
	return v, nil
}

func parseMAC(s string) ([]byte, error) {
	m, err := net.ParseMAC(s)
	if err != nil || len(m) != 6 {
		return nil, invalid("MAC %.40q is not six bytes such as 00:11:22:aa:bb:cc", s)
	}
	if m[0]&1 != 0 || slices.Equal(m, make([]byte, 6)) {
		return nil, invalid("MAC %s is not one device's", m)
	}
	return m, nil
}

// parseTarget refuses every address through which a tunnel could reach the tunnel-node itself or something else than one device.
func parseTarget(s string) (netip.Addr, error) {
	ip, err := netip.ParseAddr(s)
	if err != nil {
		return ip, invalid("address %.60q is not an IP address", s)
	}
	if ip.Zone() != "" {
		return ip, invalid("address %.60q: an address with a zone is link-local, which no tunnel reaches", s)
	}
	ip = ip.Unmap()
	for _, never := range []struct {
		prefix, why string
	}{
		{"0.0.0.0/8", "unspecified"}, {"127.0.0.0/8", "loopback"}, {"169.254.0.0/16", "link-local"}, {"224.0.0.0/4", "multicast"},
		{"240.0.0.0/4", "reserved"}, {"::/96", "unspecified, loopback or IPv4-compatible"}, {"64:ff9b::/96", "a translated IPv4 address"},
		{"64:ff9b:1::/48", "a translated IPv4 address"}, {"2002::/16", "a translated IPv4 address"}, {"fe80::/10", "link-local"}, {"fec0::/10", "site-local"}, {"ff00::/8", "multicast"},
	} {
		if netip.MustParsePrefix(never.prefix).Contains(ip) {
			return ip, invalid("address %s is %s, which no tunnel reaches", ip, never.why)
		}
	}
	return ip, nil
}

func parsePorts(list []string) ([]protocol.Port, error) {
	if len(list) == 0 {
		return nil, invalid("no port: a tunnel reaches registered ports only")
	}
	if len(list) > protocol.MaxPorts {
		return nil, invalid("%d ports, at most %d", len(list), protocol.MaxPorts)
	}
	var out []protocol.Port
	for _, s := range list {
		p, err := parsePort(s)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(out, func(o protocol.Port) bool { return o.Number == p.Number && o.Protocol == p.Protocol }) {
			return nil, invalid("port %s twice", p)
		}
		out = append(out, p)
	}
	return out, nil
}

func parsePort(s string) (protocol.Port, error) {
	p := protocol.Port{Protocol: protocol.TCP}
	text, groups, narrowed := strings.Cut(s, "=")
	number, proto, named := strings.Cut(text, "/")
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != number {
		return p, invalid("port %.40q is not a number from 1 to 65535, with /udp where it is UDP", s)
	}
	p.Number = uint16(n)
	if named {
		switch proto {
		case "tcp":
		case "udp":
			p.Protocol = protocol.UDP
		default:
			return p, invalid("port %.40q: the protocol is tcp or udp", s)
		}
	}
	if narrowed {
		p.Allow = strings.Split(groups, "+")
		if err := protocol.CheckGroups(p.Allow); err != nil {
			return p, invalid("port %.40q: %v", s, err)
		}
	}
	return p, nil
}

func parseLocations(list []string) ([]protocol.Hash, error) {
	if len(list) > protocol.MaxLocations {
		return nil, invalid("%d locations, at most %d", len(list), protocol.MaxLocations)
	}
	var out []protocol.Hash
	for _, s := range list {
		b, err := hex.DecodeString(s)
		if err != nil || len(b) != 32 {
			return nil, invalid("location %.80q is not 64 hex digits as `culvert location` prints them", s)
		}
		if slices.Contains(out, protocol.Hash(b)) {
			return nil, invalid("location %s twice", s)
		}
		out = append(out, protocol.Hash(b))
	}
	return out, nil
}
