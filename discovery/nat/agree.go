package nat

import (
	"net/netip"

	"culvert/protocol"
)

// Vote is one server's word about an outside address.
type Vote struct {
	Server  protocol.ID
	Trusted bool // an operator
	Addr    netip.AddrPort
}

// Agree is the outside address that servers agree on. Its host is what an operator says, else what two servers say, else what the
// only one says that said anything; sure is false in the last case. Its port is what most of them say of that host, the later
// ones where they differ, as behind a NAT whose mapping depends on the destination. A later vote of a server replaces its
// earlier one.
func Agree(votes []Vote) (addr netip.AddrPort, sure bool) {
	last := make(map[protocol.ID]int, len(votes))
	for i, v := range votes {
		if v.Addr.IsValid() {
			last[v.Server] = i
		}
	}
	weight := make(map[netip.Addr]int)
	for _, i := range last {
		weight[votes[i].Addr.Addr()]++
		if votes[i].Trusted {
			weight[votes[i].Addr.Addr()] += len(votes)
		}
	}
	var host netip.Addr
	best, tied := 0, false
	for a, w := range weight {
		switch {
		case w > best:
			host, best, tied = a, w, false
		case w == best:
			tied = true
		}
	}
	sure = best >= 2
	if tied || !sure && len(last) != 1 {
		return netip.AddrPort{}, false
	}
	ports := make(map[uint16]int)
	for i, v := range votes {
		if n, ok := last[v.Server]; ok && n == i && v.Addr.Addr() == host {
			ports[v.Addr.Port()]++
			if p := v.Addr.Port(); !addr.IsValid() || ports[p] >= ports[addr.Port()] {
				addr = v.Addr
			}
		}
	}
	return addr, sure
}
