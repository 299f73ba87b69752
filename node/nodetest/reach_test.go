package nodetest

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"culvert/discovery/nat"
	"culvert/node/client"
	"culvert/protocol"
	"culvert/protocol/key"
	"culvert/tunnel/link"
)

// ask has a super-node probe and returns what it says.
func (p *probe) ask(to protocol.Peer, q protocol.ProbeReach) (protocol.Status, error) {
	v, err := p.call(p.t.Context(), to, q, 5*time.Second)
	if err != nil {
		return 0, err
	}
	r, err := protocol.ParsePayload[protocol.ReachProbed](v.Payload)
	return r.Status, err
}

// prober is an identity that notes the probes that come to it.
type prober struct {
	*probe
	here netip.AddrPort
	came map[[16]byte]netip.AddrPort // by nonce: from where
}

func (m *mesh) prober() *prober {
	p := &prober{probe: m.probe("acme", true), came: make(map[[16]byte]netip.AddrPort)}
	p.here = p.conn.LocalAddr().(*net.UDPAddr).AddrPort()
	p.seen = func(from netip.AddrPort, b []byte) {
		if nonce, err := protocol.ParseReachProbe(b); err == nil {
			p.came[nonce] = from
		}
	}
	return p
}

// arrived waits for a probe; what else comes is noted, too.
func (p *prober) arrived(nonce [16]byte) netip.AddrPort {
	p.t.Helper()
	var buf [1500]byte
	for p.came[nonce] == (netip.AddrPort{}) {
		noError(p.t, p.conn.SetReadDeadline(time.Now().Add(patience)))
		n, from, err := p.conn.ReadFromUDPAddrPort(buf[:])
		noError(p.t, err)
		p.seen(from, buf[:n])
	}
	return p.came[nonce]
}

// A super-node probes whoever asks, and nobody else.
func TestProbeReachUDP(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "acme")
	super, plain := m.super("super", "acme"), m.agent("plain", "acme", nil)
	p, to := m.prober(), super.peer()
	for i, other := range []bool{false, true} {
		q := protocol.ProbeReach{Addr: protocol.AddrOf(p.here), Protocol: protocol.UDP, Other: other, Nonce: [16]byte{byte(i + 1)}}
		if s := must[protocol.Status](t)(p.ask(to, q)); s != protocol.StatusOK {
			t.Errorf("other %v: %s", other, s)
		}
		if from := p.arrived(q.Nonce); from.Addr() != to.Addr.Addr() || (from == to.Addr) == other {
			t.Errorf("other %v: from %v", other, from)
		}
	}
	victim := must[*net.UDPConn](t)(net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2)}))
	defer victim.Close()
	for _, a := range []string{victim.LocalAddr().String(), "192.0.2.1:7", "10.0.0.1:7", "[::1]:7", "127.0.0.1:0"} {
		q := protocol.ProbeReach{Addr: protocol.AddrOf(netip.MustParseAddrPort(a)), Protocol: protocol.UDP, Nonce: [16]byte{9}}
		if s := must[protocol.Status](t)(p.ask(to, q)); s != protocol.StatusNotAllowed {
			t.Errorf("%s: %s", a, s)
		}
	}
	q := protocol.ProbeReach{Addr: protocol.AddrOf(p.here), Protocol: 99}
	if s := must[protocol.Status](t)(p.ask(to, q)); s != protocol.StatusNotAllowed {
		t.Errorf("another protocol: %s", s)
	}
	// The last question was answered after the others, so what was sent has been sent.
	noError(t, victim.SetReadDeadline(time.Now()))
	if _, _, err := victim.ReadFromUDPAddrPort(make([]byte, 100)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the victim got something: %v", err)
	}
	if n := count(super.node, "dispatch: probe of another host"); n != 5 {
		t.Errorf("%d refused", n)
	}
	// No agent does it that is no super-node.
	q = protocol.ProbeReach{Addr: protocol.AddrOf(p.here), Protocol: protocol.UDP, Nonce: [16]byte{77}}
	if _, err := p.call(t.Context(), plain.peer(), q, time.Second); err == nil || p.came[q.Nonce].IsValid() {
		t.Error("an agent probed")
	}
	if count(plain.node, "dispatch: not a super-node") == 0 {
		t.Error("not counted")
	}
	// Nobody gets more than his share.
	limited := 0
	for i := range 80 {
		q.Nonce[1] = byte(i)
		if must[protocol.Status](t)(p.ask(to, q)) == protocol.StatusLimit {
			limited++
		}
	}
	if limited == 0 {
		t.Error("no limit")
	}
}

// Over TCP only the asker's own key counts.
func TestProbeReachTCP(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "acme")
	super := m.super("super", "acme")
	p, to := m.prober(), super.peer()
	serve := func(k *key.Signing) netip.AddrPort {
		cert := must[tls.Certificate](t)(link.Certificate(k))
		l := must[net.Listener](t)(tls.Listen("tcp4", "127.0.0.1:0", link.ServerTLS(&cert)))
		var work sync.WaitGroup
		work.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_ = c.(*tls.Conn).Handshake() // its end is seen by who dialled
				c.Close()
			}
		})
		t.Cleanup(func() { l.Close(); work.Wait() })
		return l.Addr().(*net.TCPAddr).AddrPort()
	}
	other := m.probe("acme", false)
	for _, c := range []struct {
		name string
		at   netip.AddrPort
		want protocol.Status
	}{
		{"own key", serve(p.keys.Signing), protocol.StatusOK},
		{"another's key", serve(other.keys.Signing), protocol.StatusUnreachable},
		{"nobody there", netip.AddrPortFrom(p.here.Addr(), freePort(t)), protocol.StatusUnreachable},
		{"another host", netip.MustParseAddrPort("127.0.0.2:80"), protocol.StatusNotAllowed},
	} {
		s := must[protocol.Status](t)(p.ask(to, protocol.ProbeReach{Addr: protocol.AddrOf(c.at), Protocol: protocol.TCP}))
		if s != c.want {
			t.Errorf("%s: %s, want %s", c.name, s, c.want)
		}
	}
}

// Super-nodes answer STUN, others do not; nothing of it is longer than what came, and answers go unanswered.
func TestSTUNService(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "acme")
	super, plain := m.super("super", "acme"), m.agent("plain", "acme", nil)
	c := must[*net.UDPConn](t)(net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}))
	defer c.Close()
	here := c.LocalAddr().(*net.UDPAddr).AddrPort()
	send := func(a *agent, b []byte) { must[int](t)(c.WriteToUDPAddrPort(b, a.addr())) }
	var buf [1500]byte
	noError(t, c.SetReadDeadline(time.Now().Add(patience)))
	send(plain, nat.Request(nat.Transaction{1}))
	eventually(t, "an agent counts", func() bool { return count(plain.node, "dispatch: STUN is not served here") == 1 })
	send(super, []byte{0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}) // too short to be answered
	send(super, []byte{0, 1, 2})
	eventually(t, "a super-node counts", func() bool { return count(super.node, "dispatch: STUN refused") == 2 })
	send(super, nat.Request(nat.Transaction{2}))
	n, from, err := c.ReadFromUDPAddrPort(buf[:])
	noError(t, err)
	r, err := nat.ParseResponse(buf[:n])
	if err != nil || from != super.addr() || r.ID != (nat.Transaction{2}) || r.Mapped != here || n > nat.RequestSize {
		t.Fatalf("%d bytes from %v: %+v, %v", n, from, r, err)
	}
	send(super, buf[:n]) // an answer to nothing
	send(super, protocol.AppendReachProbe(nil, [16]byte{1}))
	eventually(t, "an unasked probe is counted", func() bool { return count(super.node, "dispatch: unasked probe") == 1 })
	for range 700 {
		send(super, nat.Request(nat.Transaction{3}))
	}
	eventually(t, "the limit", func() bool { return count(super.node, "dispatch: STUN over the limit") > 0 })
}

// An agent finds out what is before it, and its NodeInfo says where it can be written to by UDP.
func TestNetcheck(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "acme")
	super := m.super("super", "acme")
	m.super("second", "acme")
	a := m.agent("desk", "acme", nil)
	m.announced(super, a)
	eventually(t, "an open site", func() bool {
		n := must[client.Netcheck](t)(a.api.Netcheck(t.Context()))
		return n.Kind == "open" && n.UDP == "yes" && len(n.Servers) == 3 && n.Ipv4.Mapped == a.addr().String()
	})
	p := m.probe("acme", false)
	eventually(t, "the announcement names the socket", func() bool {
		l := must[[][]byte](t)(p.list(super.peer(), protocol.GetNodeInfo{ID: a.id("")}))
		v := must[protocol.NodeInfoValue](t)(p.nodeInfo(l[0]))
		want := []protocol.Candidate{
			{Kind: protocol.CandidateHost, Protocol: protocol.TCP, Addr: protocol.AddrOf(a.addr()), Priority: 200},
			{Kind: protocol.CandidateHost, Protocol: protocol.UDP, Addr: protocol.AddrOf(a.addr()), Priority: 250},
		}
		return len(v.Candidates) == 2 && v.Candidates[0] == want[0] && v.Candidates[1] == want[1]
	})
}
