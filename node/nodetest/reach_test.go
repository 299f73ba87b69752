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
	"culvert/protocol"
	"culvert/protocol/key"
	"culvert/tunnel/link"
)

// ask has a super-node probe and returns what it says.
func (p *probe) ask(to protocol.Peer, q protocol.ProbeReach) (protocol.Status, error) {
	v, err := p.call(p.t.Context(), to, q, patience)
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

// probed has a super-node probe until a probe has come, and says from where.
func (p *prober) probed(to protocol.Peer, q protocol.ProbeReach) netip.AddrPort {
	p.t.Helper()
	eventually(p.t, "a probe comes", func() bool { // before its answer, or lost
		if s := must[protocol.Status](p.t)(p.ask(to, q)); s != protocol.StatusOK {
			p.t.Fatalf("%+v: %s", q, s)
		}
		return p.came[q.Nonce].IsValid()
	})
	return p.came[q.Nonce]
}

// A super-node probes whoever asks, and nobody else.
func TestProbeReachUDP(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "acme")
	super, plain := m.super("super", "acme"), m.agent("plain", "acme", nil)
	p, to := m.prober(), super.peer()
	for i, other := range []bool{false, true} {
		q := protocol.ProbeReach{Addr: protocol.AddrOf(p.here), Protocol: protocol.UDP, Other: other, Nonce: [16]byte{byte(i + 1)}}
		if from := p.probed(to, q); from.Addr() != to.Addr.Addr() || (from == to.Addr) == other {
			t.Errorf("other %v: from %v", other, from)
		}
	}
	victim := must[*net.UDPConn](t)(net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2)}))
	defer victim.Close()
	for _, a := range []string{victim.LocalAddr().String(), "192.0.2.1:7", "10.0.0.1:7", "[::1]:7", "127.0.0.1:0"} {
		before := count(super.node, "dispatch: probe of another host")
		q := protocol.ProbeReach{Addr: protocol.AddrOf(netip.MustParseAddrPort(a)), Protocol: protocol.UDP, Nonce: [16]byte{9}}
		if s := must[protocol.Status](t)(p.ask(to, q)); s != protocol.StatusNotAllowed {
			t.Errorf("%s: %s", a, s)
		}
		if count(super.node, "dispatch: probe of another host") == before {
			t.Errorf("%s: not counted", a)
		}
	}
	q := protocol.ProbeReach{Addr: protocol.AddrOf(p.here), Protocol: 99}
	if s := must[protocol.Status](t)(p.ask(to, q)); s != protocol.StatusNotAllowed {
		t.Errorf("another protocol: %s", s)
	}
	// The last question was answered after the others, so what was sent has been sent: this is the first that comes.
	must[int](t)(p.conn.WriteToUDPAddrPort([]byte("last"), victim.LocalAddr().(*net.UDPAddr).AddrPort()))
	noError(t, victim.SetReadDeadline(time.Now().Add(patience)))
	b := make([]byte, 100)
	if n, _, err := victim.ReadFromUDPAddrPort(b); err != nil || string(b[:n]) != "last" {
		t.Errorf("the victim got % x, %v", b[:n], err)
	}
	// No agent does it that is no super-node.
	q = protocol.ProbeReach{Addr: protocol.AddrOf(p.here), Protocol: protocol.UDP, Nonce: [16]byte{77}}
	eventually(t, "an agent counts what it does not do", func() bool {
		if _, err := p.call(t.Context(), plain.peer(), q, time.Second); err == nil || p.came[q.Nonce].IsValid() {
			t.Error("an agent probed")
		}
		return count(plain.node, "dispatch: not a super-node") > 0
	})
	// Nobody gets more than his share.
	eventually(t, "the limit", func() bool {
		q.Nonce[1]++
		return must[protocol.Status](t)(p.ask(to, q)) == protocol.StatusLimit
	})
}

// Over TCP only the asker's own key counts.
func TestProbeReachTCP(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "acme")
	super := m.super("super", "acme")
	to := super.peer()
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
		at   func(p *prober) netip.AddrPort
		want protocol.Status
	}{
		{"own key", func(p *prober) netip.AddrPort { return serve(p.keys.Signing) }, protocol.StatusOK},
		{"another's key", func(*prober) netip.AddrPort { return serve(other.keys.Signing) }, protocol.StatusUnreachable},
		{"nobody there", func(p *prober) netip.AddrPort { return netip.AddrPortFrom(p.here.Addr(), freePort(t)) }, protocol.StatusUnreachable},
		{"another host", func(*prober) netip.AddrPort { return netip.MustParseAddrPort("127.0.0.2:80") }, protocol.StatusNotAllowed},
	} {
		eventually(t, c.name, func() bool {
			p := m.prober() // each time another, since a question that is sent again may use up what one may ask
			s := must[protocol.Status](t)(p.ask(to, protocol.ProbeReach{Addr: protocol.AddrOf(c.at(p)), Protocol: protocol.TCP}))
			late := s == protocol.StatusLimit || s == protocol.StatusUnreachable // of a busy machine
			if s != c.want && !late {
				t.Errorf("%s: %s, want %s", c.name, s, c.want)
			}
			return s == c.want || !late
		})
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
	counted := func(a *agent, reason string, send func()) {
		t.Helper()
		eventually(t, reason, func() bool { send(); return count(a.node, "dispatch: "+reason) > 0 })
	}
	counted(plain, "STUN is not served here", func() { send(plain, nat.Request(nat.Transaction{1})) })
	counted(super, "STUN refused", func() {
		send(super, []byte{0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}) // too short to be answered
	})
	before := count(super.node, "dispatch: STUN refused")
	eventually(t, "a damaged one is refused", func() bool {
		send(super, []byte{0, 1, 2})
		return count(super.node, "dispatch: STUN refused") > before
	})
	counted(super, "unasked probe", func() { send(super, protocol.AppendReachProbe(nil, [16]byte{1})) })
	answer := must[[]byte](t)(nat.Responder{}.Answer(nat.Request(nat.Transaction{9}), here)) // to nothing
	var buf [1500]byte
	eventually(t, "a super-node answers", func() bool {
		send(super, answer)
		send(super, nat.Request(nat.Transaction{2}))
		noError(t, c.SetReadDeadline(time.Now().Add(time.Second)))
		n, from, err := c.ReadFromUDPAddrPort(buf[:])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return false
		}
		noError(t, err)
		r, err := nat.ParseResponse(buf[:n])
		if err != nil || from != super.addr() || r.ID != (nat.Transaction{2}) || r.Mapped != here || n > nat.RequestSize {
			t.Fatalf("%d bytes from %v: %+v, %v", n, from, r, err)
		}
		return true
	})
	// A few at a time, since a node that is pressed counts under that: it goes on until it is limited.
	counted(super, "STUN over the limit", func() {
		const few = 50
		for range few {
			send(super, nat.Request(nat.Transaction{3}))
		}
		for range few {
			noError(t, c.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
			if _, _, err := c.ReadFromUDPAddrPort(buf[:]); err != nil {
				return // not all are answered
			}
		}
	})
}

// An agent finds out what is before it, and its NodeInfo says where it can be written to by UDP.
func TestNetcheck(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "acme")
	super := m.super("super", "acme")
	m.super("second", "acme")
	a := m.agent("desk", "acme", nil)
	m.announced(super, a)
	// A measurement takes eight of the probes that one may ask for, which are 60 and then one a second.
	tries, pace := 0, time.NewTicker(10*time.Second)
	defer pace.Stop()
	eventually(t, "an open site", func() bool {
		if tries++; tries > 5 {
			<-pace.C
		}
		n, err := a.api.Netcheck(t.Context())
		return err == nil && n.Kind == "open" && n.UDP == "yes" && len(n.Servers) == 3 && n.Ipv4.Mapped == a.addr().String()
	})
	p := m.probe("acme", false)
	eventually(t, "the announcement names the socket", func() bool {
		l, err := p.list(super.peer(), protocol.GetNodeInfo{ID: a.id("")})
		if err != nil || len(l) == 0 {
			return false
		}
		v := must[protocol.NodeInfoValue](t)(p.nodeInfo(l[0]))
		want := []protocol.Candidate{
			{Kind: protocol.CandidateHost, Protocol: protocol.TCP, Addr: protocol.AddrOf(a.addr()), Priority: 200},
			{Kind: protocol.CandidateHost, Protocol: protocol.UDP, Addr: protocol.AddrOf(a.addr()), Priority: 250},
		}
		return len(v.Candidates) == 2 && v.Candidates[0] == want[0] && v.Candidates[1] == want[1]
	})
}
