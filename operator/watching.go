package operator

import (
	"context"
	"fmt"
	"sync"
	"time"

	"culvert/operator/care"
	"culvert/operator/registry"
	"culvert/operator/sqlite"
	"culvert/partition"
	"culvert/protocol"

	"golang.org/x/sync/errgroup"
)

const (
	watchInterval = 30 * time.Second
	probeWorkers  = 32
	// answeredEvery bounds how often a super-node's sign of life is written down.
	answeredEvery = 10 * time.Minute
	reportTimeout = 3 * time.Second
)

// watcher knows how the super-nodes are: whether they answer, and how far those are that take over a range.
type watcher struct {
	o *Operator

	mu       sync.Mutex
	watch    *care.Watch
	alive    map[protocol.ID]bool
	progress map[protocol.ID]protocol.PartitionTransferred
}

func newWatcher(o *Operator) *watcher {
	return &watcher{
		o: o, watch: care.NewWatch(), alive: make(map[protocol.ID]bool), progress: make(map[protocol.ID]protocol.PartitionTransferred),
	}
}

// state is what is known of one super-node: whether it answered the last round, and what it said.
func (w *watcher) state(id protocol.ID) (alive bool, misses int, p protocol.PartitionTransferred) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.alive[id], w.watch.Misses(id), w.progress[id]
}

// report asks a super-node which map it goes by, how far it is and whom it has lost.
func (w *watcher) report(ctx context.Context, mesh Mesh, to protocol.Peer, epoch uint64) (r protocol.PartitionTransferred, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	v, err := mesh.Ask(ctx, to, protocol.TransferPartition{Epoch: epoch})
	if err != nil || v.Command != protocol.CmdPartitionTransferred {
		return r, false
	}
	if r, err = protocol.ParsePayload[protocol.PartitionTransferred](v.Payload); err != nil {
		return r, false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.progress[to.ID] = r
	return r, true
}

// round asks every super-node for a sign of life and takes off the map who is gone.
func (w *watcher) round(ctx context.Context, mesh Mesh, now time.Time) {
	var assigned []registry.SuperNode
	if err := w.o.db.View(ctx, func(tx *sqlite.Tx) error {
		ns, err := tx.SuperNodes()
		for _, n := range ns {
			if n.State == registry.Assigned {
				assigned = append(assigned, n)
			}
		}
		return err
	}); err != nil {
		w.o.log.Error("read the super-nodes", "error", err)
		return
	}
	pmap, err := w.o.mapNow(ctx)
	if err != nil || pmap == nil {
		return
	}
	sights := make([]care.Sight, len(assigned))
	var g errgroup.Group
	g.SetLimit(probeWorkers)
	for i, n := range assigned {
		g.Go(func() error {
			sights[i] = w.look(ctx, mesh, pmap, n)
			return nil
		})
	}
	_ = g.Wait() // the looks report by sights
	if ctx.Err() != nil {
		return
	}
	w.mu.Lock()
	gone := w.watch.Round(sights)
	known := make(map[protocol.ID]bool)
	for _, s := range sights {
		known[s.ID], w.alive[s.ID] = true, s.Answered
	}
	for id := range w.alive {
		if !known[id] {
			delete(w.alive, id)
			delete(w.progress, id)
		}
	}
	w.mu.Unlock()
	if err := w.note(ctx, gone, assigned, sights, now); err != nil && ctx.Err() == nil {
		w.o.log.Error("note the super-nodes' answers", "error", err)
	}
}

// look finds out whether one super-node answers from outside, and what it says.
func (w *watcher) look(ctx context.Context, mesh Mesh, pmap *partition.Map, n registry.SuperNode) care.Sight {
	s := care.Sight{ID: n.ID}
	if s.Answered = len(w.o.reachable(ctx, mesh, n)) > 0; !s.Answered {
		w.mu.Lock()
		delete(w.progress, n.ID)
		w.mu.Unlock()
	} else if mem, ok := pmap.Member(n.ID); ok {
		r, _ := w.report(ctx, mesh, mem.Peer, pmap.Epoch())
		s.Silent = r.Silent
	}
	mem, ok := pmap.Member(n.ID)
	if !ok {
		return s
	}
	for _, other := range pmap.Sharing(mem.Range) {
		if other.Peer.ID != n.ID && other.Peer.ID != w.o.id && !other.Isolated {
			s.Peers = append(s.Peers, other.Peer.ID)
		}
	}
	return s
}

func (w *watcher) note(ctx context.Context, gone []care.Gone, assigned []registry.SuperNode, sights []care.Sight, now time.Time) error {
	off := make(map[protocol.ID]care.Gone)
	for _, g := range gone {
		off[g.ID] = g
	}
	seen := make(map[protocol.ID]bool)
	for i, n := range assigned {
		seen[n.ID] = sights[i].Answered && now.Sub(n.Answered) >= answeredEvery
	}
	due := len(off) > 0
	for _, s := range seen {
		due = due || s
	}
	if !due {
		return nil
	}
	return w.o.update(ctx, func(tx *sqlite.Tx) error {
		ns, err := tx.SuperNodes()
		if err != nil {
			return err
		}
		for _, n := range ns {
			g, lost := off[n.ID]
			switch {
			case n.State != registry.Assigned || !lost && !seen[n.ID]:
				continue
			case lost:
				n.State, n.Reason = registry.Silent, fmt.Sprintf("did not answer %d times; %d of %d that share its range have lost it too", g.Misses, g.Agreed, g.Asked)
				if err := w.o.audit(tx, Actor{Name: "operator"}, "supernode.silent", n.ID.String(), n.ID.Domain(), n.Reason); err != nil {
					return err
				}
			default:
				n.Answered = now
			}
			if err := tx.PutSuperNode(n); err != nil {
				return err
			}
		}
		return w.o.rebuildMap(tx)
	})
}
