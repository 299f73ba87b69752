package nodetest

import (
	"bufio"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"culvert/node/client"
	"culvert/node/config"
	"culvert/operator"
	"culvert/protocol"
	"culvert/protocol/carrier"
)

// What a super-node says of ports 443 and 80 gets on the map only where the operator has met it there itself.
func TestWebPortsAreChecked(t *testing.T) {
	t.Parallel()
	ports := newWebPorts(t)
	m := newMeshAs(t, func(m *mesh) { m.net.Dial = ports.dial }, "acme")
	there := m.superAtWebPorts("there", "acme", ports)
	elsewhere := m.superAtWebPorts("elsewhere", "acme", newWebPorts(t)) // whose port 443 is the other's
	at := func(a *agent, port uint16) bool {
		for _, s := range must[[]operator.SuperNodeView](t)(m.op.SuperNodes(t.Context(), admin)) {
			if s.ID == a.id("") {
				return slices.Contains(s.Addresses, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port))
			}
		}
		t.Fatalf("%s is no super-node", a.name)
		return false
	}
	eventually(t, "one that is there is on the map with both ports", func() bool {
		all := at(there, 443) && at(there, 80) && at(there, there.addr().Port())
		if !all { // the operator did not get through in time; the node soon offers itself again where it is started anew
			there.stop()
			there.start()
			there.serving()
		}
		return all
	})
	if at(elsewhere, 443) || at(elsewhere, 80) || !at(elsewhere, elsewhere.addr().Port()) {
		t.Error("one that is not there is on the map with them")
	}
	user := m.agent("desk", "acme", nil)
	user.sees()
	user.carriedBy("udp")
}

// An operator relays where its configuration says so, and there is no super-node.
func TestOperatorRelays(t *testing.T) {
	t.Parallel()
	for _, allowed := range []bool{true, false} {
		t.Run(fmt.Sprint(allowed), func(t *testing.T) {
			t.Parallel()
			m := newMeshAs(t, func(m *mesh) { m.set = func(c *config.Config) { c.Relay = allowed } }, "acme")
			s := &site{ports: newWebPorts(t)}
			s.noUDP.Store(true)
			s.let(func(a string) bool { return a == m.https })
			d := newDevice(t, "printer")
			at := m.inside(s, "workshop", "acme", consents(d))
			user := m.inside(s, "desk", "acme", func(c *config.Config) { c.Timeouts.Open = config.Duration(5 * time.Second) })
			m.device(at, d)
			at.carriedBy("tls")
			user.carriedBy("tls")
			user.sees(d.name)
			var tun client.Tunnel
			open := func() (err error) {
				tun, err = user.open(client.OpenRequest{Device: d.name, Port: d.portText(), Route: "relayed"})
				return err
			}
			if !allowed {
				if err := open(); err == nil {
					t.Error("it relays unasked")
				}
				return
			}
			eventually(t, "a tunnel by the operator", func() bool { return open() == nil })
			if want := m.operatorPeer().ID.String(); tun.Relay != want {
				t.Errorf("relayed by %s", tun.Relay)
			}
			pour(t, tun.Local, d.name, 1<<20)
		})
	}
}

// A stream gives a revoked node nothing: its messages are dropped in silence, as by UDP.
func TestRevokedByStream(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "acme")
	super := m.super("super", "acme")
	p, own := m.probe("acme", false), m.probe("acme", false)
	to := super.peer()
	c := must[carrier.ByteConn](t)(new(carrier.Dialer).Open(t.Context(), carrier.Way{
		Class: carrier.Class{Form: carrier.TLS, Own: true}, Address: to.Addr.String(),
	}, carrier.ServiceMessages))
	defer c.Close()
	r := bufio.NewReader(c)
	say := func(q protocol.Payload) {
		b := must[[]byte](t)(carrier.AppendFrame(nil, p.signed(time.Now(), to, q)))
		must[int](t)(c.Write(b))
	}
	noError(t, c.SetReadDeadline(time.Now().Add(patience)))
	say(protocol.Ping{})
	if b := must[[]byte](t)(carrier.ReadFrame(r)); len(b) == 0 { // who is it? is an answer, too
		t.Fatal("no answer")
	}
	must[operator.NodeView](t)(m.op.RevokeNode(t.Context(), admin, p.id.String()))
	eventually(t, "the super-node knows", func() bool {
		l, err := own.list(to, protocol.GetRevocations{})
		return err == nil && len(l) == 1
	})
	before := count(super.node, "messages: revoked")
	for range 3 {
		say(protocol.Ping{})
	}
	eventually(t, "they are dropped", func() bool { return count(super.node, "messages: revoked") >= before+3 })
	noError(t, c.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
	if b, err := carrier.ReadFrame(r); err == nil {
		t.Errorf("a revoked node is answered % x", b)
	}
}
