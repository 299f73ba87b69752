package operator

import (
	"net/netip"
	"testing"

	"culvert/operator/care"
	"culvert/partition"
	"culvert/protocol"
)

// One that has proven what it fills may have to wait, because it can serve only after a split; that split needs the others.
func TestHandOverGoesOnBesideWhoWaits(t *testing.T) {
	o, c, mesh := runningOperator(t)
	for _, d := range []string{"brown", "crane"} {
		addDomain(t, o, d)
	}
	var second []protocol.ID
	for round := range 2 {
		for i, d := range []string{"acme", "brown", "crane"} {
			addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, byte(round), byte(10 + i)}), 7700)
			mesh.setAlive(addr, true)
			n, _ := join(t, o, d, "s")
			if round == 1 {
				second = append(second, n.ID)
				mesh.lags[n.ID] = len(second) > 1
			}
			if a := offer(t, o, n, addr.String()); a.Status != protocol.StatusOK {
				t.Fatal(a)
			}
		}
		if round == 0 {
			handAllOver(t, o, c, mesh)
		}
	}
	for range 20 {
		o.handOver.tick(t.Context(), mesh, c.now(), func(f func()) { f() })
		c.add(care.HandOverLast)
	}
	if m, _ := worldMap(t, o).Member(second[0]); !m.Fill.Valid() || m.Range.Valid() {
		t.Fatalf("the first of the second ones does not wait: %+v", m)
	}
	epoch := worldMap(t, o).Epoch()
	for _, id := range second {
		delete(mesh.lags, id)
	}
	handAllOver(t, o, c, mesh)
	if m := worldMap(t, o); m.Epoch() == epoch || len(m.Parts(partition.Whole())) != 2 {
		t.Errorf("not split: %+v", m.Members())
	}
}
