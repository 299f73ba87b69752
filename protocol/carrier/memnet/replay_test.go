package memnet

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// chaos runs an internet in which everything goes wrong and returns a hash of all that happened.
func chaos(t *testing.T, seed uint64) string {
	n := New(seed, start)
	script := rand.New(rand.NewPCG(seed, 99)) // the test's own decisions
	hash := sha256.New()
	n.Trace(func(e Event) {
		fmt.Fprintln(hash, e.At.UnixNano(), e.What, e.From, e.To, len(e.Data))
		hash.Write(e.Data)
	})
	bad := func() Link {
		return Link{
			Latency: time.Duration(script.IntN(80)) * time.Millisecond, Jitter: 20 * time.Millisecond,
			Loss: 0.05, Duplicate: 0.05, Reorder: 0.1,
		}
	}
	var nats []*NAT
	for i := range 30 {
		cfg := kinds[i%len(kinds)].cfg
		cfg.Link, cfg.Timeout, cfg.Hairpin = bad(), 2*time.Second, i%2 == 0
		var behind *NAT
		if i >= 20 {
			behind = nats[i-20]
		}
		nats = append(nats, n.NAT(cfg, behind, netip.AddrFrom4([4]byte{203, 0, byte(i / 20), byte(i)})))
	}
	var hosts []*Host
	var known []netip.AddrPort // every address that anybody was seen under
	for i := range 1000 {
		var behind *NAT
		if i >= 100 {
			behind = nats[i%len(nats)]
		}
		h := n.Host(behind, netip.AddrFrom4([4]byte{10, byte(i % 30), byte(i >> 8), byte(i)}))
		h.SetLink(bad())
		s := h.Listen(7700, nil)
		s.OnReceive(func(_ time.Time, from netip.AddrPort, data []byte) {
			known = append(known, from)
			if data[0] > 0 {
				s.Send(from, []byte{data[0] - 1, byte(script.Uint32())})
			}
		})
		hosts = append(hosts, h)
		known = append(known, s.Addr())
	}
	for range 200 {
		for range 20 {
			from := hosts[script.IntN(len(hosts))].sockets[7700]
			from.Send(known[script.IntN(len(known))], []byte{byte(script.IntN(4)), 0})
		}
		h := hosts[script.IntN(len(hosts))]
		switch script.IntN(6) {
		case 0:
			h.SetUp(h.off)
		case 1:
			nats[script.IntN(len(nats))].Reboot()
		case 2:
			n.Split([]Node{h, nats[0]}, []Node{nats[1], nats[2]})
		case 3:
			n.Heal()
		}
		n.RunFor(time.Duration(script.IntN(100)) * time.Millisecond)
	}
	for n.Step() {
	}
	for _, what := range []string{"delivered", "lost", "duplicated", "filtered", "no mapping", "split", "down"} {
		if n.Stats()[what] == 0 {
			t.Errorf("chaos without %q: %v", what, n.Stats())
		}
	}
	fmt.Fprintln(hash, n.Stats(), n.Now())
	return fmt.Sprintf("%x", hash.Sum(nil))
}

func TestSameSeedReplaysExactly(t *testing.T) {
	first := chaos(t, 42)
	if again := chaos(t, 42); again != first {
		t.Fatal("two runs of one seed differ")
	}
	if chaos(t, 43) == first {
		t.Fatal("another seed changes nothing")
	}
}
