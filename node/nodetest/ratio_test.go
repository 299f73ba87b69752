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
		var out, in, sent, got int
		p.sent = func(_ netip.AddrPort, b []byte) { out, sent = out+len(b), sent+1 }
		p.seen = func(from netip.AddrPort, b []byte) {
			in, got = in+len(b), got+1
			if nonce, err := protocol.ParseReachProbe(b); err == nil {
				p.came[nonce] = from
			}
		}
		must[protocol.Status](t)(p.ask(to, protocol.ProbeReach{Addr: protocol.AddrOf(p.here), Protocol: 99})) // who it is, is known from here on
		q := protocol.ProbeReach{Addr: protocol.AddrOf(p.here), Protocol: protocol.UDP}
		// Where a question was sent again for want of time, or an answer to another came late, it is another round that tells.
		eventually(t, "one question, one answer and one probe", func() bool {
			q.Nonce[0]++
			out, in, sent, got = 0, 0, 0, 0
			p.probed(to, q)
			return sent == 1 && got == 2
		})
		t.Logf("sessions %v: %d bytes for %d", sessions, in, out)
		if in > out {
			t.Errorf("sessions %v: %d bytes for %d", sessions, in, out)
		}
	}
}
