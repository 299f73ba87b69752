package care

import (
	"slices"

	"culvert/protocol"
)

const (
	// MissLimit is how many rounds in a row a super-node may miss while nobody speaks for it.
	MissLimit = 3
	// MissAlone is how many it may miss while those who share its range hear from it.
	MissAlone = 10
	// minQuorum is from how many super-nodes on a round says something about the operator's own network.
	minQuorum = 3
)

// Sight is what one round showed of one super-node.
type Sight struct {
	ID       protocol.ID
	Answered bool
	Silent   []protocol.ID // whom it has lost itself, if it said so
	Peers    []protocol.ID // who shares its range
}

// Gone is a super-node to be taken off the map.
type Gone struct {
	ID     protocol.ID
	Misses int
	Agreed int // of those who share its range
	Asked  int
}

// Watch counts misses.
type Watch struct {
	misses map[protocol.ID]int
}

// NewWatch makes one that has seen nothing.
func NewWatch() *Watch { return &Watch{misses: make(map[protocol.ID]int)} }

// Misses is how many rounds in a row the operator has not heard from a super-node.
func (w *Watch) Misses(id protocol.ID) int { return w.misses[id] }

// Round takes in what one round showed and returns who is gone, in order of ID. Who is not named any more is forgotten.
func (w *Watch) Round(sights []Sight) []Gone {
	answered := make(map[protocol.ID]*Sight)
	known := make(map[protocol.ID]bool)
	for i := range sights {
		s := &sights[i]
		known[s.ID] = true
		if s.Answered {
			answered[s.ID] = s
			delete(w.misses, s.ID)
		}
	}
	for id := range w.misses {
		if !known[id] {
			delete(w.misses, id)
		}
	}
	if len(answered) == 0 && len(sights) > 1 {
		return nil // the operator is cut off: this says nothing about anybody
	}
	patience := 1
	if len(sights) >= minQuorum && len(answered)*2 < len(sights) {
		patience = 2
	}
	var gone []Gone
	for _, s := range sights {
		if s.Answered {
			continue
		}
		w.misses[s.ID]++
		g := Gone{ID: s.ID, Misses: w.misses[s.ID]}
		for _, p := range s.Peers {
			if o := answered[p]; o != nil && p != s.ID {
				g.Asked++
				if slices.Contains(o.Silent, s.ID) {
					g.Agreed++
				}
			}
		}
		limit := MissAlone
		if g.Agreed*2 >= g.Asked { // also where there is nobody to ask
			limit = MissLimit
		}
		if g.Misses >= limit*patience {
			delete(w.misses, s.ID)
			gone = append(gone, g)
		}
	}
	slices.SortFunc(gone, func(a, b Gone) int { return a.ID.Compare(b.ID) })
	return gone
}
