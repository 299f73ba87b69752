package partition

import "culvert/protocol"

// Confirmed is how many of those who serve r have it, where that is the fewest of all of its keys: they may lie in different
// ranges, and whoever looks under one key asks nobody of another. A key that all who serve it have counts as Members. A
// record that is everywhere is counted wherever it is.
func (m *Map) Confirmed(r *protocol.Record, has func(protocol.ID) bool) int {
	if r.Table.Everywhere() {
		n, _ := counted(m.members, has)
		return n
	}
	least := len(m.members)
	for _, k := range r.Keys() {
		if n, all := counted(m.Serving(k), has); !all {
			least = min(least, n)
		}
	}
	return least
}

func counted(l []Member, has func(protocol.ID) bool) (n int, all bool) {
	for _, mem := range l {
		if has(mem.Peer.ID) {
			n++
		}
	}
	return n, n == len(l)
}
