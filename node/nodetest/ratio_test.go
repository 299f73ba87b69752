package nodetest

import (
	"net/netip"
	"testing"

	"culvert/protocol"
)

// Whoever forges an address has no more sent there than he sends himself: the answer and the probe together are no longer than
// the question, signed or sealed.
func TestProbesAreNoLongerThanQuestions(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "acme")
	to := m.super("super", "acme").peer()
	for _, sessions := range []bool{false, true} {
		p := m.prober()
		if !sessions {
			p.probe = m.probe("acme", false)
			p.here = netip.MustParseAddrPort(p.conn.LocalAddr().String())
		}
		note := func(from netip.AddrPort, b []byte) {
			if nonce, err := protocol.ParseReachProbe(b); err == nil {
				p.came[nonce] = from
			}
		}
		p.seen = note
		must[protocol.Status](t)(p.ask(to, protocol.ProbeReach{Addr: protocol.AddrOf(p.here), Protocol: 99})) // who it is, is known from here on
		out, in := 0, 0
		p.sent = func(_ netip.AddrPort, b []byte) { out += len(b) }
		p.seen = func(from netip.AddrPort, b []byte) {
			in += len(b)
			note(from, b)
		}
		q := protocol.ProbeReach{Addr: protocol.AddrOf(p.here), Protocol: protocol.UDP, Nonce: [16]byte{1}}
		if s := must[protocol.Status](t)(p.ask(to, q)); s != protocol.StatusOK {
			t.Fatal(s)
		}
		p.arrived(q.Nonce)
		t.Logf("sessions %v: %d bytes for %d", sessions, in, out)
		if in > out {
			t.Errorf("sessions %v: %d bytes for %d", sessions, in, out)
		}
	}
}
