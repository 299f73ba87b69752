package care

import (
	"net/netip"
	"testing"
	"time"

	"culvert/dht/storetest"
	"culvert/partition"
	"culvert/protocol"
)

// Whom the planner keeps waiting does not hold up the others, and is brought up again for every new map.
func TestProvenButNotPlaced(t *testing.T) {
	w := storetest.NewWorld(t)
	build := func(epoch uint64) *partition.Map {
		var recs [][]byte
		for i, name := range []string{"a", "b", "c"} {
			n := w.Node(7, name)
			p := partition.Placement{Range: partition.None(), Fill: partition.Whole(), Candidate: partition.Candidate{
				ID: n.ID, Signing: n.Keys.Signing.Public(), Sealing: n.Keys.Sealing.Public(),
				Addresses: []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 7700)},
			}}
			recs = append(recs, w.Static(protocol.Record{Table: protocol.TableSuperNode, Owner: n.ID, Sequence: epoch}, p.Value(epoch)))
		}
		hv, err := partition.Head(epoch, recs)
		if err != nil {
			t.Fatal(err)
		}
		head := w.Static(protocol.Record{Table: protocol.TableMapHead, Owner: partition.HeadOwner(w.Trust.Root()), Sequence: epoch}, hv)
		m, err := partition.Build(head, recs, func(*protocol.Record) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	h, m, now := NewHandOver(), build(1), time.Unix(0, 0)
	due := h.Due(now, m)
	if len(due) != 3 || len(h.Due(now, m)) != 0 {
		t.Fatalf("%d are asked", len(due))
	}
	h.Finished(now, due[0].Peer.ID, Seen{Proven: true})
	h.Finished(now, due[1].Peer.ID, Seen{})
	filled, news := h.Proven(m)
	if len(filled) != 1 || !news {
		t.Fatalf("proven %v, news %v", filled, news)
	}
	h.Told(m, filled) // and the planner leaves the map as it is
	if _, news := h.Proven(m); news {
		t.Error("the planner is told again of what he knows")
	}
	now = now.Add(HandOverLast)
	if again := h.Due(now, m); len(again) != 1 || again[0].Peer.ID != due[1].Peer.ID {
		t.Errorf("asked %d", len(again))
	}
	h.Finished(now, due[2].Peer.ID, Seen{Proven: true})
	if filled, news := h.Proven(m); len(filled) != 2 || !news {
		t.Errorf("proven %v, news %v", filled, news)
	} else {
		h.Told(m, filled)
	}
	if _, news := h.Proven(build(2)); !news {
		t.Error("a new map is made without what was proven before")
	}
}
