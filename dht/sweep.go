package dht

import (
	"context"
	"slices"
	"time"

	"culvert/partition"
	"culvert/protocol"
)

// sweepBatch bounds what one step of a Sweep looks at and drops.
const sweepBatch = 256

// Sweep is one walk over what is held here outside of what the map gives this member, which drops it in bounded steps: never
// what is everywhere, never what the node itself owns. It ends early when the map changes.
type Sweep struct {
	s     *Server
	own   func(protocol.ID) bool
	epoch uint64
	table int // index into sweepTables
	todo  []sweepPart
	ended bool
}

// sweepTables: a certificate stays for as long as a NodeInfo rests on it.
var sweepTables = [...]protocol.Table{protocol.TableNodeInfo, protocol.TableEndDevice, protocol.TableNode}

type sweepPart struct {
	partition.Range
	after protocol.ID
}

// NewSweep begins one by the map of this epoch; nil where there is none. From now on nobody fetches from here what others
// have taken over. own names this node's own records.
func (s *Server) NewSweep(epoch uint64, own func(protocol.ID) bool) *Sweep {
	if s.cfg.Operator || s.Map() == nil || !s.disown(epoch) {
		return nil
	}
	w := &Sweep{s: s, own: own, epoch: epoch, table: -1}
	w.next()
	return w
}

// Done reports whether it has ended.
func (w *Sweep) Done() bool { return w.ended }

func (w *Sweep) next() {
	if w.table++; w.table == len(sweepTables) {
		w.ended = true
		return
	}
	for _, g := range without(one(partition.Whole()), w.keeps()) {
		w.todo = append(w.todo, sweepPart{Range: g})
	}
}

func (w *Sweep) keeps() []partition.Range {
	self, ok := w.s.Map().Member(w.s.cfg.Self)
	if !ok {
		return nil
	}
	return merged(self.Range, self.Fill)
}

// Step drops a batch and returns how many records that were.
func (w *Sweep) Step(ctx context.Context, now time.Time) (int, error) {
	if w.s.epoch() != w.epoch {
		w.ended = true
	}
	for !w.ended {
		n := len(w.todo)
		if n == 0 {
			w.next()
			continue
		}
		p, t := w.todo[n-1], sweepTables[w.table]
		w.todo = w.todo[:n-1]
		count := w.s.cfg.Store.Digest(t, p.From, p.To).Count
		switch {
		case count == 0:
			continue
		case count > sweepBatch && p.From < p.To:
			for _, g := range p.Split(digestParts) {
				w.todo = append(w.todo, sweepPart{Range: g})
			}
			continue
		}
		return w.drop(ctx, now, t, p)
	}
	return 0, nil
}

func (w *Sweep) drop(ctx context.Context, now time.Time, t protocol.Table, p sweepPart) (int, error) {
	var items [sweepBatch]Item
	k, err := w.s.cfg.Store.Select(Query{Table: t, By: ByPosition, From: p.From, To: p.To, After: p.after, Now: now}, items[:])
	if err != nil {
		w.todo = append(w.todo, p)
		return 0, err
	}
	if k == len(items) {
		p.after = items[k-1].Owner
		w.todo = append(w.todo, p)
	}
	keeps := w.keeps()
	var gone []Held
	for _, it := range items[:k] {
		r, err := protocol.ParseRecord(it.Raw)
		if err != nil || w.own(r.Owner) || w.needed(r, keeps) {
			continue
		}
		gone = append(gone, Held{r.Owner, VersionOf(r)})
	}
	if len(gone) == 0 || w.s.epoch() != w.epoch {
		return 0, nil
	}
	n, err := w.s.cfg.Store.Discard(Behind(ctx), t, gone)
	if err != nil {
		w.todo = append(w.todo, p)
	}
	w.s.count[dropped].Add(uint64(n))
	return n, err
}

func (w *Sweep) needed(r *protocol.Record, keeps []partition.Range) bool {
	if slices.ContainsFunc(r.Keys(), func(k protocol.ID) bool { return within(keeps, k.Position(), k.Position()) }) {
		return true
	}
	if r.Table != protocol.TableNode {
		return false
	}
	_, held, err := w.s.cfg.Store.Version(protocol.TableNodeInfo, r.Owner)
	if err != nil || !held {
		return err != nil
	}
	_, err = w.s.cfg.Store.Get(protocol.TableNodeInfo, r.Owner, r.Issued)
	return err == nil
}
