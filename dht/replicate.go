package dht

import (
	"bytes"
	"context"
	"slices"
	"time"

	"culvert/protocol"
)

// digestParts is into how many parts a Digest is cut.
const digestParts = 16

func (s *Server) digest(_ time.Time, v *protocol.Verified) []protocol.Out {
	m, err := protocol.ParsePayload[protocol.Digest](v.Payload)
	switch {
	case err != nil || m.Table == 0 || m.Table >= protocol.TableEnd || m.From > m.To:
		return s.drop(dropMalformed)
	case !s.replicates(v.Sender):
		return s.drop(dropNotMember)
	}
	epoch := s.epoch() // before the digest is taken: the assurance holds from then on
	if !s.compares(v.Sender, m.Table, m.From, m.To, false) {
		return s.outside(v, dropOutside)
	}
	out := protocol.Reply(protocol.Digests{Parts: digestsOf(s.cfg.Store, m), Epoch: epoch})
	if len(out) == 0 || len(out[0].Payload) > v.ReplyLimit {
		return s.drop(dropReplyLimit)
	}
	return out
}

func (s *Server) repair(now time.Time, v *protocol.Verified) []protocol.Out {
	m, err := protocol.ParsePayload[protocol.Repair](v.Payload)
	switch {
	case err != nil || m.Table == 0 || m.Table >= protocol.TableEnd || m.From > m.To:
		return s.drop(dropMalformed)
	case !s.replicates(v.Sender):
		return s.drop(dropNotMember)
	case !s.compares(v.Sender, m.Table, m.From, m.To, true):
		return s.outside(v, dropOutside)
	}
	q := Query{Table: m.Table, By: ByPosition, From: m.From, To: m.To, After: m.After, Now: now}
	return s.page(v, protocol.CmdRepaired, q, false)
}

// transfer hears of a new map. The answer tells how far this node is.
func (s *Server) transfer(_ time.Time, v *protocol.Verified) []protocol.Out {
	m, err := protocol.ParsePayload[protocol.TransferPartition](v.Payload)
	if err != nil {
		return s.drop(dropMalformed)
	}
	// Whoever hears of it asks around at once, so a super-node, which anybody may run, has no say in when.
	if !s.isOperator(v.Sender) {
		return s.drop(dropNotMember)
	}
	if m.Epoch > s.epoch() && s.cfg.OnTransfer != nil {
		s.cfg.OnTransfer(m.Epoch)
	}
	return protocol.Reply(s.transferred())
}

// Apply takes in records that did not come as a Put: from repair, from a bundle, from the local operator. Each is checked like a
// Put's but for range and rate; those that fail are counted and left out. It returns how many were new.
func (s *Server) Apply(ctx context.Context, now time.Time, raws [][]byte) (int, error) {
	var rs []*protocol.Record
	for _, raw := range raws {
		r, err := protocol.ParseRecord(bytes.Clone(raw))
		if err != nil {
			s.count.add(repairRefused)
			continue
		}
		rs = append(rs, r)
	}
	// What others rest on comes first: operators, then certificates.
	slices.SortStableFunc(rs, func(a, b *protocol.Record) int { return rank(a.Table) - rank(b.Table) })
	stored := 0
	for len(rs) > 0 {
		n := 1
		for n < len(rs) && rank(rs[n].Table) == rank(rs[0].Table) {
			n++
		}
		c, err := s.applyRank(ctx, now, rs[:n])
		if stored += c; err != nil {
			return stored, err
		}
		rs = rs[n:]
	}
	return stored, nil
}

func (s *Server) applyRank(ctx context.Context, now time.Time, rs []*protocol.Record) (int, error) {
	var batch []*protocol.Record
	for _, r := range rs {
		ref := s.checkCheap(now, r)
		if ref.ok() {
			if _, decided := s.held(r); decided {
				continue
			}
			ref = s.checkSigner(now, r, nil, nil)
		}
		if ref.ok() {
			ref = s.checkQuota(r, Counts{})
		}
		if !ref.ok() {
			s.count.add(ref.reason)
			s.count.add(repairRefused)
			continue
		}
		batch = append(batch, r)
	}
	if len(batch) == 0 {
		return 0, nil
	}
	res, err := s.cfg.Store.Put(ctx, batch)
	if err != nil {
		return 0, err
	}
	n, mapped := 0, false
	for i, r := range batch {
		s.settle(now, r, res[i])
		if res[i].Outcome == Stored {
			s.count.add(repairStored)
			mapped = mapped || ofMap(r.Table)
			n++
		}
	}
	if mapped { // once: each time reads all of it
		s.mapStored(now)
	}
	return n, nil
}

func rank(t protocol.Table) int {
	switch t {
	case protocol.TableOperatorNode:
		return 0
	case protocol.TableRevocation, protocol.TableSuperNode, protocol.TableMapHead:
		return 1
	case protocol.TableNode:
		return 2
	case protocol.TableEndDevice:
		return 3
	}
	return 4
}
