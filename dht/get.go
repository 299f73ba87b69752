package dht

import (
	"slices"
	"time"

	"culvert/partition"
	"culvert/protocol"
)

// perSelect is how many records are looked at before a page is measured: more than fit one.
const perSelect = 16

// maxSelects bounds what one request may walk past: a page may come out empty and still say where to go on.
const maxSelects = 8

// readable reports whether v's sender may read records at k: a node of the domain, an operator, or one to whom they are passed
// on. Other super-nodes are strangers like any node: anybody may run one.
func (s *Server) readable(v *protocol.Verified, k protocol.ID) bool {
	if v.Sender.Domain() == k.Domain() || s.isOperator(v.Sender) {
		return true
	}
	m := s.Map()
	if m != nil && m.Keeps(v.Sender, k) {
		return true
	}
	return slices.ContainsFunc(s.duty.Load().earlier, func(e *partition.Map) bool { return e.Keeps(v.Sender, k) })
}

// gate is what every query for a key's records passes: domain, readiness, range.
func (s *Server) gate(v *protocol.Verified, k protocol.ID) (out []protocol.Out, ok bool) {
	switch {
	case !s.readable(v, k):
		return s.drop(dropForeignDomain), false
	case !s.covers(k):
		return s.outside(v, dropOutside), false
	case !s.Ready():
		return s.outside(v, dropNotReady), false
	}
	return nil, true
}

func (s *Server) getNode(now time.Time, v *protocol.Verified) []protocol.Out {
	m, err := protocol.ParseGetNode(v.Payload)
	if err != nil {
		return s.drop(dropMalformed)
	}
	// Operators and members of the map deal with every domain, so everybody may verify them.
	if o, ok := s.cfg.Trust.Operator(m.ID); ok {
		return s.replyOne(v, protocol.Node{Record: o.Record})
	}
	fellow := s.replicates(v.Sender) // who repairs needs certificates of other ranges too
	if !fellow && !s.readable(v, m.ID) && !s.replicates(m.ID) {
		return s.drop(dropForeignDomain)
	}
	var raw []byte
	if !s.Revoked(m.ID) {
		raw, _ = s.cfg.Store.Get(protocol.TableNode, m.ID, now)
	}
	switch {
	case raw == nil && !s.covers(m.ID): // one that is held with a NodeInfo of another key proves itself
		return s.outside(v, dropOutside)
	case !s.Ready() && !fellow:
		return s.outside(v, dropNotReady)
	}
	return s.replyOne(v, protocol.Node{Record: raw})
}

func (s *Server) replyOne(v *protocol.Verified, n protocol.Node) []protocol.Out {
	if len(n.Record)+4 > v.ReplyLimit {
		return s.drop(dropReplyLimit)
	}
	return v.Answer(protocol.CmdNode, n.AppendPayload(v.Room(len(n.Record)+4)))
}

func (s *Server) getNodeInfo(now time.Time, v *protocol.Verified) []protocol.Out {
	m, err := protocol.ParseGetNodeInfo(v.Payload)
	if err != nil {
		return s.drop(dropMalformed)
	}
	if out, ok := s.gate(v, m.ID); !ok {
		return out
	}
	p := newPage(v)
	defer p.free()
	if !s.Revoked(m.ID) {
		if raw, err := s.cfg.Store.Get(protocol.TableNodeInfo, m.ID, now); err == nil && !p.add(raw) {
			return s.drop(dropReplyLimit)
		}
	}
	return s.replyPage(v, protocol.CmdNodeInfo, p)
}

func (s *Server) getTunnelNodes(now time.Time, v *protocol.Verified) []protocol.Out {
	m, err := protocol.ParseGetTunnelNodes(v.Payload)
	if err != nil {
		return s.drop(dropMalformed)
	}
	if out, ok := s.gate(v, m.Location); !ok {
		return out
	}
	return s.page(v, protocol.CmdTunnelNodes, Query{Table: protocol.TableNodeInfo, By: ByKey, Key: m.Location, After: m.After, Now: now}, true)
}

func (s *Server) getEndDevices(now time.Time, v *protocol.Verified) []protocol.Out {
	m, err := protocol.ParseGetEndDevices(v.Payload)
	if err != nil {
		return s.drop(dropMalformed)
	}
	if out, ok := s.gate(v, m.Key); !ok {
		return out
	}
	return s.page(v, protocol.CmdEndDevices, devicesQuery(m, now), true)
}

func devicesQuery(m protocol.GetEndDevices, now time.Time) Query {
	q := Query{Table: protocol.TableEndDevice, By: ByKey, Key: m.Key, After: m.After, Now: now}
	if m.Key.Hash().IsZero() {
		q.By = ByDomain
	}
	return q
}

// getRevocations tells a node of its own domain's; whoever replicates has all of them by repair. A revoked node is told of what
// ends itself, and nothing of others.
func (s *Server) getRevocations(now time.Time, v *protocol.Verified) []protocol.Out {
	m, err := protocol.ParseGetRevocations(v.Payload)
	if err != nil {
		return s.drop(dropMalformed)
	}
	if !s.Ready() {
		return s.outside(v, dropNotReady)
	}
	if s.Revoked(v.Sender) {
		p := newPage(v)
		defer p.free()
		for _, id := range []protocol.ID{v.Sender, protocol.NewID(v.Sender.Domain(), protocol.Hash{})} {
			if raw, err := s.cfg.Store.Get(protocol.TableRevocation, id, now); err == nil && revocationNumber(raw) > m.Since {
				p.add(raw) // there is room for both
			}
		}
		return s.replyPage(v, protocol.CmdRevocations, p)
	}
	return s.page(v, protocol.CmdRevocations, revocationsQuery(v, m, now), false)
}

func revocationsQuery(v *protocol.Verified, m protocol.GetRevocations, now time.Time) Query {
	return Query{
		Table: protocol.TableRevocation, By: ByNumber, Key: protocol.NewID(v.Sender.Domain(), protocol.Hash{}), Since: m.Since, Now: now,
	}
}

// beforeAll is below every ID of a key and not the zero one, which ends a list.
var beforeAll = protocol.ID{protocol.IDSize - 1: 1}

// getSuperNodes serves what has changed since the reader's map; a reader whose pages are of two maps sees it by the hash.
func (s *Server) getSuperNodes(_ time.Time, v *protocol.Verified) []protocol.Out {
	m, err := protocol.ParseGetSuperNodes(v.Payload)
	if err != nil {
		return s.drop(dropMalformed)
	}
	pm := s.Map()
	if pm == nil {
		return s.outside(v, dropNotReady)
	}
	p := newPage(v)
	defer p.free()
	if m.After.IsZero() && !p.add(pm.Head()) {
		return s.drop(dropReplyLimit)
	}
	if m.Epoch < pm.Epoch() {
		last := m.After
		if last.IsZero() {
			last = beforeAll // the head may fill a page by itself
		}
		for c := range pm.Changes(m.Epoch) {
			if !m.After.IsZero() && c.Owner.Compare(m.After) <= 0 {
				continue
			}
			if !p.add(c.Record) {
				if len(p.list.Records) == 0 {
					return s.drop(dropReplyLimit)
				}
				p.list.Next = last
				break
			}
			last = c.Owner
		}
	}
	return s.replyPage(v, protocol.CmdSuperNodes, p)
}

func (s *Server) getOperatorNodes(_ time.Time, v *protocol.Verified) []protocol.Out {
	m, err := protocol.ParseGetOperatorNodes(v.Payload)
	if err != nil {
		return s.drop(dropMalformed)
	}
	ops := s.cfg.Trust.Operators()
	sortOperators(ops)
	p := newPage(v)
	defer p.free()
	last := m.After
	for _, o := range ops {
		if !m.After.IsZero() && o.ID.Compare(m.After) <= 0 {
			continue
		}
		if !p.add(o.Record) {
			if len(p.list.Records) == 0 {
				return s.drop(dropReplyLimit)
			}
			p.list.Next = last
			break
		}
		last = o.ID
	}
	return s.replyPage(v, protocol.CmdOperatorNodes, p)
}
