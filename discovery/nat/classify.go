package nat

import (
	"net/netip"
	"slices"

	"culvert/protocol"
)

// sample is one flow as it was seen from outside.
type sample struct {
	socket int
	server int
	local  uint16 // the socket's port
	mapped netip.AddrPort
}

// samples are the fresh sockets' flows, in the order in which they were opened.
func (f *family) samples() (l []sample) {
	for _, q := range f.queries {
		if q.socket != 0 && q.mapped.IsValid() {
			l = append(l, sample{q.socket, q.server, f.local(q.socket), q.mapped})
		}
	}
	return l
}

func (f *family) local(socket int) uint16 {
	for i, s := range f.sockets {
		if f.socket(i) == socket {
			return s.port
		}
	}
	return f.m.cfg.Port
}

// translated asks every server's answers whether addresses are translated; the majority of servers decides.
func (f *family) translated() Tri {
	said := make(map[int]bool) // by server: something was translated
	for _, q := range f.queries {
		if q.mapped.IsValid() {
			plain := slices.Contains(f.m.cfg.Own, q.mapped.Addr()) && q.mapped.Port() == f.local(q.socket)
			said[q.server] = said[q.server] || !plain
		}
	}
	yes := 0
	for _, s := range said {
		if s {
			yes++
		}
	}
	switch no := len(said) - yes; {
	case yes > no:
		return Yes
	case no > yes:
		return No
	}
	return Unknown
}

// mappingOf classes the mapping of flows behind a NAT.
func mappingOf(all []sample) (protocol.Mapping, uint16) {
	host, ok := majorityHost(all)
	if !ok {
		return protocol.MappingUnknown, 0
	}
	l := slices.DeleteFunc(slices.Clone(all), func(s sample) bool { return s.mapped.Addr() != host })
	same, differ := 0, 0 // sockets that show one port, or a port for each server
	for socket, n := range countBy(l, func(s sample) int { return s.socket }) {
		if n < 2 {
			continue
		}
		most := 0
		for _, k := range countBy(l, func(s sample) int {
			if s.socket != socket {
				return -1
			}
			return int(s.mapped.Port())
		}, -1) {
			most = max(most, k)
		}
		switch {
		case most >= 2 && 2*most > n:
			same++
		case most == 1:
			differ++
		default:
			return protocol.MappingUnknown, 0
		}
	}
	switch {
	case same > 0 && differ == 0:
		return protocol.MappingIndependent, 0
	case same > 0:
		return protocol.MappingUnknown, 0
	case differ == 0:
		return alone(l)
	}
	if step, ok := stepOf(l); ok {
		return protocol.MappingSequential, step
	}
	// One of two that contradict each other may not be telling the truth, and few ports show no pattern.
	if len(l) < 3 || len(countBy(l, func(s sample) int { return s.server })) < 2 {
		return protocol.MappingUnknown, 0
	}
	return protocol.MappingRandom, 0
}

// alone judges by a single server: a NAT that keeps a socket's port keeps it whoever is written to, and one that counts is
// taken to count flows.
func alone(l []sample) (protocol.Mapping, uint16) {
	if len(l) < freshSockets {
		return protocol.MappingUnknown, 0
	}
	if !slices.ContainsFunc(l, func(s sample) bool { return s.mapped.Port() != s.local }) {
		return protocol.MappingIndependent, 0
	}
	if step, ok := stepOf(l); ok {
		return protocol.MappingSequential, step
	}
	return protocol.MappingUnknown, 0
}

// stepOf looks for a sequence, also without any one server, which may not be telling the truth.
func stepOf(l []sample) (uint16, bool) {
	ports := func(without int) (p []uint16) {
		for _, s := range l {
			if s.server != without {
				p = append(p, s.mapped.Port())
			}
		}
		return p
	}
	if step, ok := sequence(ports(-1)); ok {
		return step, true
	}
	for server := range countBy(l, func(s sample) int { return s.server }) {
		if step, ok := sequence(ports(server)); ok {
			return step, true
		}
	}
	return 0, false
}

// newest is the flow whose port is farthest in the direction of the steps.
func newest(l []sample, step uint16) (last netip.AddrPort) {
	host, _ := majorityHost(l)
	for _, s := range l {
		if s.mapped.Addr() != host {
			continue
		}
		if ahead := int16(s.mapped.Port() - last.Port()); !last.IsValid() || ahead > 0 == (int16(step) > 0) && ahead != 0 {
			last = s.mapped
		}
	}
	return last
}

// majorityHost is the outside address that more than half of the servers see, or all where there is one.
func majorityHost(l []sample) (netip.Addr, bool) {
	servers := make(map[int]netip.Addr)
	for _, s := range l {
		servers[s.server] = s.mapped.Addr()
	}
	votes := make(map[netip.Addr]int)
	for _, a := range servers {
		votes[a]++
	}
	for a, n := range votes {
		if 2*n > len(servers) {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// countBy counts samples by a key; keys that are left out are not counted.
func countBy(l []sample, key func(sample) int, out ...int) map[int]int {
	m := make(map[int]int)
	for _, s := range l {
		if k := key(s); !slices.Contains(out, k) {
			m[k]++
		}
	}
	return m
}
