package node

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"culvert/dht"
	"culvert/partition"
	"culvert/protocol"
)

const (
	gatherWorkers = 8
	gatherTimeout = 3 * time.Second // of one question
)

// Gather implements the operator's part: it brings what super-nodes hold of what operators signed into this node's store.
// First some are asked who leads: even an operator that has been retired is told that much. Then everybody for what all of
// them have, which tells who serves what now, and each for its range.
func (o *OperatorMesh) Gather(ctx context.Context, peers []protocol.Peer, all bool) (heard bool, err error) {
	s := o.n.serving.Load()
	ask := make(map[protocol.ID]protocol.Peer)
	for _, p := range peers {
		ask[p.ID] = p
	}
	var errs []error
	told := false
	asked, answered := make(map[protocol.ID]bool), make(map[protocol.ID]bool)
	for range 2 { // whom the newest map names may be asked for the first time in the second round
		if m := s.server.Map(); m != nil {
			for _, mem := range m.Members() {
				if op, ok := o.n.cfg.Extension.Trust.Operator(mem.Peer.ID); !ok || op.Retired.IsZero() {
					ask[mem.Peer.ID] = mem.Peer
				}
			}
		}
		delete(ask, s.id)
		if !told {
			told = o.askWhoLeads(ctx, ask)
		}
		if !all {
			return told || len(ask) == 0, nil
		}
		got, err := o.repairAll(ctx, ask, func(p protocol.Peer) *dht.Repair {
			if asked[p.ID] {
				return nil
			}
			asked[p.ID] = true
			return dht.NewTableRepair(p, o.n.store, partition.Whole(), protocol.TableOperatorNode, protocol.TableRevocation,
				protocol.TableSuperNode, protocol.TableMapHead)
		})
		errs = append(errs, err)
		for id := range got {
			answered[id] = true
		}
	}
	m := s.server.Map()
	if m == nil {
		return len(peers) == 0 || len(answered) > 0, errors.Join(errs...)
	}
	got, err := o.repairAll(ctx, ask, func(p protocol.Peer) *dht.Repair {
		mem, ok := m.Member(p.ID)
		if !ok || !answered[p.ID] {
			return nil
		}
		return dht.NewTableRepair(p, o.n.store, mem.Range, protocol.TableNode, protocol.TableEndDevice)
	})
	return covered(m.Members(), got), errors.Join(append(errs, err)...)
}

// askWhoLeads takes in the operator chain and the map's head as some of the peers have them, and reports whether one answered.
func (o *OperatorMesh) askWhoLeads(ctx context.Context, peers map[protocol.ID]protocol.Peer) bool {
	s := o.n.serving.Load()
	var some []protocol.Peer
	for _, p := range peers { // in the map's order, which is a new one each time
		if some = append(some, p); len(some) == gatherWorkers {
			break
		}
	}
	var told atomic.Bool
	var wg sync.WaitGroup
	for _, p := range some {
		wg.Go(func() {
			c := &caller{o.n, s.id}
			var after protocol.ID
			for range maxOperatorPages {
				l, ok := o.askList(ctx, c, p, protocol.GetOperatorNodes{After: after})
				if !ok {
					return
				}
				if l.Next.Compare(after) <= 0 {
					break
				}
				after = l.Next
			}
			if _, ok := o.askList(ctx, c, p, protocol.GetSuperNodes{Epoch: math.MaxInt64}); ok { // the head alone
				told.Store(true)
			}
		})
	}
	wg.Wait()
	return told.Load()
}

const maxOperatorPages = 16

func (o *OperatorMesh) askList(ctx context.Context, c *caller, p protocol.Peer, q protocol.Payload) (l protocol.RecordList, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, gatherTimeout)
	defer cancel()
	v, err := c.Call(ctx, p, q)
	if err != nil {
		return l, false
	}
	if l, err = protocol.ParseRecordList(v.Payload); err != nil {
		return l, false
	}
	_, err = o.n.serving.Load().server.Apply(ctx, o.n.meshNow(), l.Records)
	return l, err == nil
}

// repairAll runs a repair with each peer and says who answered to the end.
func (o *OperatorMesh) repairAll(ctx context.Context, peers map[protocol.ID]protocol.Peer, with func(protocol.Peer) *dht.Repair) (map[protocol.ID]bool, error) {
	s := o.n.serving.Load()
	got := make(map[protocol.ID]bool)
	var mu sync.Mutex
	var errs []error
	var g errgroup.Group
	g.SetLimit(gatherWorkers)
	for id, p := range peers {
		r := with(p)
		if r == nil {
			continue
		}
		g.Go(func() error {
			err := s.server.RunRepair(ctx, r, &caller{o.n, s.id}, gatherTimeout, o.n.meshNow)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				got[id] = true
			} else {
				errs = append(errs, fmt.Errorf("super-node %s: %w", id.Short(), err))
			}
			return nil
		})
	}
	_ = g.Wait() // each reports by got and errs
	return got, errors.Join(errs...)
}

// covered reports whether every range of the map that super-nodes serve has been heard from one of them. An operator that
// serves one beside them, or alone, may be the very one that was lost.
func covered(members []partition.Member, got map[protocol.ID]bool) bool {
	at := uint64(0)
	for {
		others, ok, end := 0, false, uint64(math.MaxUint64)
		for _, mem := range members {
			switch {
			case mem.Range.From > at:
				end = min(end, mem.Range.From-1)
			case mem.Range.Contains(at):
				end = min(end, mem.Range.To)
				if mem.Domain != protocol.OperatorDomain {
					others++
					ok = ok || got[mem.Peer.ID]
				}
			}
		}
		if others > 0 && !ok {
			return false
		}
		if end == math.MaxUint64 {
			return true
		}
		at = end + 1
	}
}

// Held are the records of a table in this node's store, what has expired or was withdrawn included where it is still there.
func (o *OperatorMesh) Held(ctx context.Context, t protocol.Table) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		q := dht.Query{Table: t, By: dht.ByPosition, To: math.MaxUint64, Now: o.n.meshNow()}
		var items [64]dht.Item
		for {
			k, err := o.n.store.Select(q, items[:])
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(nil, fmt.Errorf("read %s: %w", t, err))
				return
			}
			for _, it := range items[:k] {
				if !yield(it.Raw, nil) {
					return
				}
			}
			if k < len(items) {
				return
			}
			q.After = items[k-1].Owner
		}
	}
}
