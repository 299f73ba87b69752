package partition

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"culvert/protocol"
)

// set is a set of positions: ranges in order that neither touch nor overlap.
type set []Range

func (s set) add(r Range) set {
	if !r.Valid() {
		return s
	}
	var out set
	for _, x := range s {
		switch {
		case x.To < r.From && x.To+1 < r.From, r.To < x.From && r.To+1 < x.From:
			out = append(out, x)
		default:
			r = Range{min(x.From, r.From), max(x.To, r.To)}
		}
	}
	out = append(out, r)
	slices.SortFunc(out, func(a, b Range) int { return cmp.Compare(a.From, b.From) })
	return out
}

// only is what of s lies in any of rs.
func (s set) only(rs ...Range) (out set) {
	for _, r := range rs {
		for _, x := range s {
			if both, ok := x.Intersect(r); ok {
				out = out.add(both)
			}
		}
	}
	return out
}

func (s set) holds(r Range) bool {
	return slices.ContainsFunc(s, func(x Range) bool { return x.holds(r) })
}

// world is a mesh whose super-nodes come and go. It knows what each of them really holds.
type world struct {
	t        require
	r        *rand.Rand
	op       Candidate
	supers   []Candidate
	load     []DomainLoad
	present  []Placement
	data     map[protocol.ID]set
	filled   map[protocol.ID]bool
	made     uint64
	before   map[protocol.ID]Placement // the map before
	proven   map[protocol.ID]bool      // and who had filled by it
	lost     int                       // segments whose last holder died
	changed  int                       // members whose Fill was set or changed by the last step
	stuck    map[protocol.ID]bool
	exceeded int
}

// seeds is how many there are, where there is time: what runs in one goroutine shows the race detector nothing.
func seeds(n uint64) uint64 {
	if testing.Short() {
		return max(n/10, 2)
	}
	return n
}

func newWorld(t require, seed uint64, domains int) *world {
	w := &world{t: t, r: rand.New(rand.NewPCG(seed, 7)), data: make(map[protocol.ID]set), filled: make(map[protocol.ID]bool), stuck: make(map[protocol.ID]bool)}
	w.op = Candidate{ID: w.id(protocol.OperatorDomain), Addresses: []netip.AddrPort{netip.MustParseAddrPort("203.0.113.1:7700")}}
	for range domains {
		w.load = append(w.load, DomainLoad{protocol.Domain(w.r.Uint32() | 1), w.r.Uint64N(1000)})
	}
	slices.SortFunc(w.load, func(a, b DomainLoad) int { return cmp.Compare(a.Domain, b.Domain) })
	return w
}

func (w *world) id(d protocol.Domain) protocol.ID {
	w.made++
	return protocol.NewID(d, protocol.Hash(sha256.Sum256(binary.BigEndian.AppendUint64(nil, w.made))))
}

// candidate is a new one of domain d, in a network of its own.
func (w *world) candidate(d protocol.Domain) Candidate {
	id := w.id(d)
	a := netip.AddrFrom4([4]byte{byte(20 + w.made>>8), byte(w.made), 1, 1})
	return Candidate{ID: id, Addresses: []netip.AddrPort{netip.AddrPortFrom(a, 7700)}}
}

func (w *world) join(cs ...Candidate) {
	w.supers = append(w.supers, cs...)
}

func (w *world) leave(i int) protocol.ID {
	id := w.supers[i].ID
	w.supers = slices.Delete(w.supers, i, i+1)
	delete(w.data, id)
	delete(w.filled, id)
	return id
}

// fill lets one member finish what it fills, from those that serve it.
func (w *world) fill(id protocol.ID) {
	i := slices.IndexFunc(w.present, func(p Placement) bool { return p.ID == id })
	if i < 0 || !w.present[i].Fill.Valid() || w.stuck[id] {
		return
	}
	f := w.present[i].Fill
	for _, s := range Ranges(w.present) {
		both, ok := s.Range.Intersect(f)
		if !ok {
			continue
		}
		sources, alive := 0, 0
		for _, o := range s.Serving {
			if w.alive(o) && o != id {
				alive++
				if w.data[o].holds(both) {
					sources++
				}
			}
		}
		if sources > 0 || alive == 0 { // with nobody left to ask there is nothing more to get
			w.data[id] = w.data[id].add(both)
		}
	}
	w.filled[id] = true
}

func (w *world) filling() (ids []protocol.ID) {
	for _, p := range w.present {
		if p.Fill.Valid() && !w.filled[p.ID] && !w.stuck[p.ID] {
			ids = append(ids, p.ID)
		}
	}
	return ids
}

func (w *world) alive(id protocol.ID) bool {
	return id == w.op.ID || slices.ContainsFunc(w.supers, func(c Candidate) bool { return c.ID == id })
}

// step makes the next map and holds it to what a map must be.
func (w *world) step() {
	state := State{Supers: w.supers, Operator: w.op, Present: w.present, Filled: w.filled, Load: w.load}
	old := w.present
	next := Next(state, w.r)
	was := make(map[protocol.ID]Placement, len(old))
	for _, p := range old {
		was[p.ID] = p
	}
	w.changed = 0
	filled := make(map[protocol.ID]bool)
	for _, p := range next {
		before, ok := was[p.ID]
		if p.Fill.Valid() && (!ok || before.Fill != p.Fill) {
			w.changed++
		}
		if p.Fill.Valid() && before.Fill == p.Fill && w.filled[p.ID] {
			filled[p.ID] = true
		}
		if i := slices.IndexFunc(next, func(o Placement) bool { return o.ID == p.ID }); next[i].Range != p.Range {
			w.t.Fatalf("%s is in the map twice", p.ID.Short())
		}
	}
	held := w.data
	w.before, w.proven = was, w.filled
	w.present, w.filled, w.data = next, filled, make(map[protocol.ID]set)
	for _, p := range next {
		w.data[p.ID] = held[p.ID].only(p.Range, p.Fill)
	}
	w.checkData(held)
	w.checkLimits()
	w.checkMembers()
	w.checkSeasoned(was)
	served := make(map[protocol.ID]Range) // as the operator plans on: nobody has served by the new map yet
	for _, p := range next {
		served[p.ID] = None()
		if before, ok := was[p.ID]; ok {
			served[p.ID] = before.Range
		}
	}
	if again := Next(State{Supers: w.supers, Operator: w.op, Present: next, Load: w.load, Served: served}, rand.New(rand.NewPCG(w.r.Uint64(), 1))); !same(again, next) {
		w.t.Fatalf("not a fixed point:\n%s\nthen\n%s", show(next), show(again))
	}
}

// checkSeasoned: where somebody who was there before goes on serving, no part of what he served is left to newcomers.
func (w *world) checkSeasoned(was map[protocol.ID]Placement) {
	for _, s := range Ranges(w.present) {
		old, stays := false, false
		for _, id := range s.Serving {
			old = old || overlaps(was[id].Range, s.Range) && was[id].Range.Valid()
		}
		for id, p := range was { // one of them serves next to it now
			i := slices.IndexFunc(w.present, func(x Placement) bool { return x.ID == id })
			stays = stays || id != w.op.ID && i >= 0 && p.Range.holds(s.Range) && w.present[i].Range.Valid() && p.Range.holds(w.present[i].Range) && !overlaps(w.present[i].Range, s.Range)
		}
		if stays && !old {
			w.t.Fatalf("%v is left to those who have just begun:\n%s", s.Range, show(w.present))
		}
	}
}

func same(a, b []Placement) bool { return len(a) == 0 && len(b) == 0 || reflect.DeepEqual(a, b) }

// checkData: every position is served, by members that hold it. Where the last holder died nobody does, and whoever serves
// begins anew.
func (w *world) checkData(held map[protocol.ID]set) {
	last := uint64(0)
	for i, s := range Ranges(w.present) {
		if i > 0 && s.Range.From != last+1 {
			w.t.Fatalf("gap before %v", s.Range)
		}
		last = s.Range.To
		if len(s.Serving) == 0 && (len(w.op.Addresses) > 0 || slices.ContainsFunc(w.supers, func(c Candidate) bool { return !c.Paused })) {
			w.t.Fatalf("nobody serves %v:\n%s", s.Range, show(w.present))
		}
		for _, part := range pieces(s.Range, held) {
			survives := false
			for id, h := range held {
				survives = survives || w.alive(id) && h.holds(part) && (len(w.op.Addresses) > 0 || w.served(id, part))
			}
			if !survives {
				w.lost++
				for _, p := range w.present {
					// The range begins anew, so who fills it gets every store there is. Only the operator, where there is one,
					// has more: the static records.
					if len(w.op.Addresses) == 0 && p.Fill.holds(part) {
						w.data[p.ID] = w.data[p.ID].add(part)
					}
				}
			}
			kept := false
			for _, id := range s.Serving {
				switch {
				case !survives:
					w.data[id] = w.data[id].add(part)
				case w.data[id].holds(part):
					kept = true
				case id != w.op.ID || !slices.ContainsFunc(w.present, func(p Placement) bool { return p.ID == id && p.Fill == p.Range }):
					w.t.Fatalf("%s serves %v without what is there:\n%s", id.Short(), part, show(w.present))
				}
			}
			if survives && !kept {
				for id, h := range held {
					if w.alive(id) && h.holds(part) {
						for _, p := range w.present {
							if p.ID == id && p.Fill.Valid() && overlaps(p.Fill, part) {
								kept = true // it holds it all, and is among those that are to serve
							}
						}
					}
				}
				if !kept {
					w.t.Fatalf("%v was dropped by its last holder:\n%s", part, show(w.present))
				}
			}
		}
	}
	if last != Whole().To {
		w.t.Fatalf("map ends at %x", last)
	}
}

// served reports whether id served r by the map before, or had been proven to hold it. Without an operator there is nobody to
// bridge the time in which one who gave something up still holds it.
func (w *world) served(id protocol.ID, r Range) bool {
	p := w.before[id]
	return p.Range.holds(r) || w.proven[id] && p.Fill.holds(r)
}

// pieces cuts r where what members hold begins or ends.
func pieces(r Range, held map[protocol.ID]set) (out []Range) {
	starts := []uint64{r.From}
	for _, h := range held {
		for _, x := range h {
			if both, ok := x.Intersect(r); ok {
				starts = append(starts, both.From)
				if both.To < r.To {
					starts = append(starts, both.To+1)
				}
			}
		}
	}
	slices.Sort(starts)
	starts = slices.Compact(starts)
	for i, from := range starts {
		p := Range{from, r.To}
		if i+1 < len(starts) {
			p.To = starts[i+1] - 1
		}
		out = append(out, p)
	}
	return out
}
