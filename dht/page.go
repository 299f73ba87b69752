package dht

import (
	"slices"
	"time"

	"culvert/protocol"
)

// page is one RecordList as far as the reply may reach.
type page struct {
	list protocol.RecordList
	room int
}

func newPage(v *protocol.Verified) page { return page{room: v.ReplyLimit - protocol.RecordListSize()} }

// add reports whether raw had room.
func (p *page) add(raw []byte) bool {
	n := protocol.RecordListSize(len(raw)) - protocol.RecordListSize()
	if n > p.room || p.room < 0 {
		return false
	}
	p.room -= n
	p.list.Records = append(p.list.Records, raw)
	return true
}

// page answers with what q selects, as much as fits. Where hide is set, owners that are revoked are left out.
func (s *Server) page(v *protocol.Verified, c protocol.Command, q Query, hide bool) []protocol.Out {
	p := newPage(v)
	var items [perSelect]Item
	for round := 0; ; round++ {
		n, err := s.cfg.Store.Select(q, items[:])
		if err != nil {
			return s.drop(dropStore)
		}
		for _, it := range items[:n] {
			if hide && s.Revoked(it.Owner) {
				q.After = it.Owner
				continue
			}
			if !p.add(it.Raw) {
				if len(p.list.Records) == 0 {
					return s.drop(dropReplyLimit)
				}
				// ByNumber goes on by the last record's number; Next only says that there is more.
				p.list.Next = q.After
				return s.replyList(v, c, p.list)
			}
			q.After = it.Owner
			if q.By == ByNumber {
				q.Since = revocationNumber(it.Raw)
			}
		}
		if n < len(items) {
			return s.replyList(v, c, p.list)
		}
		if round == maxSelects {
			p.list.Next = q.After
			return s.replyList(v, c, p.list)
		}
	}
}

func revocationNumber(raw []byte) uint64 {
	r, err := protocol.ParseRecord(raw)
	if err != nil {
		return 0
	}
	v, err := revocationValue(r)
	if err != nil {
		return 0
	}
	return v.Number
}

func (s *Server) replyList(v *protocol.Verified, c protocol.Command, l protocol.RecordList) []protocol.Out {
	size := protocol.RecordListSize()
	for _, r := range l.Records {
		size += protocol.RecordListSize(len(r)) - protocol.RecordListSize()
	}
	if size > v.ReplyLimit {
		return s.drop(dropReplyLimit)
	}
	return []protocol.Out{{Reply: true, Command: c, Payload: l.AppendPayload(make([]byte, 0, size))}}
}

func sortOperators(ops []*protocol.Operator) {
	slices.SortFunc(ops, func(a, b *protocol.Operator) int { return a.ID.Compare(b.ID) })
}

// Cached reports whether v's handler answers from memory, so that it may run in the socket loop. What is false belongs on a
// worker: queries that need the disk, and all that is not a query.
func (s *Server) Cached(v *protocol.Verified) bool {
	var q Query
	n := 1
	switch v.Command {
	case protocol.CmdGetNode:
		m, err := protocol.ParseGetNode(v.Payload)
		if err != nil {
			return true
		}
		q = Query{Table: protocol.TableNode, By: ByKey, Key: m.ID}
	case protocol.CmdGetNodeInfo:
		m, err := protocol.ParseGetNodeInfo(v.Payload)
		if err != nil {
			return true
		}
		q = Query{Table: protocol.TableNodeInfo, By: ByKey, Key: m.ID}
	case protocol.CmdGetTunnelNodes:
		m, err := protocol.ParseGetTunnelNodes(v.Payload)
		if err != nil {
			return true
		}
		q, n = Query{Table: protocol.TableNodeInfo, By: ByKey, Key: m.Location, After: m.After}, perSelect
	case protocol.CmdGetEndDevices:
		m, err := protocol.ParseGetEndDevices(v.Payload)
		if err != nil {
			return true
		}
		q, n = devicesQuery(m, time.Time{}), perSelect
	case protocol.CmdGetRevocations:
		m, err := protocol.ParseGetRevocations(v.Payload)
		if err != nil {
			return true
		}
		q, n = revocationsQuery(v, m, time.Time{}), perSelect
	case protocol.CmdGetSuperNodes, protocol.CmdGetOperatorNodes:
		return true
	default:
		return false
	}
	return s.cfg.Store.Cached(q, n)
}
