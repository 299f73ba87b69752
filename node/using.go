package node

import (
	"cmp"
	"slices"
	"time"

	"culvert/node/localapi"
	"culvert/partition"
	"culvert/protocol"
)

// States of a super-node and reasons for using it, as localapi.SuperNode has them.
const (
	superUnknown   = "unknown"
	superOK        = "ok"
	superBusy      = "busy"
	superSuspected = "suspected"
	superIsolated  = "isolated"

	becauseHome     = "home"
	becauseServes   = "serves_domain"
	becauseOwn      = "own_domain"
	becauseNearest  = "nearest"
	becauseOperator = "operator"
)

// maxUsing bounds the list: a range may have many members while it is not split.
const maxUsing = 32

// using are the super-nodes that this membership uses: its homes, then those that serve its domain's records, the nearest first.
func (m *membership) using(now time.Time) []localapi.SuperNode {
	homes := m.homes.snapshot()
	var l []localapi.SuperNode
	known := make(map[protocol.ID]int)
	add := func(p protocol.Peer, isolated bool, reason string) {
		i, ok := known[p.ID]
		if !ok {
			if len(l) >= maxUsing {
				return
			}
			i = len(l)
			known[p.ID] = i
			l = append(l, m.standing(p, isolated, now))
		}
		l[i].Reasons = append(l[i].Reasons, reason)
	}
	pm := m.mesh.pmap.Load()
	isolated := func(id protocol.ID) bool {
		if pm == nil {
			return false
		}
		mem, ok := pm.Member(id)
		return ok && mem.Isolated
	}
	for _, h := range homes {
		add(h.peer, isolated(h.peer.ID), becauseHome)
		s := &l[known[h.peer.ID]]
		if h.rtt > 0 {
			s.Milliseconds = milliseconds(h.rtt)
		}
		switch {
		case h.misses > 0 && s.State != superIsolated:
			s.State = superSuspected
		case h.rtt > 0 && s.State == superUnknown:
			s.State = superOK
		}
	}
	if pm == nil {
		return l
	}
	var serving []partition.Member
	key := protocol.NewID(m.domain, protocol.Hash{})
	for _, mem := range pm.Keeping(key) {
		if mem.Range.ContainsKey(key) && !m.node.isLocal(mem.Peer.ID) && !m.mesh.isRevoked(mem.Peer.ID) {
			serving = append(serving, mem)
		}
	}
	near := func(mem partition.Member) time.Duration {
		if d, ok := m.mesh.scores.RTT(mem.Peer.ID, now); ok && !mem.Isolated {
			return d
		}
		return time.Hour
	}
	slices.SortStableFunc(serving, func(a, b partition.Member) int { return cmp.Compare(near(a), near(b)) })
	for i, mem := range serving {
		add(mem.Peer, mem.Isolated, becauseServes)
		if i == 0 && near(mem) < time.Hour {
			add(mem.Peer, mem.Isolated, becauseNearest)
		}
	}
	for id, i := range known {
		if id.Domain() == m.domain {
			l[i].Reasons = append(l[i].Reasons, becauseOwn)
		}
		if id.Domain() == protocol.OperatorDomain {
			l[i].Reasons = append(l[i].Reasons, becauseOperator)
		}
	}
	return l
}

// standing is what is remembered of a super-node's answers.
func (m *membership) standing(p protocol.Peer, isolated bool, now time.Time) localapi.SuperNode {
	s := localapi.SuperNode{ID: p.ID.String(), Address: p.Addr.String(), State: superUnknown, Reasons: []string{}}
	st, known := m.mesh.scores.Standing(p.ID, now)
	s.Milliseconds = milliseconds(st.RTT)
	switch {
	case isolated:
		s.State = superIsolated
	case known && st.Suspect:
		s.State = superSuspected
	case known && st.Busy:
		s.State = superBusy
	case st.RTT > 0:
		s.State = superOK
	}
	return s
}
