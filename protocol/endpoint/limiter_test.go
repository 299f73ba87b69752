package endpoint

import (
	"net/netip"
	"testing"
	"time"

	"culvert/protocol"
)

func TestLimiter(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	l := NewLimiter(Rate{PerSecond: 1, Burst: 3}, 7)
	from, near, far := netip.MustParseAddrPort("203.0.113.1:1"), netip.MustParseAddrPort("203.0.113.200:9"), netip.MustParseAddrPort("198.51.100.1:1")
	for i := range 5 {
		if got := l.AllowSource(now, from); got != (i < 3) {
			t.Errorf("the %d. of a source: %v", i+1, got)
		}
	}
	if l.AllowSource(now, near) || !l.AllowSource(now, far) || !l.AllowSource(now.Add(time.Second), near) {
		t.Error("prefixes do not share, or others pay, or nothing comes back")
	}
	var a, b protocol.ID
	a[protocol.IDSize-1], b[protocol.IDSize-1] = 1, 2
	for i := range 5 {
		if got := l.AllowNode(now, a); got != (i < 3) {
			t.Errorf("the %d. of a node: %v", i+1, got)
		}
	}
	if !l.AllowNode(now, b) {
		t.Error("another node pays")
	}
}
