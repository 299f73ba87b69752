package node

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"culvert/dht/storetest"
	"culvert/protocol"
	"culvert/protocol/carrier"
)

// Where several ways lead to a peer, plain TLS at the port that passes most firewalls comes first, and WebSocket after all TLS.
func TestOrderOfWays(t *testing.T) {
	n := bareNode(t, t.TempDir(), time.Now)
	op := testID(protocol.OperatorDomain, 1)
	s := n.meshOf(storetest.Key("root"))
	for _, a := range []string{"192.0.2.1:80", "192.0.2.1:7700", "192.0.2.1:443"} {
		s.operators = append(s.operators, protocol.Peer{ID: op, Addr: netip.MustParseAddrPort(a)})
	}
	way := func(f carrier.Form, own bool, a string) carrier.Way {
		return carrier.Way{Class: carrier.Class{Form: f, Own: own}, Address: a}
	}
	for service, want := range map[string][]carrier.Way{
		carrier.ServiceMessages: {
			way(carrier.TLS, false, "192.0.2.1:443"), way(carrier.TLS, true, "192.0.2.1:7700"), way(carrier.WebSocketTLS, false, "192.0.2.1:443"),
			way(carrier.WebSocket, false, "192.0.2.1:80"),
		},
		carrier.ServiceRelay: {
			way(carrier.Bare, true, "192.0.2.1:7700"), way(carrier.TLS, false, "192.0.2.1:443"), way(carrier.WebSocketTLS, false, "192.0.2.1:443"),
			way(carrier.WebSocket, false, "192.0.2.1:80"),
		},
	} {
		if got := n.ways(op, service); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", service, got, want)
		}
	}
}
