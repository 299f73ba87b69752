package operator

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"culvert/operator/care"
	"culvert/partition"
	"culvert/protocol"
)

// Whoever is isolated or released, in whatever order, every position is served by somebody whom readers ask, in every map.
func TestIsolationLeavesNoGap(t *testing.T) {
	o, c, mesh := runningOperator(t)
	var ids []protocol.ID
	for i := range 7 {
		name := fmt.Sprintf("customer%d", i)
		addDomain(t, o, name)
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 4, byte(i)}), 7700)
		mesh.setAlive(addr, true)
		n, _ := join(t, o, name, "s")
		if a := offer(t, o, n, addr.String()); a.Status != protocol.StatusOK {
			t.Fatal(a)
		}
		ids = append(ids, n.ID)
	}
	handAllOver(t, o, c, mesh)
	r := rand.New(rand.NewPCG(1, 2))
	isolated := make(map[protocol.ID]bool)
	check := func() {
		t.Helper()
		for _, part := range worldMap(t, o).Parts(partition.Whole()) {
			if len(part.Serving) == 0 {
				t.Fatalf("nobody serves %v, with %d isolated", part.Range, len(isolated))
			}
		}
	}
	most := 0
	for range 60 {
		id := ids[r.IntN(len(ids))]
		if isolated[id] {
			if r.IntN(2) == 0 {
				if err := o.ReleaseSuperNode(t.Context(), admin, id.String()); err != nil {
					t.Fatal(err)
				}
				delete(isolated, id)
			}
		} else if err := o.isolate(t.Context(), id, "found"); err != nil {
			t.Fatal(err)
		} else {
			isolated[id] = true
		}
		most = max(most, len(isolated))
		check()
		for range r.IntN(4) {
			o.handOver.tick(t.Context(), mesh, c.now(), func(f func()) { f() })
			c.add(care.HandOverLast)
			check()
		}
	}
	for _, id := range ids {
		if !isolated[id] {
			if err := o.IsolateSuperNode(t.Context(), admin, id.String()); err != nil {
				t.Fatal(err)
			}
			check()
		}
	}
	t.Logf("up to %d of %d isolated on the way, and then all", most, len(ids))
}

// The audit waits with one that alone serves a range until the operator does too, but not for ever.
func TestAuditWaitsForWhoServesAlone(t *testing.T) {
	o, c, mesh := runningOperator(t)
	addr := netip.MustParseAddrPort("127.0.0.2:7700")
	mesh.setAlive(addr, true)
	n, _ := join(t, o, "acme", "n")
	if a := offer(t, o, n, addr.String()); a.Status != protocol.StatusOK {
		t.Fatal(a)
	}
	handAllOver(t, o, c, mesh)
	f := care.Finding{ID: n.ID, Reason: "withheld"}
	if !o.auditor.othersServe(worldMap(t, o), f, c.now()) {
		t.Fatal("the operator serves everything beside it, and the isolation waits")
	}
	alone := signedMap(t, o, []partition.Placement{{Range: partition.Whole(), Fill: partition.None(), Candidate: partition.Candidate{
		ID: n.ID, Signing: n.Signing, Sealing: n.Sealing, Addresses: []netip.AddrPort{addr},
	}}})
	for _, at := range []time.Duration{0, time.Second, aloneFor - time.Second} {
		if o.auditor.othersServe(alone, f, c.now().Add(at)) {
			t.Errorf("isolated after %v though nobody else serves", at)
		}
	}
	if !o.auditor.othersServe(alone, f, c.now().Add(aloneFor)) {
		t.Error("never isolated")
	}
}
