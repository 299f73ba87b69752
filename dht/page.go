package dht

import (
	"slices"
	"sync"

	"culvert/protocol"
)

// page is one RecordList as far as the reply may reach.
type page struct {
	list  protocol.RecordList
	room  int
	items [perSelect]Item
}

// pages are used again and again: an answer from memory allocates nothing.
var pages = sync.Pool{New: func() any { return new(page) }}

func newPage(v *protocol.Verified) *page {
	p := pages.Get().(*page)
	p.room = v.ReplyLimit - protocol.RecordListSize()
	return p
}

// free ends the use of p and what it lists.
func (p *page) free() {
	clear(p.items[:])
	clear(p.list.Records)
	p.list = protocol.RecordList{Records: p.list.Records[:0]}
	pages.Put(p)
}

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
	defer p.free()
	items := &p.items
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
				return s.replyPage(v, c, p)
			}
			q.After = it.Owner
			if q.By == ByNumber {
				q.Since = revocationNumber(it.Raw)
			}
		}
		if n < len(items) {
			return s.replyPage(v, c, p)
		}
		if round == maxSelects {
			p.list.Next = q.After
			return s.replyPage(v, c, p)
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

func (s *Server) replyPage(v *protocol.Verified, c protocol.Command, p *page) []protocol.Out {
	if p.room < 0 { // not even an empty list fits
		return s.drop(dropReplyLimit)
	}
	return v.Answer(c, p.list.AppendPayload(v.Room(v.ReplyLimit-p.room)))
}

func sortOperators(ops []*protocol.Operator) {
	slices.SortFunc(ops, func(a, b *protocol.Operator) int { return a.ID.Compare(b.ID) })
}
