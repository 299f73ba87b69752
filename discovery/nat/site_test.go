package nat

import (
	"slices"
	"strings"
	"testing"

	"culvert/protocol"
)

func cone(f Filtering) Family {
	return Family{Works: true, NAT: Yes, Mapping: protocol.MappingIndependent, Filtering: f}
}

func TestSites(t *testing.T) {
	symmetric := Family{Works: true, NAT: Yes, Mapping: protocol.MappingRandom, Filtering: FilteringPort}
	counting := Family{Works: true, NAT: Yes, Mapping: protocol.MappingSequential, Step: 1, Filtering: FilteringPort}
	public := func(f Filtering) Family {
		return Family{Works: true, NAT: No, Mapping: protocol.MappingIndependent, Filtering: f}
	}
	udp, no := Extra{Carrier: "udp"}, Report{UDP: No}
	for _, c := range []struct {
		name   string
		r      Report
		x      Extra
		kind   string
		traits []string
		text   string
		punch  string
		advice []string // a word of each line
	}{
		{"open", Report{UDP: Yes, V4: public(FilteringIndependent)}, udp, "open", nil, "open", "yes", []string{"super = true"}},
		{"a super-node", Report{UDP: Yes, V4: public(FilteringIndependent)}, Extra{Carrier: "udp", Super: true}, "open", nil, "open", "yes", nil},
		{"firewalled", Report{UDP: Yes, V4: public(FilteringPort)}, udp, "firewalled", nil, "public address behind a firewall", "yes", []string{"port 7700 in the firewall"}},
		{"full cone", Report{UDP: Yes, V4: cone(FilteringIndependent)}, udp, "full_cone", nil, "full-cone NAT", "yes", []string{"UPnP", "forward TCP port 7700", "IPv6"}},
		{"restricted", Report{UDP: Yes, V4: cone(FilteringAddress)}, udp, "restricted", nil, "restricted NAT", "yes", []string{"UPnP", "forward", "IPv6"}},
		{"port-restricted", Report{UDP: Yes, V4: cone(FilteringPort)}, Extra{Carrier: "udp", Port: 7777}, "port_restricted", nil, "port-restricted NAT", "yes", []string{"UPnP", "port 7777", "IPv6"}},
		{"unknown filtering", Report{UDP: Yes, V4: cone(FilteringUnknown)}, udp, "cone", nil, "NAT with one port for all destinations", "yes", []string{"UPnP", "forward", "IPv6"}},
		{"symmetric", Report{UDP: Yes, V4: symmetric}, udp, "symmetric_random", nil, "symmetric NAT (random ports)", "likely", []string{"UPnP", "forward", "endpoint-independent", "IPv6"}},
		{"sequential", Report{UDP: Yes, V4: counting}, udp, "symmetric_sequential", nil, "symmetric NAT (sequential ports)", "likely", []string{"UPnP", "forward", "endpoint-independent", "IPv6"}},
		{"carrier", Report{UDP: Yes, V4: cone(FilteringPort), Carrier: Yes}, udp, "carrier_nat", []string{"port_restricted"}, "carrier-grade (double) NAT, port-restricted NAT", "likely", []string{"provider", "IPv6"}},
		{"symmetric carrier", Report{UDP: Yes, V4: symmetric, Carrier: Yes}, udp, "carrier_nat", []string{"symmetric_random"}, "carrier-grade (double) NAT, symmetric NAT (random ports)", "unlikely", []string{"provider", "IPv6"}},
		{"UDP blocked", no, Extra{Carrier: "tls", TCP: Yes}, "udp_blocked", nil, "UDP blocked", "no", []string{"outgoing UDP"}},
		{"443 only", no, Extra{Carrier: "tls", TCP: No}, "443_only", nil, "443 only", "no", []string{"outgoing UDP", "port 7700"}},
		{"443 only, and nobody answers there yet", no, Extra{TCP: No, HTTPS: Yes}, "443_only", nil, "443 only", "no", []string{"outgoing UDP", "port 7700"}},
		{"443 and a proxy", no, Extra{Carrier: "tls", Proxy: true, TCP: No, HTTPS: Yes}, "443_only", nil, "443 only", "no", []string{"outgoing UDP", "port 7700"}},
		{"UDP blocked, and nobody answers otherwise", no, Extra{TCP: Yes}, "udp_blocked", nil, "UDP blocked", "no", []string{"outgoing UDP"}},
		{"nothing gets out", no, Extra{TCP: No, HTTPS: No}, "offline", nil, "offline", "no", []string{"on the internet"}},
		{"proxy only", no, Extra{Carrier: "websocket", Proxy: true, TCP: No}, "proxy_only", nil, "proxy only", "no", []string{"outgoing UDP", "port 7700"}},
		{"offline", no, Extra{}, "offline", nil, "offline", "no", []string{"on the internet"}},
		{"IPv6 only", Report{UDP: Yes, V6: public(FilteringPort)}, udp, "ipv6_only", nil, "IPv6 only", "yes", []string{"pinhole"}},
		{"dual stack", Report{UDP: Yes, V4: cone(FilteringPort), V6: public(FilteringPort)}, udp, "port_restricted", []string{"dual_stack"}, "port-restricted NAT, dual-stack", "yes", []string{"UPnP", "forward", "pinhole"}},
		{"UPnP", Report{UDP: Yes, V4: cone(FilteringPort)}, Extra{Carrier: "udp", Mapped: []string{"upnp", "pcp", "pcp"}}, "port_restricted", []string{"upnp", "pcp"}, "port-restricted NAT, UPnP, PCP", "yes", []string{"IPv6"}},
		{"a port that nobody reaches", Report{UDP: Yes, V4: cone(FilteringPort)}, Extra{Carrier: "udp", Offered: []string{"upnp"}}, "port_restricted", nil, "port-restricted NAT", "yes", []string{"second router", "forward", "IPv6"}},
		{"a forwarded port", Report{UDP: Yes, V4: cone(FilteringPort)}, Extra{Carrier: "udp", Listening: true}, "port_restricted", nil, "port-restricted NAT", "yes", []string{"IPv6"}},
		{"nothing measured", Report{}, Extra{}, "unknown", nil, "not known", "unlikely", nil},
		{"pongs alone", Report{UDP: Yes}, udp, "unknown", nil, "not known", "unlikely", nil},
	} {
		s := SiteOf(c.r, c.x)
		if s.Kind != c.kind || !slices.Equal(s.Traits, c.traits) || s.String() != c.text {
			t.Errorf("%s: %+v, %q", c.name, s, s.String())
		}
		advice := Advice(c.r, c.x)
		if len(advice) != len(c.advice) {
			t.Errorf("%s: %q", c.name, advice)
		} else {
			for i, want := range c.advice {
				if !strings.Contains(advice[i], want) {
					t.Errorf("%s: %q does not speak of %q", c.name, advice[i], want)
				}
			}
		}
		routes := Routes(c.r, c.x)
		if len(routes) != 5 || routes[3].Route != "punched" || routes[3].Expect != c.punch {
			t.Errorf("%s: %+v", c.name, routes)
		}
		for _, e := range routes {
			if e.Expect == "" || e.Why == "" {
				t.Errorf("%s: %+v", c.name, e)
			}
		}
	}
}

func TestDirectAndMapped(t *testing.T) {
	for _, c := range []struct {
		r              Report
		x              Extra
		direct, mapped string
	}{
		{Report{V4: cone(FilteringPort)}, Extra{}, "no", "no"},
		{Report{V4: cone(FilteringPort)}, Extra{Listening: true, Mapped: []string{"upnp"}}, "yes", "yes"},
		{Report{V4: cone(FilteringPort)}, Extra{Offered: []string{"upnp"}}, "no", "no"},
		{Report{V6: Family{Works: true, NAT: No, Filtering: FilteringPort}}, Extra{}, "unlikely", "no"},
		{Report{V6: Family{Works: true, NAT: No, Filtering: FilteringIndependent}}, Extra{}, "likely", "no"},
	} {
		l := Routes(c.r, c.x)
		if l[1].Expect != c.direct || l[2].Expect != c.mapped {
			t.Errorf("%+v %+v: %+v", c.r, c.x, l)
		}
	}
}

func TestNames(t *testing.T) {
	for m, want := range map[protocol.Mapping]string{0: "unknown", 1: "endpoint_independent", 2: "sequential", 3: "random", 9: "unknown"} {
		if MappingName(m) != want {
			t.Errorf("%d: %s", m, MappingName(m))
		}
	}
	for f, want := range map[Filtering]string{0: "unknown", 1: "endpoint_independent", 2: "address_dependent", 3: "address_and_port_dependent"} {
		if f.String() != want {
			t.Errorf("%d: %s", f, f)
		}
	}
	if Unknown.String() != "unknown" || No.String() != "no" || Yes.String() != "yes" {
		t.Error("names of answers")
	}
}
