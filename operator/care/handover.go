package care

import (
	"slices"
	"time"

	"culvert/partition"
	"culvert/protocol"
)

const (
	// HandOverTick is between two looks at who fills a range.
	HandOverTick = 250 * time.Millisecond
	// HandOverLast is the longest pause between two questions to one who is not filled yet.
	HandOverLast  = 5 * time.Second
	handOverAtOne = 32 // how many are asked at a time
	// proofKept is for how long a proof counts that no map has made use of: who has proven something may lose it again.
	proofKept = time.Minute
)

// HandOver follows those who fill a range until they have been proven to hold it, as a step machine. Proven ranges are given to
// the planner when there is a new one and for every new map: he may wait with one for others.
type HandOver struct {
	tries map[protocol.ID]*try
	epoch uint64 // of the map for which the planner was told last
}

type try struct {
	fill   partition.Range
	due    time.Time
	pause  time.Duration
	busy   bool
	proven bool
	told   bool
	growth growth
}

// Look is one to be looked at, and whether those who serve what it fills are to be asked too.
type Look struct {
	partition.Member
	Holders bool
}

// Seen is what a look has shown.
type Seen struct {
	Answered bool   // it said how far it is
	Have     uint64 // (key, record) pairs of what it fills
	Proven   bool
	Holders  *Held // nil where they were not asked
}

// Held is what those who serve a range say that they hold of it.
type Held struct {
	Answered  bool   // for every part of it somebody did
	Low, High uint64 // how many pairs: what most have at least, and what no single one can raise
}

// NewHandOver makes one that follows nobody.
func NewHandOver() *HandOver { return &HandOver{tries: make(map[protocol.ID]*try)} }

// Proven forgets who fills nothing any more and returns what has been proven; news is false where the planner has been told.
func (h *HandOver) Proven(m *partition.Map) (filled map[protocol.ID]partition.Range, news bool) {
	filled = make(map[protocol.ID]partition.Range)
	for id, t := range h.tries {
		mem, ok := m.Member(id)
		switch {
		case !ok || mem.Fill != t.fill:
			if !t.busy {
				delete(h.tries, id)
			}
		case t.proven:
			filled[id] = t.fill
			news = news || !t.told || h.epoch != m.Epoch()
		}
	}
	return filled, news
}

// Told notes that the planner has been told of all that Proven returned for m.
func (h *HandOver) Told(m *partition.Map, filled map[protocol.ID]partition.Range) {
	h.epoch = m.Epoch()
	for id := range filled {
		if t := h.tries[id]; t != nil {
			t.told = true
		}
	}
}

// Due are those to be looked at now, in order of ID; the end of each look is told to Finished.
func (h *HandOver) Due(now time.Time, m *partition.Map) []Look {
	busy := 0
	for _, t := range h.tries {
		if t.busy {
			busy++
		}
	}
	var out []Look
	for _, mem := range m.Members() {
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
		out = append(out, Look{mem, t.growth.wants(now)})
	}
	return out
}

// Finished takes the end of a look.
func (h *HandOver) Finished(now time.Time, id protocol.ID, s Seen) {
	t := h.tries[id]
	if t == nil {
		return
	}
	t.busy, t.proven = false, s.Proven
	t.growth.took(now, s)
	t.pause = min(max(2*t.pause, HandOverTick), HandOverLast)
	if t.due = now.Add(t.pause); s.Proven {
		t.due = now.Add(proofKept)
	}
}

// Stall is one whose place may be taken away.
type Stall struct {
	ID    protocol.ID
	Rival bool // another that fills of the same range goes on; else there must be somebody in reserve to take its place
}

// Stalled are those who have come no further for StallAfter while those who serve their range answered, in order of ID. Who is
// still there is named again a while later.
func (h *HandOver) Stalled(now time.Time, m *partition.Map) []Stall {
	var out []Stall
	for id, t := range h.tries {
		mem, ok := m.Member(id)
		if !ok || mem.Fill != t.fill || t.proven || !t.growth.stalled(now) {
			continue
		}
		t.growth.named = now
		s := Stall{ID: id}
		for other, o := range h.tries {
			om, ok := m.Member(other)
			_, same := o.fill.Intersect(t.fill)
			s.Rival = s.Rival || other != id && ok && same && om.Fill == o.fill && (o.proven || o.growth.grows(now))
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b Stall) int { return a.ID.Compare(b.ID) })
	return out
}
