package nat

import (
	"slices"
	"strings"

	"culvert/protocol"
)

// Kinds of site, as programs read them.
const (
	SiteUnknown             = "unknown"
	SiteOpen                = "open"
	SiteFirewalled          = "firewalled" // public addresses behind a firewall that lets answers in
	SiteFullCone            = "full_cone"
	SiteRestricted          = "restricted"
	SitePortRestricted      = "port_restricted"
	SiteCone                = "cone" // one port for all destinations, unknown what it lets in
	SiteSymmetricRandom     = "symmetric_random"
	SiteSymmetricSequential = "symmetric_sequential"
	SiteCarrier             = "carrier_nat"
	SiteUDPBlocked          = "udp_blocked"
	Site443Only             = "443_only"
	SiteProxyOnly           = "proxy_only"
	SiteIPv6Only            = "ipv6_only"
	SiteOffline             = "offline"
)

// DualStack is the trait of a site where IPv4 and IPv6 work.
const DualStack = "dual_stack"

// Extra is what a Report does not tell.
type Extra struct {
	Carrier string // what messages travel by now: udp, tls, websocket; empty for nothing
	Proxy   bool   // they travel through an HTTP proxy
	TCP     Tri    // TCP connections to other ports than 443 get out; what is not known may be so
	HTTPS   Tri    // TCP connections to where the operator serves HTTPS get out, without a proxy
	// Mapped are the protocols (upnp, nat_pmp, pcp) by which the router has opened a port, Offered those that it speaks.
	Mapped, Offered []string
	Listening       bool   // somebody may connect to this node's TCP port from everywhere: a super-node has done so
	Super           bool   // this node is a super-node
	Port            uint16 // this node's
}

// Site is a kind of site with what else is to be said of it: dual_stack, the behaviour behind a carrier's NAT, and the
// protocols by which ports are opened.
type Site struct {
	Kind   string
	Traits []string
}

// SiteOf names the kind of site.
func SiteOf(r Report, x Extra) (s Site) {
	s.Kind = kindOf(r, x)
	if s.Kind == SiteCarrier {
		if k := natKind(r.V4); k != SiteUnknown {
			s.Traits = append(s.Traits, k)
		}
	}
	if r.V4.Works && r.V6.Works {
		s.Traits = append(s.Traits, DualStack)
	}
	for _, p := range x.Mapped {
		if !slices.Contains(s.Traits, p) {
			s.Traits = append(s.Traits, p)
		}
	}
	return s
}

func kindOf(r Report, x Extra) string {
	switch {
	case r.UDP == Unknown && x.Carrier == "" && x.TCP != Yes && x.HTTPS != Yes:
		return SiteUnknown
	case !r.Works() && r.UDP != Yes:
		switch {
		case x.TCP == Yes:
			return SiteUDPBlocked
		case x.Proxy && x.HTTPS != Yes:
			return SiteProxyOnly
		case x.Carrier == "" && x.HTTPS != Yes:
			return SiteOffline
		case x.TCP == No:
			return Site443Only
		}
		return SiteUDPBlocked
	case !r.V4.Works && r.V6.Works:
		return SiteIPv6Only
	case r.Carrier == Yes:
		return SiteCarrier
	}
	return natKind(r.V4)
}

func natKind(f Family) string {
	if f.NAT == No {
		switch f.Filtering {
		case FilteringIndependent:
			return SiteOpen
		case FilteringUnknown:
			return SiteUnknown
		}
		return SiteFirewalled
	}
	switch f.Mapping {
	case protocol.MappingRandom:
		return SiteSymmetricRandom
	case protocol.MappingSequential:
		return SiteSymmetricSequential
	case protocol.MappingIndependent:
		switch f.Filtering {
		case FilteringIndependent:
			return SiteFullCone
		case FilteringAddress:
			return SiteRestricted
		case FilteringPort:
			return SitePortRestricted
		}
		return SiteCone
	}
	return SiteUnknown
}

// words are the kinds and traits as people read them.
var words = map[string]string{
	SiteUnknown: "not known", SiteOpen: "open", SiteFirewalled: "public address behind a firewall", SiteFullCone: "full-cone NAT",
	SiteRestricted: "restricted NAT", SitePortRestricted: "port-restricted NAT", SiteCone: "NAT with one port for all destinations",
	SiteSymmetricRandom: "symmetric NAT (random ports)", SiteSymmetricSequential: "symmetric NAT (sequential ports)",
	SiteCarrier: "carrier-grade (double) NAT", SiteUDPBlocked: "UDP blocked", Site443Only: "443 only", SiteProxyOnly: "proxy only",
	SiteIPv6Only: "IPv6 only", SiteOffline: "offline", DualStack: "dual-stack", "upnp": "UPnP", "nat_pmp": "NAT-PMP", "pcp": "PCP",
}

// String says it in people's words.
func (s Site) String() string {
	l := make([]string, 0, 1+len(s.Traits))
	for _, w := range append([]string{s.Kind}, s.Traits...) {
		if text, ok := words[w]; ok {
			w = text
		}
		l = append(l, w)
	}
	return strings.Join(l, ", ")
}
