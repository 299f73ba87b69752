package partition

import (
	"cmp"
	"encoding/binary"
	"slices"

	"culvert/protocol"
)

// group is what members must not have in common: a customer domain, an IPv4 /16 or an IPv6 /32.
type group uint64

const (
	groupDomain group = 1 << 62
	groupIPv4   group = 2 << 62
	groupIPv6   group = 3 << 62
)

// groupsOf are the groups that c counts in. Private and loopback addresses say nothing about where it is.
func groupsOf(c Candidate) (gs []group) {
	if c.Own || c.ID.Domain() == protocol.OperatorDomain {
		return nil // neutral: limits are for those whom the operator does not know, and his own may share a hoster's prefix
	}
	gs = append(gs, groupDomain|group(c.ID.Domain()))
	for _, ap := range c.Addresses {
		a := ap.Addr().Unmap()
		if !a.IsGlobalUnicast() || a.IsPrivate() {
			continue
		}
		var g group
		if a.Is4() {
			b := a.As4()
			g = groupIPv4 | group(binary.BigEndian.Uint16(b[:2]))
		} else {
			b := a.As16()
			g = groupIPv6 | group(binary.BigEndian.Uint32(b[:4]))
		}
		if !slices.Contains(gs, g) {
			gs = append(gs, g)
		}
	}
	return gs
}

// most is how many of n members may be of one group: a third, and one in any case.
func most(n int) int { return max(1, n/3) }

func (m *node) clashes(o *node) bool {
	return m != o && slices.ContainsFunc(m.groups, func(g group) bool { return slices.Contains(o.groups, g) })
}

func (m *node) clashesAny(os []*node) bool { return slices.ContainsFunc(os, m.clashes) }

// apart picks members of which no two share a group: those that share the least first, then those that serve, then by ID.
func apart(ms []*node) []*node {
	if len(ms) <= 2*Replicas && !slices.ContainsFunc(ms, func(m *node) bool { return m.clashesAny(ms) }) {
		return ms
	}
	count := make(map[group]int, 2*len(ms))
	for _, m := range ms {
		for _, g := range m.groups {
			count[g]++
		}
	}
	degree := func(m *node) (d int) {
		for _, g := range m.groups {
			d += count[g] - 1
		}
		return d
	}
	ms = slices.Clone(ms)
	slices.SortFunc(ms, func(a, b *node) int {
		return cmp.Or(cmp.Compare(degree(a), degree(b)), cmp.Compare(a.newness(), b.newness()), a.c.ID.Compare(b.c.ID))
	})
	taken := make(map[group]bool, len(count))
	return slices.DeleteFunc(ms, func(m *node) bool {
		if slices.ContainsFunc(m.groups, func(g group) bool { return taken[g] }) {
			return true
		}
		for _, g := range m.groups {
			taken[g] = true
		}
		return false
	})
}

// part is a set of members that has to be told apart: whoever is on one side clashes with somebody on the other.
type part [2][]*node

// parts makes two sides of ms within each of which no two share a group. left are those that neither side can take.
func parts(ms []*node) (ps []part, left []*node) {
	ms = slices.Clone(ms)
	slices.SortFunc(ms, func(a, b *node) int { return cmp.Or(cmp.Compare(a.newness(), b.newness()), a.c.ID.Compare(b.c.ID)) })
	of := make(map[group][]*node, 2*len(ms))
	side := make(map[*node]int, len(ms)) // 1 or 2; 3 for neither
	for _, m := range ms {
		if slices.ContainsFunc(m.groups, func(g group) bool { return len(of[g]) == 2 }) {
			side[m], left = 3, append(left, m)
			continue
		}
		for _, g := range m.groups {
			of[g] = append(of[g], m)
		}
	}
	for _, m := range ms {
		if side[m] != 0 {
			continue
		}
		var p part
		queue := []*node{m}
		side[m] = 1
		for len(queue) > 0 {
			x := queue[0]
			queue = queue[1:]
			if x.clashesAny(p[side[x]-1]) { // an odd circle
				side[x], left = 3, append(left, x)
				continue
			}
			p[side[x]-1] = append(p[side[x]-1], x)
			for _, g := range x.groups {
				for _, o := range of[g] {
					if side[o] == 0 {
						side[o] = 3 - side[x]
						queue = append(queue, o)
					}
				}
			}
		}
		ps = append(ps, p)
	}
	return ps, left
}

// halve puts the parts together to two sides of nearly the same size. Members of one's own domain go where near says, one a
// side at most; the rest is chance.
func halve(ps []part, near func(*node) int, r Random) (h [2][]*node) {
	shuffle(r, ps)
	slices.SortStableFunc(ps, func(a, b part) int { return cmp.Compare(b.weight(), a.weight()) })
	n := 0
	for _, p := range ps {
		n += len(p[0]) + len(p[1])
	}
	var local [2]bool
	put := func(p part) {
		more := 0
		if len(p[1]) > len(p[0]) {
			more = 1
		}
		to := 0
		if less := cmp.Compare(len(h[0]), len(h[1])); less > 0 || less == 0 && r.IntN(2) == 1 { // which side wants more
			to = 1
		}
		h[to] = append(h[to], p[more]...)
		h[1-to] = append(h[1-to], p[1-more]...)
	}
	var rest []part
	for _, p := range ps {
		if p.weight() > 0 {
			put(p)
			continue
		}
		if p.weight() < 0 { // a single one
			if s := near(p[0][0]); s >= 0 && !local[s] && len(h[s]) < (n+1)/2 {
				local[s] = true
				h[s] = append(h[s], p[0][0])
				continue
			}
		}
		rest = append(rest, p)
	}
	for _, p := range rest {
		put(p)
	}
	return h
}

// weight orders parts for halve: the lopsided first, then pairs, then single members.
func (p part) weight() int {
	if len(p[0])+len(p[1]) == 1 {
		return -1
	}
	return max(len(p[0]), len(p[1])) - min(len(p[0]), len(p[1]))
}

func shuffle[T any](r Random, l []T) {
	for i := len(l) - 1; i > 0; i-- {
		j := r.IntN(i + 1)
		l[i], l[j] = l[j], l[i]
	}
}
