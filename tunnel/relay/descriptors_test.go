package relay

import (
	"net"
	"testing"

	"culvert/protocol/carrier/descriptors"
)

// Near the end of its descriptors a relay joins nobody else, says why, and joins again when there is room; who is joined stays.
func TestRelayKeepsReserve(t *testing.T) {
	limit := descriptors.Limit()
	if limit == 0 {
		return // this system has none
	}
	probe, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := probe.(*net.TCPListener).SyscallConn()
	var used int
	_ = raw.Control(func(fd uintptr) { used = int(fd) })
	probe.Close()
	r, addr := start(t, Config{Descriptors: descriptors.New((used+24)*5/4, nil)})
	a, b := join(t, addr, node(7, 1), node(7, 2), 1)
	var hold []*net.TCPConn // of this process, and so of the same descriptors
	for range 24 {
		hold = append(hold, dial(t, addr))
	}
	refused(t, addr, message(node(7, 1), node(7, 2), 2))
	if n := r.Stats()["out of descriptors"]; n == 0 {
		t.Error("nothing was refused for want of descriptors")
	}
	pass(t, a, b, 1<<20)
	for _, c := range hold {
		c.Close()
	}
	waitFor(t, r, "connections now", 2)
	join(t, addr, node(7, 3), node(7, 4), 3)
}
