package partition

import (
	"math"
	"testing"

	"culvert/protocol"

	"pgregory.net/rapid"
)

func TestCutHalvesTheLoad(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var ls []DomainLoad
		domain := rapid.OneOf(rapid.Uint32(), rapid.Uint32Range(0, 8), rapid.Uint32Range(math.MaxUint32-4, math.MaxUint32))
		for range rapid.IntRange(0, 12).Draw(t, "domains") {
			w := rapid.OneOf(rapid.Uint64Range(0, 3), rapid.Uint64Range(0, 100_000), rapid.Uint64()).Draw(t, "weight")
			ls = append(ls, DomainLoad{protocol.Domain(domain.Draw(t, "domain")), w})
		}
		l := newLoads(ls)
		a, b := rapid.Uint64().Draw(t, "from"), rapid.Uint64().Draw(t, "to")
		if rapid.Bool().Draw(t, "aligned") {
			a, b = uint64(domain.Draw(t, "first"))<<domainBits, uint64(domain.Draw(t, "last"))<<domainBits|domainMask
		}
		r := Range{min(a, b), max(a, b)}
		if r.From == r.To {
			return
		}
		at := l.cut(r)
		if at < r.From || at >= r.To {
			t.Fatalf("%v cut at %x", r, at)
		}
		total, left := l.in(r), l.in(Range{r.From, at})
		if left+l.in(Range{at + 1, r.To}) != total && left+l.in(Range{at + 1, r.To})+1 != total && left+l.in(Range{at + 1, r.To}) != total+1 {
			t.Fatalf("%d of %d and %d", left, total, l.in(Range{at + 1, r.To}))
		}
		if m := min(left, total-left); m+2 < total/3 && r.To-r.From > 1<<40 {
			t.Fatalf("%v cut at %x: %d of %d, %v", r, at, left, total, ls)
		}
	})
}

// TestCutIsBetweenDomains where that is possible, in the middle of what nobody has, and else within the one that is too large.
func TestCutIsBetweenDomains(t *testing.T) {
	l := newLoads([]DomainLoad{{10, 5}, {20, 5}, {30, 1}})
	if at := l.cut(Whole()); at != 14<<domainBits|domainMask {
		t.Errorf("cut at %x", at)
	}
	l = newLoads([]DomainLoad{{10, 1}, {20, 98}, {30, 1}})
	if at := l.cut(Whole()); at>>domainBits != 20 || at&domainMask < 1<<30 || at&domainMask > 3<<30 {
		t.Errorf("cut at %x", at)
	}
	if at := newLoads(nil).cut(Whole()); at != math.MaxUint64/2 {
		t.Errorf("nothing cut at %x", at)
	}
}

// TestHugeDomainIsCutByKey: nearly everything belongs to one domain. Its ranges split all the same, evenly.
func TestHugeDomainIsCutByKey(t *testing.T) {
	w := newWorld(t, 1, 20)
	huge := w.load[7].Domain
	w.load[7].Weight = 1_000_000
	for range 48 {
		w.join(w.candidate(protocol.Domain(w.r.Uint32() | 1)))
		w.step()
		w.settle()
	}
	l, within := newLoads(w.load), 0
	total := l.in(Whole())
	for _, s := range Ranges(w.present) {
		if overlaps(s.Range, domainRange(huge)) {
			within++
		}
		if l.in(s.Range) > total/4 {
			t.Errorf("%v has %d of %d", s.Range, l.in(s.Range), total)
		}
	}
	if within < 6 {
		t.Errorf("the huge domain is in %d ranges", within)
	}
}
