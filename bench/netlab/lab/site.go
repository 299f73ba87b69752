//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"
)

// SiteConfig describes a customer's premises.
type SiteConfig struct {
	Name string
	Kind Kind
	// WAN is the router's public address with its prefix length.
	WAN netip.Prefix
	// LANs are the router's own addresses on its inner networks, lan0 first.
	// The router routes between them.
	LANs []netip.Prefix
}

// A Site is a router with its inner networks.
type Site struct {
	Name   string
	Kind   Kind
	WAN    netip.Addr
	Router *Host
	lans   []netip.Prefix
}

// Site adds a site to the lab.
func (l *Lab) Site(c SiteConfig) (*Site, error) {
	router, err := l.newHost(c.Name + "-router")
	if err != nil {
		return nil, err
	}
	s := &Site{Name: c.Name, Kind: c.Kind, WAN: c.WAN.Addr(), Router: router, lans: c.LANs}
	if err := errors.Join(router.forward(), router.nft(string(c.Kind)), l.attachToCore(router, "wan", c.WAN)); err != nil {
		return nil, fmt.Errorf("site %s: %w", c.Name, err)
	}
	for i, lan := range c.LANs {
		name := fmt.Sprintf("lan%d", i)
		if err := router.bridge(name, s.RouterMAC(i)); err != nil {
			return nil, err
		}
		if err := router.address(name, lan); err != nil {
			return nil, err
		}
		if c.Kind == Open {
			if err := l.core.route(lan.Masked(), s.WAN); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

// ForgetUDP has the router forget what it translates for a UDP flow after so
// long a silence.
func (s *Site) ForgetUDP(after time.Duration) error {
	seconds := strconv.Itoa(int(after / time.Second))
	return errors.Join(
		s.Router.sysctl("net/netfilter/nf_conntrack_udp_timeout", seconds),
		s.Router.sysctl("net/netfilter/nf_conntrack_udp_timeout_stream", seconds),
	)
}

// RouterMAC is the router's hardware address on an inner network: what its
// hosts' locations are made from.
func (s *Site) RouterMAC(lan int) net.HardwareAddr {
	return macOf(s.Router.name, fmt.Sprintf("lan%d", lan))
}

// Host adds a computer or device to the inner network that addr lies in.
func (s *Site) Host(name string, addr netip.Addr) (*Host, error) {
	for i, lan := range s.lans {
		if !lan.Contains(addr) || lan.Addr() == addr {
			continue
		}
		h, err := s.Router.lab.newHost(name)
		if err != nil {
			return nil, err
		}
		h.addr = netip.PrefixFrom(addr, lan.Bits())
		h.mac = macOf(name, "eth0")
		port := s.Router.lab.nextPort()
		if err := h.veth("eth0", h.mac, s.Router, port, macOf(s.Router.name, port)); err != nil {
			return nil, err
		}
		err = errors.Join(
			s.Router.plug(port, fmt.Sprintf("lan%d", i)),
			h.address("eth0", h.addr),
			h.route(netip.Prefix{}, lan.Addr()),
		)
		return h, err
	}
	return nil, fmt.Errorf("site %s has no inner network for a host at %s", s.Name, addr)
}
