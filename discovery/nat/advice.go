package nat

import (
	"cmp"
	"fmt"

	"culvert/protocol"
)

// Expect says what may be expected of one route, and why.
type Expect struct {
	Route  string // as in package tunnel
	Expect string // yes, likely, unlikely, no
	Why    string
}

// Routes says which routes to expect from and to this site, best first. The other end's site has a say too.
func Routes(r Report, x Extra) []Expect {
	return []Expect{
		{"lan", "yes", "between nodes at one location"},
		direct(r, x), mapped(x), punched(r, x),
		{"relayed", "yes", "by a super-node, where nothing better is up"},
	}
}

func direct(r Report, x Extra) Expect {
	e := Expect{Route: "direct"}
	switch {
	case x.Listening:
		e.Expect, e.Why = "yes", "a super-node has reached this node's TCP port"
	case r.V4.NAT == No && r.V4.Filtering == FilteringIndependent || r.V6.Works && r.V6.Filtering == FilteringIndependent:
		e.Expect, e.Why = "likely", "this node has a public address, and no firewall was noticed"
	case r.V4.NAT == No || r.V6.Works:
		e.Expect, e.Why = "unlikely", "a firewall lets in only answers; dialling out to others works"
	default:
		e.Expect, e.Why = "no", "no public address; dialling out to others works"
	}
	return e
}

func mapped(x Extra) Expect {
	e := Expect{Route: "mapped"}
	switch {
	case len(x.Mapped) > 0:
		e.Expect, e.Why = "yes", "the router has opened a port"
	case len(x.Offered) > 0:
		e.Expect, e.Why = "no", "the router speaks of opening ports, and none has been reached from outside"
	case x.Unasked != "":
		e.Expect, e.Why = "no", "routers are not asked: "+x.Unasked
	default:
		e.Expect, e.Why = "no", "no router that opens ports was found"
	}
	return e
}

func punched(r Report, x Extra) Expect {
	e := Expect{Route: "punched"}
	switch kindOf(r, x) {
	case SiteOpen, SiteFullCone, SiteRestricted:
		e.Expect, e.Why = "yes", "with every site where UDP works"
	case SiteFirewalled, SitePortRestricted, SiteCone, SiteIPv6Only:
		e.Expect, e.Why = "yes", "with all but symmetric NATs at once, with those by more packets"
	case SiteCarrier:
		e.Expect, e.Why = "likely", "with all but symmetric NATs; two behind the same carrier's NAT may need its hairpinning"
		if r.V4.Mapping == protocol.MappingSequential || r.V4.Mapping == protocol.MappingRandom {
			e.Expect, e.Why = "unlikely", "the carrier's NAT takes another port for each destination"
		}
	case SiteSymmetricSequential:
		e.Expect, e.Why = "likely", "ports can be foreseen; not with another symmetric NAT"
	case SiteSymmetricRandom:
		e.Expect, e.Why = "likely", "by many packets with all but symmetric NATs"
	case SiteUDPBlocked, Site443Only, SiteProxyOnly, SiteOffline:
		e.Expect, e.Why = "no", "UDP does not get out"
	default:
		e.Expect, e.Why = "unlikely", "too little is known about the NAT"
	}
	return e
}

// Advice says what it would take to do better, the most useful first.
func Advice(r Report, x Extra) []string {
	var l []string
	add := func(when bool, text string) {
		if when {
			l = append(l, text)
		}
	}
	kind, port := kindOf(r, x), cmp.Or(x.Port, 7700)
	blocked := kind == SiteUDPBlocked || kind == Site443Only || kind == SiteProxyOnly
	translated := r.V4.Works && r.V4.NAT == Yes
	opened := len(x.Mapped) > 0 || x.Listening
	add(kind == SiteOffline, "No super-node and no operator can be reached: look whether this machine is on the internet, and whether a firewall "+
		"or a proxy (HTTPS_PROXY) stands between")
	add(blocked, "Allow outgoing UDP from this machine (to any port, at least 1024 and above): tunnels then go directly instead of by a relay, "+
		"and faster")
	add(kind == SiteProxyOnly || kind == Site443Only, "If UDP must stay closed, allow outgoing TCP to port 7700, where most super-nodes are: fewer super-nodes are reached on 443 alone")
	add(kind == SiteCarrier, "Ask the provider for a public IPv4 address of your own, or for IPv6: its NAT cannot be opened from here")
	add(kind != SiteCarrier && translated && !opened && x.Unasked == UnaskedOff,
		"Set portmap = true in config.toml, and enable UPnP, NAT-PMP or PCP on the router: this agent then opens a port by itself")
	add(kind != SiteCarrier && translated && !opened && len(x.Offered) == 0 && x.Unasked == "",
		"Enable UPnP, NAT-PMP or PCP on the router: this agent then opens a port by itself")
	add(kind != SiteCarrier && len(x.Offered) > 0 && !opened,
		"The router speaks of opening ports, but what it opened was not reached from outside: look at its firewall, and for a second router before it")
	add(kind != SiteCarrier && translated && !opened, fmt.Sprintf("Or forward TCP port %d of the router to this machine", port))
	add(translated && (kind == SiteSymmetricRandom || kind == SiteSymmetricSequential),
		"Or switch the router's NAT from symmetric to endpoint-independent mapping (often called cone NAT)")
	add(r.V4.Works && r.V4.NAT == No && restricted(r.V4) && !opened,
		fmt.Sprintf("Allow incoming TCP and UDP to port %d in the firewall: this node has a public address", port))
	add(r.V6.Works && restricted(r.V6) && !opened,
		fmt.Sprintf("Open a pinhole for this machine's TCP and UDP port %d in the IPv6 firewall of the router", port))
	add(!r.V6.Works && (translated || kind == SiteCarrier), "Enable IPv6 if the provider has it: no NAT stands in its way")
	add((kind == SiteOpen || x.Listening && r.V4.NAT == No) && !x.Super,
		"Nothing to improve. This site can serve others: this node becomes a super-node by itself, unless volunteer is false in config.toml; "+
			"super = true makes it one at once")
	return l
}

func restricted(f Family) bool {
	return f.Filtering == FilteringAddress || f.Filtering == FilteringPort
}
