package endpoint_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"culvert/protocol"
	"culvert/protocol/endpoint"
)

// TestHandshakeFlood: rubbish is dropped by mac1; what fits mac1 meets the cookie; sessions and honest newcomers go on.
func TestHandshakeFlood(t *testing.T) {
	w := newWorld(t)
	cfg := endpoint.Config{Sessions: true, Limits: endpoint.Limits{PublicKeyRate: 100}}
	a, c, s := w.node(on(), w.identity(7)), w.node(endpoint.Config{}, w.identity(7)), w.node(on(), w.identity(7))
	b := w.node(cfg, w.identity(7))
	a.mustAnswer(a.call(b.peer(), protocol.Ping{}), protocol.CmdPong)
	bogus := w.signed(w.identity(9), b.ids[0], protocol.CmdPing, false, w.now, 1, []byte{0x90})
	forge := func(i int) []byte { // any ID and time, mac1 right
		x := bytes.Clone(bogus)
		binary.BigEndian.PutUint64(x[84:], uint64(i))
		return remac(x, b.id())
	}
	var ev endpoint.Event
	cookies := 0
	for i := range 20000 {
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(i >> 8), byte(i), 3, 4}), 99)
		b.e.Receive(w.now, from, forge(i), &ev, &b.out)
		for _, p := range b.out.Packets() {
			if p.Data[0] == protocol.TypeCookie {
				cookies++
			}
		}
		b.out.Reset()
	}
	if n := b.e.Stats()["unknown sender"]; n > 101 {
		t.Errorf("%d of 20,000 passed the load limit", n)
	}
	if cookies < 10000 {
		t.Errorf("%d cookies", cookies)
	}
	a.mustAnswer(a.call(b.peer(), protocol.Ping{}), protocol.CmdPong)
	s.mustAnswer(s.call(b.peer(), protocol.Ping{}), protocol.CmdPong) // needs a cookie to open its session
	c.mustAnswer(c.call(b.peer(), protocol.Ping{}), protocol.CmdPong) // and to be asked who it is
	if v := s.outcome(1); v != nil {
		t.Error("never")
	}
	mac1 := b.e.Stats()["mac1"]
	for i := range 1000 {
		x := forge(i)
		x[len(x)-20]++
		b.e.Receive(w.now, a.addr, x, &ev, &b.out)
	}
	if got := b.e.Stats()["mac1"]; got != mac1+1000 || len(b.out.Packets()) > 0 {
		t.Errorf("%d of 1,000 dropped by mac1, %d answers", got-mac1, len(b.out.Packets()))
	}
}

// TestForgedCookie must not be taken by one who asked nothing or asked another.
func TestForgedCookie(t *testing.T) {
	w, a, b := pairOf(t)
	w.seen = func(netip.AddrPort, netip.AddrPort, []byte) bool { return false }
	a.call(b.peer(), protocol.Ping{})
	sent := bytes.Clone(a.out.Packets()[0].Data)
	w.run()
	env, err := protocol.ParseEnvelope(sent)
	w.must(err)
	env2, err := protocol.ParseEnvelope(w.signed(w.identity(7), b.ids[0], protocol.CmdPing, false, w.now, env.MessageID, nil))
	w.must(err)
	forged, err := protocol.NewCookieJar(w.rand).AppendCookie(nil, w.now, b.addr, &env2, b.ids[0].Keys.Signing.Public())
	w.must(err)
	a.receive(b.addr, forged)
	a.wantDrops("payload", 1)
	if len(a.out.Packets()) != 0 {
		t.Error("answered")
	}
}

// TestMutatedDatagrams changes good datagrams at random, half of them so that mac1 fits again: nothing breaks, nothing answers
// with more than it got, and what was kept goes.
func TestMutatedDatagrams(t *testing.T) {
	w, a, b := pairOf(t)
	var good [][]byte
	w.seen = func(_, to netip.AddrPort, m []byte) bool {
		if to == b.addr {
			good = append(good, bytes.Clone(m))
		}
		return true
	}
	a.mustAnswer(a.call(b.peer(), protocol.Ping{}), protocol.CmdPong)
	w.seen = nil
	good = append(good, w.corpus(a.ids[0], w.identity(8), w.identity(9), b.ids[0])...)
	var next [8]byte
	rnd := func(n int) int {
		w.rand.Read(next[:])
		return int(binary.BigEndian.Uint64(next[:]) % uint64(n))
	}
	var ev endpoint.Event
	from := netip.MustParseAddrPort("198.51.100.1:53")
	for i := range 30000 {
		x := bytes.Clone(good[rnd(len(good))])
		for range 1 + rnd(4) {
			if len(x) > 0 {
				x[rnd(len(x))] = byte(rnd(256))
			}
		}
		if rnd(20) == 0 {
			x = x[:rnd(len(x)+1)]
		}
		if i%2 == 0 && len(x) >= protocol.MinSigned && x[0] == protocol.TypeSigned {
			x = remac(x, b.id())
		}
		n := len(x)
		b.out.Reset()
		b.e.Receive(w.now, from, x, &ev, &b.out)
		for _, p := range b.out.Packets() {
			if n -= len(p.Data); n < 0 {
				t.Fatalf("more sent than came: %x", x[:min(8, len(x))])
			}
		}
		w.now = w.now.Add(time.Millisecond)
	}
	w.now = w.now.Add(time.Hour)
	b.out.Reset()
	b.e.Tick(w.now, nil, &b.out)
	if b.e.Sessions() != 0 {
		t.Errorf("%d sessions left", b.e.Sessions())
	}
}

// remac makes mac1 fit again, as anyone can who knows whom he sends to.
func remac(b []byte, to protocol.ID) []byte {
	m := protocol.NewMAC1Key(to).Sum(b[:len(b)-32])
	copy(b[len(b)-32:], m[:])
	return b
}
