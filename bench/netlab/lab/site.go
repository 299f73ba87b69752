//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// SiteConfig describes a customer's premises, or a provider's NAT that stands
// before them.
type SiteConfig struct {
	Name string
	Kind Kind
	// WAN are the router's own addresses with their prefix lengths: an IPv4
	// one, an IPv6 one, or both.
	WAN  netip.Prefix
	WAN6 netip.Prefix
	// LANs are the router's own addresses on its inner networks, lan0 first.
	// The router routes between them.
	LANs []netip.Prefix
	// LANs6 are its IPv6 addresses there, in the same order; the internet
	// routes to these networks.
	LANs6 []netip.Prefix
	// MAC is the router's hardware address on lan0, if it matters: routers of
	// two sites may have the same.
	MAC net.HardwareAddr
	// Behind is the site on whose lan0 this router's wan is; nil is the
	// internet itself.
	Behind *Site
	// Proxy is the address of the one host that a ProxyOnly router lets out.
	Proxy netip.Addr
	// Path is the way to the internet of a site that is behind no other; nil is a short cable.
	Path *Path
}

// A Site is a router with its inner networks. What happens to one site is
// ordered by one goroutine.
type Site struct {
	Name string
	Kind Kind
	// WAN is the router's own outside IPv4 address; Reboot may change it.
	// Behind a carrier it is not the one that the internet sees: that is Public.
	WAN    netip.Addr
	Router *Host

	lab    *Lab
	config SiteConfig
	port   string // of the core, or of the site that this one is behind
	wan    netip.Prefix
	mapper *Process
	boots  int
}

// Site adds a site to the lab. Where its kind has a port mapper, it answers.
func (l *Lab) Site(c SiteConfig) (*Site, error) {
	router, err := l.newHost(c.Name + "-router")
	if err != nil {
		return nil, err
	}
	s := &Site{Name: c.Name, Kind: c.Kind, Router: router, lab: l, config: c, wan: c.WAN, WAN: c.WAN.Addr()}
	if err := s.build(); err != nil {
		return nil, fmt.Errorf("site %s: %w", c.Name, err)
	}
	return s, nil
}

func (s *Site) build() error {
	c := s.config
	if len(kindRules[c.Kind]) == 0 {
		return fmt.Errorf("there is no kind of router %q", c.Kind)
	}
	if err := s.Router.forward(); err != nil {
		return err
	}
	if err := s.connect(); err != nil {
		return err
	}
	for i := range max(len(c.LANs), len(c.LANs6)) {
		if err := s.Router.bridge(lanName(i), s.RouterMAC(i)); err != nil {
			return err
		}
	}
	for i, lan := range c.LANs {
		if err := s.addLAN(i, lan, c.Kind == Open, s.wan.Addr()); err != nil {
			return err
		}
	}
	for i, lan := range c.LANs6 {
		if err := s.addLAN(i, lan, true, c.WAN6.Addr()); err != nil {
			return err
		}
	}
	if err := s.loadRules(); err != nil {
		return err
	}
	return s.startMapper()
}

// connect lays the cable from the router's wan to whatever is outside.
func (s *Site) connect() error {
	if up := s.config.Behind; up != nil {
		s.port = s.lab.nextPort()
		if err := s.Router.veth("wan", macOf(s.Router.name, "wan"), up.Router, s.port, macOf(up.Router.name, s.port)); err != nil {
			return err
		}
		return errors.Join(
			up.Router.plug(s.port, lanName(0)),
			s.Router.address("wan", s.wan),
			s.Router.route(netip.Prefix{}, up.config.LANs[0].Addr()),
		)
	}
	var wan []netip.Prefix
	for _, p := range []netip.Prefix{s.wan, s.config.WAN6} {
		if p.IsValid() {
			wan = append(wan, p)
		}
	}
	if s.config.Path == nil {
		var err error
		s.port, err = s.lab.attachToCore(s.Router, "wan", wan...)
		return err
	}
	s.port = s.lab.nextPort()
	if err := s.layPath(*s.config.Path); err != nil {
		return err
	}
	for _, p := range wan {
		if err := s.lab.numberCable(s.Router, "wan", s.port, p); err != nil {
			return err
		}
	}
	return nil
}

// addLAN gives the router its address on an inner network. Where that is
// public, the internet is told the way.
func (s *Site) addLAN(i int, lan netip.Prefix, public bool, via netip.Addr) error {
	if err := s.Router.address(lanName(i), lan); err != nil {
		return err
	}
	if public && via.IsValid() && s.config.Behind == nil {
		return s.lab.core.route(lan.Masked(), via)
	}
	return nil
}

func (s *Site) loadRules() error {
	text, err := rules(newRuleValues(s.wan.Addr(), s.config.Proxy), kindRules[s.Kind]...)
	if err != nil {
		return err
	}
	return s.Router.nft(text)
}

func lanName(i int) string { return fmt.Sprintf("lan%d", i) }

// Public is the IPv4 address by which the internet knows the site.
func (s *Site) Public() netip.Addr {
	if s.config.Behind != nil {
		return s.config.Behind.Public()
	}
	return s.WAN
}

// RouterMAC is the router's hardware address on an inner network: what its
// hosts' locations are made from.
func (s *Site) RouterMAC(lan int) net.HardwareAddr {
	if lan == 0 && s.config.MAC != nil {
		return s.config.MAC
	}
	return macOf(s.Router.name, lanName(lan))
}

// Host adds a computer or device to the inner network that its addresses lie
// in. The first one is its main address.
func (s *Site) Host(name string, addrs ...netip.Addr) (*Host, error) {
	return s.HostWithMAC(name, nil, addrs...)
}

// HostWithMAC adds one whose hardware address is given; nil is one made from
// its name.
func (s *Site) HostWithMAC(name string, mac net.HardwareAddr, addrs ...netip.Addr) (*Host, error) {
	if _, _, err := s.place(addrs); err != nil {
		return nil, err
	}
	h, err := s.lab.newHost(name)
	if err != nil {
		return nil, err
	}
	if mac == nil {
		mac = macOf(name, "eth0")
	}
	h.mac = mac
	return h, s.attach(h, addrs)
}

// place finds the inner network that all of the addresses lie in: its number,
// and the router's address for each of them.
func (s *Site) place(addrs []netip.Addr) (lan int, routers []netip.Prefix, err error) {
	lan = -1
	for _, a := range addrs {
		found := false
		for _, prefixes := range [][]netip.Prefix{s.config.LANs, s.config.LANs6} {
			for n, p := range prefixes {
				if p.Contains(a) && p.Addr() != a && (lan == -1 || lan == n) {
					lan, found = n, true
					routers = append(routers, prefixes[n])
				}
			}
		}
		if !found {
			return 0, nil, fmt.Errorf("site %s has no inner network for a host at %v", s.Name, addrs)
		}
	}
	if lan == -1 {
		return 0, nil, fmt.Errorf("site %s: a host without an address", s.Name)
	}
	return lan, routers, nil
}

// attach lays the cable of a host's eth0 and gives it its addresses.
func (s *Site) attach(h *Host, addrs []netip.Addr) error {
	lan, routers, err := s.place(addrs)
	if err != nil {
		return err
	}
	port := s.lab.nextPort()
	if err := h.veth("eth0", h.mac, s.Router, port, macOf(s.Router.name, port)); err != nil {
		return err
	}
	if err := s.Router.plug(port, lanName(lan)); err != nil {
		return err
	}
	h.mu.Lock()
	h.addrs = nil
	h.mu.Unlock()
	for i, a := range addrs {
		own := netip.PrefixFrom(a, routers[i].Bits())
		if err := errors.Join(h.address("eth0", own), h.route(netip.Prefix{}, routers[i].Addr())); err != nil {
			return err
		}
		h.mu.Lock()
		h.addrs = append(h.addrs, own)
		h.mu.Unlock()
	}
	return nil
}
