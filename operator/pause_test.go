package operator

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"culvert/operator/care"
	"culvert/operator/registry"
	"culvert/operator/sqlite"
	"culvert/partition"
	"culvert/protocol"
)

// looks lets d pass, in which those who fill are looked at.
func looks(t *testing.T, o *Operator, c *clock, mesh Mesh, d time.Duration) {
	t.Helper()
	for range d / care.HandOverLast {
		o.handOver.tick(t.Context(), mesh, c.now(), func(f func()) { f() })
		c.add(care.HandOverLast)
	}
}

// A super-node that never finishes what it takes over goes to the back of the queue, for longer each time.
func TestWhoNeverFillsLosesItsPlace(t *testing.T) {
	o, c, mesh := runningOperator(t)
	bring := func(i int, lags bool) *protocol.CertifiedNode {
		t.Helper()
		name := fmt.Sprintf("customer%d", i)
		addDomain(t, o, name)
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 2, byte(i)}), 7700)
		mesh.setAlive(addr, true)
		n, _ := join(t, o, name, "s")
		mesh.lags[n.ID] = lags
		if a := offer(t, o, n, addr.String()); a.Status != protocol.StatusOK {
			t.Fatal(a)
		}
		return n
	}
	row := func(n *protocol.CertifiedNode) (r registry.SuperNode) {
		t.Helper()
		if err := o.db.View(t.Context(), func(tx *sqlite.Tx) (err error) {
			r, err = tx.SuperNode(n.ID)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return r
	}
	hanging := bring(0, true)
	for i := range 2*partition.Replicas - 1 {
		bring(i+1, false)
	}
	looks(t, o, c, mesh, 30*time.Minute)
	if m, ok := worldMap(t, o).Member(hanging.ID); !ok || !m.Fill.Valid() || row(hanging).Stalls != 0 {
		t.Fatalf("it loses its place though nobody else is there: %+v %+v", m, row(hanging))
	}
	bring(10, false)
	o.watcher.round(t.Context(), mesh, c.now())
	looks(t, o, c, mesh, time.Minute+2*care.HandOverLast)
	if _, ok := worldMap(t, o).Member(hanging.ID); ok || row(hanging).Stalls != 1 {
		t.Fatalf("it has its place still: %+v", row(hanging))
	}
	handAllOver(t, o, c, mesh)
	if m := worldMap(t, o); len(m.Parts(partition.Whole())) != 2 {
		t.Errorf("not split: %+v", m.Members())
	}
	offer(t, o, hanging, "127.0.2.0:7700")
	if r := row(hanging); r.Stalls != 1 || r.Paused.Sub(c.now()) < 20*time.Minute {
		t.Errorf("offering itself again has ended the pause: %+v", r)
	}
	if _, ok := worldMap(t, o).Member(hanging.ID); ok {
		t.Error("it has a place during the pause")
	}
	c.add(care.FillPause(1))
	o.maintain(t.Context())
	if _, ok := worldMap(t, o).Member(hanging.ID); !ok {
		t.Error("it is not tried again after the pause")
	}
	if p := care.FillPause(2); p <= care.FillPause(1) {
		t.Errorf("the second pause is %v", p)
	}
}
