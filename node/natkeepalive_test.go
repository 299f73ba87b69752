package node

import (
	"net/netip"
	"testing"
	"time"

	"culvert/dht/storetest"
	"culvert/discovery/nat"
)

// What a binding has survived so far counts at once, behind the NAT where it did, and never goes back by itself.
func TestKeepaliveMeanwhile(t *testing.T) {
	n := bareNode(t, t.TempDir(), func() time.Time { return storetest.Start })
	behind := func(a string) netip.Addr {
		at := netip.MustParseAddrPort(a)
		n.nat.report = nat.Report{V4: nat.Family{Mapped: at}}
		return at.Addr()
	}
	old := behind("203.0.113.1:7700")
	want := func(d time.Duration) {
		t.Helper()
		if got := n.keepaliveInterval(); got != d {
			t.Errorf("%s, want %s", got, d)
		}
	}
	n.survives(old, 27*time.Second)
	want(27 * time.Second)
	n.survives(old, 54*time.Second)
	n.survives(old, 27*time.Second)
	want(54 * time.Second)
	now := behind("203.0.113.2:7700")
	n.survives(old, 108*time.Second) // of a search that began behind the other
	want(54 * time.Second)
	n.survives(now, 27*time.Second)
	want(27 * time.Second)
	if !n.nat.keptAt.IsZero() {
		t.Error("an unfinished search counts as done")
	}
}
