package care

import (
	"slices"
	"testing"

	"culvert/protocol"
)

func sights(n int, down map[int]bool, word func(by int) []protocol.ID) []Sight {
	var all []protocol.ID
	for i := range n {
		all = append(all, id(i))
	}
	ss := make([]Sight, n)
	for i := range ss {
		ss[i] = Sight{ID: id(i), Answered: !down[i], Peers: all}
		if !down[i] {
			ss[i].Silent = word(i)
		}
	}
	return ss
}

// rounds is after how many rounds each of the down ones is gone, within 40.
func rounds(n int, down map[int]bool, word func(by int) []protocol.ID) map[protocol.ID]int {
	w := NewWatch()
	at := make(map[protocol.ID]int)
	for round := 1; round <= 40; round++ {
		for _, g := range w.Round(sights(n, down, word)) {
			if at[g.ID] == 0 {
				at[g.ID] = round
			}
		}
	}
	return at
}

func TestWatch(t *testing.T) {
	nobody := func(int) []protocol.ID { return nil }
	names := func(i int) func(int) []protocol.ID { return func(int) []protocol.ID { return []protocol.ID{id(i)} } }
	liar := func(by int) []protocol.ID {
		if by == 1 {
			return []protocol.ID{id(0), id(2), id(3)}
		}
		return nil
	}
	for name, c := range map[string]struct {
		n    int
		down map[int]bool
		word func(int) []protocol.ID
		want map[protocol.ID]int
	}{
		"dead, and all say so":                  {5, map[int]bool{0: true}, names(0), map[protocol.ID]int{id(0): MissLimit}},
		"the operator's own way is cut":         {5, map[int]bool{0: true}, nobody, map[protocol.ID]int{id(0): MissAlone}},
		"one liar names the living":             {5, nil, liar, nil},
		"all name the living":                   {5, nil, names(0), nil},
		"one liar names who the operator lost":  {5, map[int]bool{0: true}, liar, map[protocol.ID]int{id(0): MissAlone}},
		"the only one":                          {1, map[int]bool{0: true}, nobody, map[protocol.ID]int{id(0): MissLimit}},
		"the operator hears nobody":             {4, map[int]bool{0: true, 1: true, 2: true, 3: true}, nobody, nil},
		"more than half at once need double":    {5, map[int]bool{0: true, 1: true, 2: true}, func(int) []protocol.ID { return []protocol.ID{id(0), id(1), id(2)} }, map[protocol.ID]int{id(0): 2 * MissLimit, id(1): 2 * MissLimit, id(2): 2 * MissLimit}},
		"of two one is dead, the other says so": {2, map[int]bool{0: true}, names(0), map[protocol.ID]int{id(0): MissLimit}},
	} {
		t.Run(name, func(t *testing.T) {
			got := rounds(c.n, c.down, c.word)
			if len(got) != len(c.want) {
				t.Fatalf("gone %v, want %v", got, c.want)
			}
			for k, v := range c.want {
				if got[k] != v {
					t.Errorf("gone %v, want %v", got, c.want)
				}
			}
		})
	}
}

// TestOneAnswerClears: who answers in between begins anew.
func TestOneAnswerClears(t *testing.T) {
	w := NewWatch()
	word := func(int) []protocol.ID { return []protocol.ID{id(0)} }
	for i := range 30 {
		down := map[int]bool{0: i%MissLimit != 0}
		if g := w.Round(sights(4, down, word)); len(g) > 0 {
			t.Fatalf("round %d: %v", i, g)
		}
	}
	if w.Round(nil); w.Misses(id(0)) != 0 {
		t.Error("who is not named any more is remembered")
	}
	if !slices.IsSortedFunc(w.Round(sights(6, map[int]bool{1: true, 2: true}, word)), func(a, b Gone) int { return a.ID.Compare(b.ID) }) {
		t.Error("not in order")
	}
}
