package main

import (
	"strings"
	"testing"
	"time"

	"culvert/node/client"
)

func TestShowStatus(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	in := []client.Membership{{Domain: "acme", Name: "desk", State: "active", Keeper: true}, {Domain: "globex", Name: "desk", State: "active"}}
	for _, c := range []struct {
		name          string
		s             client.Status
		want, without []string
	}{
		{"no domain", client.Status{}, []string{"In no domain yet"}, []string{"messages travel", "port at the router"}},
		{"udp, a router that opens ports", client.Status{Memberships: in, Messages: client.Messages{Carrier: "udp"}, PortMappings: []client.PortMapping{
			{Protocol: "upnp", Transport: "tcp", State: "unverified", External: "192.0.2.1:7700"},
			{Protocol: "pcp", Transport: "tcp", State: "mapped", External: "192.0.2.1:7700"},
		}}, []string{"messages travel by  udp\n", "port at the router  192.0.2.1:7700 tcp by pcp\n", "acme    desk  active  yes", "globex  desk  active  no "}, []string{"proxy"}},
		{"a router that is not reached", client.Status{Memberships: in, PortMappings: []client.PortMapping{{Protocol: "upnp", State: "unverified"}}},
			[]string{"nothing: nobody answers", "not reached from outside yet; the router speaks upnp\n"}, nil},
		{"a router that refuses", client.Status{Memberships: in, PortMappings: []client.PortMapping{{Protocol: "upnp", State: "failed", Reason: "no answer"}}},
			[]string{"port at the router  none; see culvert netcheck\n"}, nil},
		{"443", client.Status{Memberships: in, Messages: client.Messages{Carrier: "tls", Address: "192.0.2.9:443"}},
			[]string{"messages travel by  tls to 192.0.2.9:443\n"}, []string{"port at the router"}},
		{"super-nodes", client.Status{Memberships: []client.Membership{{Domain: "acme", SuperNodes: []client.SuperNode{
			{ID: "a1", Address: "192.0.2.1:7700", Milliseconds: 12.4, State: "ok", Reasons: []string{"home", "serves_domain", "nearest"}},
			{ID: "a2", Address: "192.0.2.2:7700", State: "suspected", Reasons: []string{"serves_domain", "own_domain"}},
		}}}}, []string{"12 ms       ok         home,serves_domain,nearest", "-           suspected  serves_domain,own_domain"}, []string{"No super-node"}},
		{"a proxy", client.Status{Memberships: in, Messages: client.Messages{Carrier: "websocket", Address: "192.0.2.9:80", Proxy: "10.0.0.3:3128"}},
			[]string{"messages travel by  websocket to 192.0.2.9:80 through the proxy 10.0.0.3:3128\n"}, nil},
	} {
		var b strings.Builder
		if err := showStatus(&b, c.s, now); err != nil {
			t.Fatal(err)
		}
		for _, w := range c.want {
			if !strings.Contains(b.String(), w) {
				t.Errorf("%s: %q is missing in\n%s", c.name, w, b.String())
			}
		}
		for _, w := range c.without {
			if strings.Contains(b.String(), w) {
				t.Errorf("%s: %q is in\n%s", c.name, w, b.String())
			}
		}
	}
}
