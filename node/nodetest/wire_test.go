package nodetest

import (
	"context"
	"crypto/rand"
	"net/netip"
	"slices"
	"testing"
	"time"

	"culvert/node"
	"culvert/protocol"
	"culvert/protocol/key"
)

// remac makes the outer code of a changed signed message right again: it is no secret.
func remac(b []byte, to protocol.ID) []byte {
	sum := protocol.NewMAC1Key(to).Sum(b[:len(b)-32])
	copy(b[len(b)-32:], sum[:])
	return b
}

func flipped(b []byte, at int) []byte {
	b = slices.Clone(b)
	b[(at+len(b))%len(b)] ^= 0x10
	return b
}

// answers says how many datagrams come back for what f sends: a ping behind it proves that all of it has been looked at. Its own
// Pong, and that of a Ping that had to be sent again, now or at the next time, does not count: a signed one names its Ping, and of
// sealed ones as many are allowed for as Pings were sent.
func (p *probe) answers(to protocol.Peer, f func()) (n int, longest int) {
	p.t.Helper()
	if p.asked == nil {
		p.asked = make(map[[8]byte]bool)
	}
	p.seen = func(_ netip.AddrPort, b []byte) {
		if id, ok := signedID(b); !ok || !p.asked[id] {
			n, longest = n+1, max(longest, len(b))
		}
	}
	f()
	p.sent = func(_ netip.AddrPort, b []byte) {
		if id, ok := signedID(b); ok {
			p.asked[id] = true
		} else {
			p.pings++
		}
	}
	defer func() { p.seen, p.sent = nil, nil }()
	_, err := p.call(p.t.Context(), to, protocol.Ping{}, patience)
	noError(p.t, err)
	pongs := min(n, p.pings)
	p.pings -= pongs
	return n - pongs, longest
}

// signedID is the message ID of a signed message, which stands at byte 84.
func signedID(b []byte) (id [8]byte, ok bool) {
	if len(b) < protocol.MinSigned || b[0] != protocol.TypeSigned {
		return id, false
	}
	return [8]byte(b[84:]), true
}

// What is not as it must be is dropped in silence and counted.
func TestSilentOnTheWire(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "acme")
	super := m.super("super", "acme")
	to := super.peer()
	p, other := m.probe("acme", false), m.probe("acme", true)
	now := time.Now
	for _, q := range []*probe{p, other} {
		q.answers(to, func() {})
	}
	ping := func() []byte { return p.signed(now(), to, protocol.Ping{}) }
	elsewhere := other.keys
	cases := []struct {
		name    string
		counter string
		answers int
		send    func() [][]byte
	}{
		{"tampered, outer code", "messages: mac1", 0, func() [][]byte { return [][]byte{flipped(ping(), 100), flipped(ping(), -40)} }},
		{"tampered, payload", "messages: signature", 0, func() [][]byte { return [][]byte{remac(flipped(ping(), 100), to.ID)} }},
		{"tampered, command", "messages: signature", 0, func() [][]byte {
			b := ping()
			b[2] = byte(protocol.CmdGetEndDevices)
			return [][]byte{remac(b, to.ID)}
		}},
		{"tampered, message ID", "messages: signature", 0, func() [][]byte { return [][]byte{remac(flipped(ping(), 90), to.ID)} }},
		{"tampered, sender", "messages: unknown sender", 1, func() [][]byte { return [][]byte{remac(flipped(ping(), 60), to.ID)} }}, // who is that?
		{"tampered, signature", "messages: signature", 0, func() [][]byte { return [][]byte{remac(flipped(ping(), -90), to.ID)} }},
		{"cut", "messages: mac1", 0, func() [][]byte { b := ping(); return [][]byte{b[:len(b)-1]} }},
		{"cut short", "messages: malformed", 0, func() [][]byte { return [][]byte{ping()[:20]} }},
		{"another version", "messages: version", 0, func() [][]byte { b := ping(); b[1] = 2; return [][]byte{b} }},
		{"replayed", "messages: replayed", 1, func() [][]byte { b := ping(); return [][]byte{b, slices.Clone(b)} }},
		{"stale", "messages: stale", 1, func() [][]byte { return [][]byte{p.signed(now().Add(-10*time.Minute), to, protocol.Ping{})} }}, // told the time
		{"from the future", "messages: stale", 1, func() [][]byte { return [][]byte{p.signed(now().Add(10*time.Minute), to, protocol.Ping{})} }},
		{"stale and tampered", "messages: signature", 0, func() [][]byte {
			return [][]byte{remac(flipped(p.signed(now().Add(-10*time.Minute), to, protocol.Ping{}), 100), to.ID)}
		}},
		{"misaddressed", "messages: misaddressed", 0, func() [][]byte {
			return [][]byte{p.signed(now(), protocol.Peer{ID: other.id, Signing: elsewhere.Signing.Public(), Sealing: elsewhere.Sealing.Public()}, protocol.Ping{})}
		}},
		{"oversized", "messages: oversized", 0, func() [][]byte { return [][]byte{append(ping(), make([]byte, 1000)...)} }},
		{"longer than any buffer", "udp: oversize", 0, func() [][]byte { return [][]byte{append(ping(), make([]byte, 8000)...)} }},
		{"sealed, no such session", "messages: unknown session", 1, func() [][]byte { b := make([]byte, 200); b[0], b[1] = protocol.TypeSealed, 1; return [][]byte{b} }}, // hint
		{"not ours", "dispatch: not ours", 0, func() [][]byte { return [][]byte{{0x30, 1, 2, 3}} }},
		{"QUIC without a connection", "quic: unknown connection", 0, func() [][]byte { return [][]byte{{0x40, 1, 2, 3}, make64(0x40)} }},
		{"QUIC that nobody asked for", "quic: stranger", 0, func() [][]byte { return [][]byte{{0xff}, make64(0xc0)} }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			before := count(super.node, c.counter)
			var l [][]byte
			n, longest := p.answers(to, func() {
				for _, b := range c.send() {
					l = append(l, b)
					p.write(to, b)
				}
			})
			if n != c.answers || longest > len(ping()) {
				t.Errorf("%d answers, want %d; the longest has %d bytes", n, c.answers, longest)
			}
			want := uint64(len(l))
			if c.name == "replayed" {
				want = 1
			}
			// Live nodes introduce themselves too, and are then strangers at first.
			introduced := c.counter == "messages: unknown sender" || c.counter == "messages: unknown session"
			if got := count(super.node, c.counter) - before; got < want || got > want && !introduced {
				t.Errorf("%s counted %d times, want %d: %v", c.counter, got, want, super.node.Stats()["messages"])
			}
		})
	}

	t.Run("sealed, tampered and replayed", func(t *testing.T) {
		var sealed []byte
		other.sent = func(_ netip.AddrPort, b []byte) {
			if b[0] == protocol.TypeSealed {
				sealed = slices.Clone(b)
			}
		}
		_, err := other.call(t.Context(), to, protocol.Ping{}, patience)
		noError(t, err)
		other.sent = nil
		n, _ := other.answers(to, func() {
			other.write(to, sealed)
			other.write(to, flipped(sealed, -1))
			next := slices.Clone(sealed)
			next[18]++ // a counter that has not been seen
			other.write(to, next)
		})
		if n != 0 || count(super.node, "messages: window") != 2 || count(super.node, "messages: seal") != 1 {
			t.Errorf("%d answers, %v", n, super.node.Stats()["messages"])
		}
	})
}

// identityPoint is the neutral element, for which everybody can sign: R of the same, S zero.
var identityPoint = key.Public{0: 1}

// A key of small order is refused also where an operator has signed it.
func TestSmallOrderKeyInRecord(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "acme")
	super := m.super("super", "acme")
	p := m.probe("acme", false)
	opKeys, _, _ := m.op.Identity()
	keys := must[*key.Pair](t)(key.Generate(rand.Reader))
	id := protocol.NodeID(p.id.Domain(), identityPoint)
	value := must[[]byte](t)(protocol.Marshal(protocol.NodeValue{Signing: identityPoint, Sealing: keys.Sealing.Public()}))
	forged := must[[]byte](t)(protocol.SignRecord(&protocol.Record{
		Table: protocol.TableNode, Owner: id, Signer: m.operatorPeer().ID, Epoch: 1, Sequence: 1,
		Issued: time.Now().Add(-time.Minute), Expires: time.Now().Add(time.Hour), Value: value,
	}, opKeys.Signing))

	to := super.peer()
	p.answers(to, func() {}) // who is known is not asked who it is; Pings that it took are counted, their Pongs may be late
	open := protocol.OpenSession{Ephemeral: keys.Sealing.Public(), Index: 7, Node: forged}
	b := must[[]byte](t)(protocol.AppendSigned(nil, &protocol.Outgoing{
		Sender: id, Receiver: to.ID, Sealing: to.Sealing, Command: open.Command(), Timestamp: time.Now(), MessageID: 99,
		Payload: must[[]byte](t)(protocol.AppendPayload(nil, open)),
	}, keys.Signing, rand.Reader))
	signature := b[len(b)-96 : len(b)-32]
	clear(signature)
	signature[0] = 1
	if n, _ := p.answers(to, func() { p.write(to, remac(b, to.ID)) }); n != 0 {
		t.Errorf("%d answers", n)
	}
	dropped(t, super.node, 1, "messages: certificate", "messages: payload", "messages: signature", "messages: malformed")

	// As a record it is kept out, too, by who is asked to store it and by who reads it.
	before := count(super.node, "records: put_refused_signer")
	m.hands.Load().Publish(context.Background(), forged)
	eventually(t, "the record is refused", func() bool { return count(super.node, "records: put_refused_signer") > before })
	v, err := p.call(t.Context(), to, protocol.GetNode{ID: id}, patience)
	noError(t, err)
	if got, err := protocol.ParseNode(v.Payload); err != nil || len(got.Record) != 0 {
		t.Errorf("the forged record is served: %d bytes, %v", len(got.Record), err)
	}
}

// dropped waits until as many were counted under these names.
func dropped(t *testing.T, n *node.Node, want uint64, names ...string) {
	t.Helper()
	eventually(t, "drops are counted", func() bool { return count(n, names...) >= want })
}

// make64 is a datagram that begins like this and has nothing else to say.
func make64(first byte) []byte { return append([]byte{first}, make([]byte, 63)...) }
