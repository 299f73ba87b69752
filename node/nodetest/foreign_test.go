package nodetest

import (
	"encoding/binary"
	"net"
	"testing"
	"time"

	"culvert/node"
	"culvert/node/config"
	"culvert/operator"
	"culvert/protocol"
)

// refusals is how many datagrams and requests a node has dropped, whatever for.
func refusals(n *node.Node) (sum uint64) {
	s := n.Stats()
	for _, part := range []string{"messages", "dispatch"} {
		for _, k := range s[part] {
			sum += k
		}
	}
	for reason, k := range s["records"] {
		if len(reason) > 4 && reason[:4] == "drop" {
			sum += k
		}
	}
	return sum
}

// Nothing that a node of another domain asks about this one is accepted, by whatever role, signed or in a session.
func TestForeignDomain(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "acme", "other")
	super := m.super("super", "acme")
	d := newDevice(t, "printer")
	at := m.agent("workshop", "acme", consents(d))
	user := m.agent("desk", "acme", func(c *config.Config) { c.Tunnel = false })
	dev := m.device(at, d)
	user.sees(d.name)
	m.announced(super, at)

	own := m.probe("acme", true)
	secrets := own.secrets
	place := protocol.NewID(own.id.Domain(), secrets.LocationKey(protocol.Hash{1}))
	name := protocol.NewID(own.id.Domain(), secrets.NameKey(d.name))
	record := must[[]byte](t)(own.info(1, protocol.NodeInfoValue{Name: "x", Locations: []protocol.Hash{{1}}}))
	request := protocol.TunnelRequest{Device: dev.ID, Port: d.port, Protocol: protocol.TCP}

	roles := map[string]struct {
		node *node.Node
		peer protocol.Peer
	}{
		"super-node": {super.node, super.peer()}, "operator": {m.node, m.operatorPeer()},
		"tunnel-node": {at.node, at.peer()}, "user-node": {user.node, user.peer()},
	}
	for role, r := range roles {
		t.Run(role, func(t *testing.T) {
			for form, p := range map[string]*probe{"signed": m.probe("other", false), "sealed": m.probe("other", true)} {
				p.t = t
				mine := must[[]byte](t)(p.info(1, protocol.NodeInfoValue{Name: "mine"}))
				_, err := p.call(t.Context(), r.peer, protocol.Ping{}, patience)
				noError(t, err)
				inner := p.signed(time.Now(), at.peer(), request)
				asked := []protocol.Payload{
					protocol.GetNode{ID: at.id("")},
					protocol.GetNodeInfo{ID: at.id("")},
					protocol.GetTunnelNodes{Location: place},
					protocol.GetEndDevices{Key: dev.ID},
					protocol.GetEndDevices{Key: name},
					protocol.GetEndDevices{Key: protocol.NewID(own.id.Domain(), protocol.Hash{})},
					protocol.Put{Key: own.id, Record: record},
					protocol.Put{Key: own.id, Record: mine},
					protocol.Put{Key: p.id, Record: record, Forwarded: true},
					request,
					protocol.ForwardedTunnelRequest{Target: at.id(""), Request: inner, Node: p.record},
					protocol.ForwardedTunnelRequest{Target: r.peer.ID, Request: inner, Node: p.record},
					protocol.ForwardedTunnelOpened{Answer: inner, Cookie: make([]byte, 72), Node: p.record},
					protocol.ForwardedTunnelOpened{Answer: inner, Node: p.record},
					protocol.RelayJoin{Token: protocol.Hash{1}, Peer: at.id(""), Node: p.record},
					protocol.Digest{Table: protocol.TableNodeInfo, To: ^uint64(0)},
					protocol.Repair{Table: protocol.TableNodeInfo, To: ^uint64(0)},
					protocol.Repair{Table: protocol.TableEndDevice, To: ^uint64(0)},
					protocol.TransferPartition{Epoch: 99},
				}
				for _, q := range asked {
					before := refusals(r.node)
					n, _ := p.answers(r.peer, func() {
						payload := must[[]byte](t)(protocol.AppendPayload(nil, q))
						noError(t, p.ep.Send(time.Now(), p.id, r.peer, q.Command(), payload, &p.out))
						noError(t, p.flush())
						eventually(t, form+" "+q.Command().String()+" is dropped and counted", func() bool { return refusals(r.node) > before })
					})
					if n != 0 {
						t.Errorf("%s %s: %d answers", form, q.Command(), n)
					}
				}
			}
		})
	}
	t.Run("revocations", func(t *testing.T) {
		victim := m.enrolled("victim", "acme")
		must[operator.NodeView](t)(m.op.RevokeNode(t.Context(), operator.Actor{Name: "test", Domain: own.id.Domain()}, victim.name))
		p := m.probe("other", true)
		eventually(t, "acme is told", func() bool {
			l, err := own.list(super.peer(), protocol.GetRevocations{})
			return err == nil && len(l) == 1
		})
		if l := p.listed(super.peer(), protocol.GetRevocations{}); len(l) != 0 {
			t.Errorf("another domain is told of %d", len(l))
		}
	})
	t.Run("relay", func(t *testing.T) {
		p := m.probe("other", false)
		join := p.signed(time.Now(), super.peer(), protocol.RelayJoin{Token: protocol.Hash{1}, Peer: at.id(""), Node: p.record})
		c := joinRelay(t, super, join)
		var b [1]byte
		if n, err := c.Read(b[:]); n != 0 || err == nil {
			t.Errorf("the relay answers %x, %v", b[:n], err)
		}
		dropped(t, super.node, 1, "dispatch: relay refused")
	})
	if d.met.Load() != 0 {
		t.Errorf("%d connections to the device", d.met.Load())
	}
}

// A super-node stops at once, also while somebody waits at its relay.
func TestStopsWhileRelaying(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "acme")
	super := m.agent("super", "acme", func(c *config.Config) {
		c.Super, c.Tunnel, c.Timeouts.Handshake = true, false, config.Duration(time.Hour) // for which it would have the other wait
	})
	super.serving()
	p := m.probe("acme", false)
	join := p.signed(time.Now(), super.peer(), protocol.RelayJoin{Token: protocol.Hash{1}, Peer: super.id(""), Node: p.record})
	c := joinRelay(t, super, join)
	eventually(t, "the relay has it wait", func() bool { return count(super.node, "relay: waiting now") == 1 })
	stopped := make(chan struct{})
	go func() {
		super.stop()
		close(stopped)
	}()
	select {
	case <-stopped:
	case <-time.After(patience):
		t.Fatal("it does not stop")
	}
	var b [1]byte
	if n, err := c.Read(b[:]); n != 0 || err == nil {
		t.Errorf("the connection is left open: %x, %v", b[:n], err)
	}
}

// joinRelay connects to a super-node's relay with a signed RelayJoin.
func joinRelay(t *testing.T, super *agent, join []byte) net.Conn {
	t.Helper()
	c := must[net.Conn](t)(net.Dial("tcp", super.addr().String()))
	t.Cleanup(func() { c.Close() })
	noError(t, c.SetDeadline(time.Now().Add(patience)))
	must[int](t)(c.Write(append(binary.BigEndian.AppendUint16([]byte{8}, uint16(len(join))), join...)))
	return c
}
