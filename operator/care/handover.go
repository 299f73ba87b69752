package care

import (
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

// Due are those to be asked now, in order of ID; the end of each is told to Finished.
func (h *HandOver) Due(now time.Time, m *partition.Map) []partition.Member {
	busy := 0
	for _, t := range h.tries {
		if t.busy {
			busy++
		}
	}
	var out []partition.Member
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
		out = append(out, mem)
	}
	return out
}

// Finished takes the end of a question.
func (h *HandOver) Finished(now time.Time, id protocol.ID, proven bool) {
	t := h.tries[id]
	if t == nil {
		return
	}
	t.busy, t.proven = false, proven
	t.pause = min(max(2*t.pause, HandOverTick), HandOverLast)
	if t.due = now.Add(t.pause); proven {
		t.due = now.Add(proofKept)
	}
}
