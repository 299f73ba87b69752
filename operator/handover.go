package operator

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"culvert/dht"
	"culvert/operator/care"
	"culvert/operator/sqlite"
	"culvert/partition"
	"culvert/protocol"
)

const proofTimeout = 30 * time.Second

// handOver follows those who fill a range until they have been proven to hold it, and then has the next map say so.
type handOver struct {
	o *Operator
	w *watcher

	again uint64 // the last epoch that was planned on from when its members had served for a while; of the loop alone

	mu   sync.Mutex
	care *care.HandOver
}

func newHandOver(o *Operator, w *watcher) *handOver {
	return &handOver{o: o, w: w, care: care.NewHandOver()}
}

func (h *handOver) run(ctx context.Context, mesh Mesh) {
	var wg sync.WaitGroup
	defer wg.Wait()
	h.o.whileLeading(ctx, care.HandOverTick, func(now time.Time) { h.tick(ctx, mesh, now, wg.Go) })
}

// tick has the next map signed where somebody has been proven, and else the others looked at.
func (h *handOver) tick(ctx context.Context, mesh Mesh, now time.Time, start func(func())) {
	pmap, err := h.o.mapNow(ctx)
	if err != nil || pmap == nil {
		return
	}
	h.mu.Lock()
	filled, news := h.care.Proven(pmap)
	h.mu.Unlock()
	if news {
		if err := h.o.update(ctx, func(tx *sqlite.Tx) error { return h.promote(tx, filled) }); err != nil {
			if ctx.Err() == nil {
				h.o.log.Error("sign the next map", "error", err)
			}
			return
		}
	}
	if !news && h.again != pmap.Epoch() && seasonedMap(pmap, now) { // a split may have waited for it
		h.again = pmap.Epoch()
		if err := h.o.update(ctx, h.o.rebuildMap); err != nil && ctx.Err() == nil {
			h.o.log.Error("sign the next map", "error", err)
		}
	}
	h.mu.Lock()
	if news {
		h.care.Told(pmap, filled)
	}
	due, stalled := h.care.Due(now, pmap), h.care.Stalled(now, pmap)
	h.mu.Unlock()
	for _, l := range due {
		start(func() { h.follow(ctx, mesh, pmap, l) })
	}
	for _, s := range stalled {
		if err := h.o.pause(ctx, s); err != nil && ctx.Err() == nil {
			h.o.log.Error("take its place from one that does not fill it", "node", s.ID, "error", err)
		}
	}
}

func seasonedMap(pmap *partition.Map, now time.Time) bool {
	head, err := protocol.ParseRecord(pmap.Head())
	return err == nil && now.Sub(head.Issued) >= seasoning
}

// promote signs the map in which those who have filled a range serve it.
func (h *handOver) promote(tx *sqlite.Tx, filled map[protocol.ID]partition.Range) error {
	ps, _, _, err := h.o.placements(tx)
	if err != nil {
		return err
	}
	ids := make(map[protocol.ID]bool)
	for _, p := range ps {
		ids[p.ID] = p.Fill.Valid() && filled[p.ID] == p.Fill // the plan may have changed since
	}
	return h.o.nextMap(tx, ids)
}

// follow asks one how far it is, and proves it once it says that it is filled.
func (h *handOver) follow(ctx context.Context, mesh Mesh, pmap *partition.Map, l care.Look) {
	var seen care.Seen
	r, ok := h.w.report(ctx, mesh, l.Peer, pmap.Epoch())
	if seen.Answered = ok && r.Epoch >= pmap.Epoch(); seen.Answered {
		seen.Have = r.Have
		seen.Proven = r.Filled && h.prove(ctx, mesh, pmap, l.Member)
	}
	if l.Holders && !seen.Proven {
		seen.Holders = holders(ctx, mesh, pmap, l.Member)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.care.Finished(h.o.now(), l.Peer.ID, seen)
}

// others are who serves a part besides mem; none where mem has all of the part already.
func others(part partition.Part, mem partition.Member) (servers []protocol.Peer) {
	if mem.Range.Contains(part.Range.From) && mem.Range.Contains(part.Range.To) {
		return nil
	}
	for _, s := range part.Serving {
		if s.Peer.ID != mem.Peer.ID {
			servers = append(servers, s.Peer)
		}
	}
	return servers
}

// holders asks those who serve what mem lacks of its range how much that is.
func holders(ctx context.Context, mesh Mesh, pmap *partition.Map, mem partition.Member) *care.Held {
	out := &care.Held{Answered: true}
	for _, part := range pmap.Parts(mem.Fill) {
		servers := others(part, mem)
		var mu sync.Mutex
		var wg sync.WaitGroup
		var counts []uint64
		for _, s := range servers {
			wg.Go(func() {
				n, _, ok := digest(ctx, mesh, s, part.Range)
				mu.Lock()
				defer mu.Unlock()
				if ok {
					counts = append(counts, n)
				}
			})
		}
		wg.Wait()
		if n := len(counts); n > 0 { // the medians, so that nobody's word alone makes much or little of it
			slices.Sort(counts)
			out.Low += counts[(n-1)/2]
			out.High += counts[n/2]
		} else if len(servers) > 0 {
			out.Answered = false
		}
	}
	return out
}

// prove compares what mem lacks of its range with those who serve it, part by part. Of three or more half have to hold the same, so
// that no single one can hold up the others.
//
// Where two serve, or one, that would let a single liar vouch for another. So what operators sign is compared with the operator's own,
// which knows it, and where nodes are all have to agree who answer: for as long as such a record lives. Whoever has taken in
// everything for that long has all there is, and one that does not say so is wrong, or lies to hold it up.
func (h *handOver) prove(ctx context.Context, mesh Mesh, pmap *partition.Map, mem partition.Member) bool {
	ctx, cancel := context.WithTimeout(ctx, proofTimeout)
	defer cancel()
	for _, part := range pmap.Parts(mem.Fill) {
		servers := others(part, mem)
		if len(servers) == 0 {
			continue // nobody is left who could be compared with
		}
		few := len(servers) < partition.Replicas
		if few && mem.Peer.ID != h.o.id {
			own := dht.ProofConfig{
				Filler: mem.Peer, Servers: []protocol.Peer{{ID: h.o.id}}, Range: part.Range, Epoch: pmap.Epoch(), Static: true,
			}
			if dht.Prove(ctx, asker{mesh}, own) != nil {
				return false
			}
		}
		var mu sync.Mutex
		var wg sync.WaitGroup
		agreed, away := 0, 0
		pctx, enough := context.WithCancel(ctx)
		for _, s := range servers {
			wg.Go(func() {
				err := dht.Prove(pctx, asker{mesh}, dht.ProofConfig{
					Filler: mem.Peer, Servers: []protocol.Peer{s}, Range: part.Range, Epoch: pmap.Epoch(),
				})
				mu.Lock()
				defer mu.Unlock()
				switch {
				case errors.Is(err, dht.ErrUnreachable):
					away++
				case err == nil:
					if agreed++; agreed*2 >= len(servers) && (!few || h.long(mem)) {
						enough()
					}
				}
			})
		}
		wg.Wait()
		enough()
		if few && !(agreed > 0 && (agreed+away == len(servers) || h.long(mem))) || !few && agreed*2 < len(servers) {
			return false
		}
	}
	return true
}

// long reports whether mem has been filling for as long as where a node is lives.
func (h *handOver) long(mem partition.Member) bool {
	r, err := protocol.ParseRecord(mem.Record)
	return err == nil && h.o.now().Sub(r.Issued) >= dht.MaxLife
}

// asker makes a Mesh a Caller.
type asker struct{ mesh Mesh }

// Call implements protocol.Caller.
func (a asker) Call(ctx context.Context, to protocol.Peer, p protocol.Payload) (*protocol.Verified, error) {
	return a.mesh.Ask(ctx, to, p)
}
