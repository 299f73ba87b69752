package tunnel

import (
	"bytes"
	"context"
	"testing"
)

// A port that a router has opened, at either end, is the mapped route and no other.
func TestMapped(t *testing.T) {
	for _, c := range []struct {
		name       string
		user, node []agentOption
	}{
		{"the tunnel-node's", nil, []agentOption{mapped("203.0.113.2:40001")}},
		{"the user's, dialled back", []agentOption{mapped("203.0.113.1:40002")}, nil},
		{"both", []agentOption{mapped("203.0.113.1:40002")}, []agentOption{mapped("203.0.113.2:40001")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			user := w.agent(testDomain, 1, prefixes("192.168.1.20/24"), c.user...)
			node := w.agent(testDomain, 2, prefixes("192.168.7.10/24"), c.node...)
			w.device("echo", "192.168.7.50:9100", 2, echoDevice, node)
			if _, err := user.Open(context.Background(), OpenRequest{Device: "echo", Port: 9100, Routes: []Route{Direct}}); err == nil {
				t.Error("a mapped port was dialled as a direct one")
			}
			tn := user.tunnel(t, "echo", 9100, Mapped)
			if info := tn.Info(); info.Route != Mapped {
				t.Fatalf("route %s", info.Route)
			}
			data := noise(3 << 20)
			if got := exchange(t, dialTunnel(t, tn), data); !bytes.Equal(got, data) {
				t.Error("other bytes came back")
			}
		})
	}
	w, user, node := two(t)
	w.device("echo", "192.168.7.50:9100", 2, echoDevice, node)
	if _, err := user.Open(context.Background(), OpenRequest{Device: "echo", Port: 9100, Routes: []Route{Mapped}}); err == nil {
		t.Error("an open port was dialled as a mapped one")
	}
}
