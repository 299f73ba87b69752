package node

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"culvert/dht/storetest"
	"culvert/protocol"
	"culvert/tunnel"
)

// Whoever asks for a tunnel may itself be the super-node that the tunnel-node keeps in contact with: the request leaves from
// here, and the answer that comes back is for here.
func TestForwardingForOneself(t *testing.T) {
	dir := t.TempDir()
	keepMembership(t, dir)
	n := bareNode(t, dir, func() time.Time { return storetest.Start })
	m := n.members()[0]
	s := &serving{id: m.id(), cert: m.certificate}
	n.serving.Store(s)
	target := testID(m.domain, 2)
	n.forward.reach = func(id protocol.ID) bool { return id == target }
	payload, err := protocol.AppendPayload(nil, protocol.ForwardedTunnelRequest{Target: target, Request: []byte("signed")})
	if err != nil {
		t.Fatal(err)
	}
	v, err := n.callSelf(m.id(), s, protocol.CmdForwardedTunnelRequest, payload)
	if err != nil {
		t.Fatal(err)
	}
	if f, err := protocol.ParsePayload[protocol.ForwardedTunnelOpened](v.Payload); err != nil || f.Status != protocol.StatusOK {
		t.Errorf("%+v, %v", f, err)
	}
	came := make(chan *protocol.Verified, 1)
	n.common[protocol.CmdForwardedTunnelOpened] = route{handler: func(_ time.Time, v *protocol.Verified) []protocol.Out {
		came <- v
		return nil
	}, inline: always}
	n.sendAll(storetest.Start, verified(t, target, m.id(), protocol.Ping{}), []protocol.Out{{To: m.id(), Command: protocol.CmdForwardedTunnelOpened, Payload: []byte("opened")}})
	select {
	case v := <-came:
		if v.Receiver != m.id() || string(v.Payload) != "opened" {
			t.Errorf("%+v", v)
		}
	case <-time.After(2 * time.Minute):
		t.Error("the answer was lost")
	}
}

// A question whose asker has left is not asked: behind a lock that many want, it would only make the others wait longer.
func TestNobodyIsAskedForOneWhoLeft(t *testing.T) {
	dir := t.TempDir()
	keepMembership(t, dir)
	n := bareNode(t, dir, func() time.Time { return storetest.Start })
	m := n.members()[0]
	super := storetest.NewWorld(t).Node(100, "super").Cert
	to := protocol.Peer{ID: super.ID, Signing: super.Signing, Sealing: super.Sealing, Addr: netip.MustParseAddrPort("127.0.0.1:9")}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (&caller{n, m.id()}).Call(ctx, to, protocol.Ping{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if n.ep.Calling() {
		t.Error("asked all the same")
	}
}

// A super-node on the way knows the request's hash. It cannot answer in the tunnel-node's place.
func TestOnlyTheAskedMayAnswer(t *testing.T) {
	a := asking{waiting: make(map[protocol.Hash]awaited)}
	ch := make(chan forwardedAnswer, 1)
	target, super, h := testID(7, 2), testID(7, 3), protocol.Hash{1}
	remove := a.add(h, target, ch)
	if a.answer(forwardedAnswer{from: super, hash: h}) || len(ch) != 0 {
		t.Error("another answered")
	}
	if !a.answer(forwardedAnswer{from: target, hash: h}) || len(ch) != 1 {
		t.Error("the asked one did not")
	}
	if remove(); a.answer(forwardedAnswer{from: target, hash: h}) {
		t.Error("answered twice")
	}
}

// What runs on this agent's own computer is here, though its record names no location.
func TestADeviceOfThisNodeIsHere(t *testing.T) {
	self, other, place := testID(7, 1), testID(7, 2), protocol.Hash{9}
	for _, c := range []struct {
		value protocol.EndDeviceValue
		here  bool
	}{
		{protocol.EndDeviceValue{Node: self}, true},
		{protocol.EndDeviceValue{Node: other}, false},
		{protocol.EndDeviceValue{Locations: []protocol.Hash{place}}, true},
		{protocol.EndDeviceValue{Locations: []protocol.Hash{{8}}}, false},
	} {
		if got := deviceOf(tunnel.Device{Value: c.value}, "acme", []protocol.Hash{place}, self).Here; got != c.here {
			t.Errorf("%+v: here is %v", c.value, got)
		}
	}
}
