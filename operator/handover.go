package operator

import (
	"context"
	"maps"
	"sync"
	"time"

	"culvert/dht"
	"culvert/operator/sqlite"
	"culvert/partition"
	"culvert/protocol"
)

const (
	handOverTick = 250 * time.Millisecond
	// handOverLast is the longest pause between two questions to one who is not filled yet.
	handOverLast  = 5 * time.Second
	handOverAtOne = 32 // how many are asked at a time
	proofTimeout  = 30 * time.Second
	// proofKept is for how long a proof counts that the next map has not made use of: who has proven something may lose it again.
	proofKept = time.Minute
)

// handOver follows those who fill a range until they have been proven to hold it, and then has the next map say so.
type handOver struct {
	o *Operator
	w *watcher

	mu    sync.Mutex
	tries map[protocol.ID]*try

	// of tick alone: what the last plan knew, and when to plan by the same once more. It may wait for others to be filled too.
	planned map[protocol.ID]partition.Range
	epoch   uint64
	again   time.Time
}

type try struct {
	fill   partition.Range
	due    time.Time
	pause  time.Duration
	busy   bool
	proven bool
}

func newHandOver(o *Operator, w *watcher) *handOver {
	return &handOver{o: o, w: w, tries: make(map[protocol.ID]*try)}
}

func (h *handOver) run(ctx context.Context, mesh Mesh) {
	var wg sync.WaitGroup
	defer wg.Wait()
	h.o.whileLeading(ctx, handOverTick, func(now time.Time) { h.tick(ctx, mesh, now, wg.Go) })
}

// tick has the next map signed where somebody has been proven, and the others looked at.
func (h *handOver) tick(ctx context.Context, mesh Mesh, now time.Time, start func(func())) {
	pmap, err := h.o.mapNow(ctx)
	if err != nil || pmap == nil {
		return
	}
	filled := h.settle(pmap)
	if len(filled) > 0 && (!maps.Equal(filled, h.planned) || pmap.Epoch() != h.epoch || !now.Before(h.again)) {
		h.planned, h.epoch, h.again = filled, pmap.Epoch(), now.Add(handOverLast)
		if err := h.o.update(ctx, func(tx *sqlite.Tx) error { return h.promote(tx, filled) }); err != nil && ctx.Err() == nil {
			h.o.log.Error("sign the next map", "error", err)
		}
		if pmap, err = h.o.mapNow(ctx); err != nil {
			return
		}
	}
	for _, mem := range h.due(now, pmap) {
		start(func() { h.follow(ctx, mesh, pmap, mem) })
	}
}

// settle forgets who fills nothing any more and returns what has been proven.
func (h *handOver) settle(pmap *partition.Map) map[protocol.ID]partition.Range {
	h.mu.Lock()
	defer h.mu.Unlock()
	filled := make(map[protocol.ID]partition.Range)
	for id, t := range h.tries {
		mem, ok := pmap.Member(id)
		switch {
		case !ok || mem.Fill != t.fill:
			if !t.busy {
				delete(h.tries, id)
			}
		case t.proven:
			filled[id] = t.fill
		}
	}
	return filled
}

// promote signs the map in which those who have filled a range serve it.
func (h *handOver) promote(tx *sqlite.Tx, filled map[protocol.ID]partition.Range) error {
	ps, _, err := h.o.placements(tx)
	if err != nil {
		return err
	}
	ids := make(map[protocol.ID]bool)
	for _, p := range ps {
		ids[p.ID] = p.Fill.Valid() && filled[p.ID] == p.Fill // the plan may have changed since
	}
	return h.o.nextMap(tx, ids)
}

// due are those to be asked now.
func (h *handOver) due(now time.Time, pmap *partition.Map) []partition.Member {
	h.mu.Lock()
	defer h.mu.Unlock()
	busy := 0
	for _, t := range h.tries {
		if t.busy {
			busy++
		}
	}
	var out []partition.Member
	for _, mem := range pmap.Members() {
		if !mem.Fill.Valid() || mem.Isolated || busy >= handOverAtOne {
			continue
		}
		t := h.tries[mem.Peer.ID]
		if t == nil {
			t = &try{fill: mem.Fill}
			h.tries[mem.Peer.ID] = t
		}
		if t.busy || t.fill != mem.Fill || now.Before(t.due) {
			continue
		}
		t.busy = true
		busy++
		out = append(out, mem)
	}
	return out
}

// follow asks one how far it is, and proves it once it says that it is filled.
func (h *handOver) follow(ctx context.Context, mesh Mesh, pmap *partition.Map, mem partition.Member) {
	proven := false
	if r, ok := h.w.report(ctx, mesh, mem.Peer, pmap.Epoch()); ok && r.Filled && r.Epoch >= pmap.Epoch() {
		proven = h.prove(ctx, mesh, pmap, mem)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.tries[mem.Peer.ID]
	t.busy, t.proven = false, proven
	t.pause = min(max(2*t.pause, handOverTick), handOverLast)
	if t.due = h.o.now().Add(t.pause); proven {
		t.due = h.o.now().Add(proofKept)
	}
}

// prove compares what mem lacks of its range with those who serve it, part by part: half of each part's servers have to hold
// the same, so that no single one can hold up the others.
func (h *handOver) prove(ctx context.Context, mesh Mesh, pmap *partition.Map, mem partition.Member) bool {
	ctx, cancel := context.WithTimeout(ctx, proofTimeout)
	defer cancel()
	for _, part := range pmap.Parts(mem.Fill) {
		if mem.Range.Contains(part.Range.From) && mem.Range.Contains(part.Range.To) {
			continue
		}
		var servers []protocol.Peer
		for _, s := range part.Serving {
			if s.Peer.ID != mem.Peer.ID {
				servers = append(servers, s.Peer)
			}
		}
		if len(servers) == 0 {
			continue // nobody is left who could be compared with
		}
		var mu sync.Mutex
		var wg sync.WaitGroup
		agreed := 0
		pctx, enough := context.WithCancel(ctx)
		for _, s := range servers {
			wg.Go(func() {
				err := dht.Prove(pctx, asker{mesh}, dht.ProofConfig{
					Filler: mem.Peer, Servers: []protocol.Peer{s}, Range: part.Range, Epoch: pmap.Epoch(),
				})
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					if agreed++; agreed*2 >= len(servers) {
						enough()
					}
				}
			})
		}
		wg.Wait()
		enough()
		if agreed*2 < len(servers) {
			return false
		}
	}
	return true
}

// asker makes a Mesh a Caller.
type asker struct{ mesh Mesh }

// Call implements protocol.Caller.
func (a asker) Call(ctx context.Context, to protocol.Peer, p protocol.Payload) (*protocol.Verified, error) {
	return a.mesh.Ask(ctx, to, p)
}
