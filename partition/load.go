package partition

import (
	"cmp"
	"math/bits"
	"slices"

	"culvert/protocol"
)

const (
	domainBits = 32
	domainMask = 1<<domainBits - 1
	maxWeight  = 1 << 31 // so that no sum or product here overflows
)

// domainRange is where a domain's keys lie.
func domainRange(d protocol.Domain) Range {
	from := uint64(d) << domainBits
	return Range{from, from | domainMask}
}

// loads answers how much lies in a range, and where to cut it.
type loads struct {
	domains []uint64
	weights []uint64
	before  []uint64 // sum of the weights of the domains before
}

func newLoads(ls []DomainLoad) *loads {
	order := func(a, b DomainLoad) int { return cmp.Compare(a.Domain, b.Domain) }
	if !slices.IsSortedFunc(ls, order) {
		ls = slices.Clone(ls)
		slices.SortFunc(ls, order)
	}
	l := &loads{before: []uint64{0}}
	for _, d := range ls {
		w := min(d.Weight, maxWeight)
		if w == 0 {
			continue
		}
		if n := len(l.domains); n > 0 && l.domains[n-1] == uint64(d.Domain) {
			continue
		}
		l.domains, l.weights = append(l.domains, uint64(d.Domain)), append(l.weights, w)
		l.before = append(l.before, l.before[len(l.before)-1]+w)
	}
	return l
}

// upTo is what lies at positions 0 to p. Hashes are uniform, so a part of a domain weighs as much as it is wide.
func (l *loads) upTo(p uint64) uint64 {
	i, found := slices.BinarySearch(l.domains, p>>domainBits)
	sum := l.before[i]
	if found {
		sum += l.weights[i] * (p&domainMask + 1) >> domainBits
	}
	return sum
}

func (l *loads) in(r Range) uint64 {
	sum := l.upTo(r.To)
	if r.From > 0 {
		sum -= l.upTo(r.From - 1)
	}
	return sum
}

// cut is the last position of the left part when r is halved: between two domains if neither part then has more than two
// thirds of the load, within the domain that is too large for that otherwise.
func (l *loads) cut(r Range) uint64 {
	total := l.in(r)
	if total == 0 {
		return l.fit(r, r.From+(r.To-r.From)/2|domainMask)
	}
	var base uint64
	if r.From > 0 {
		base = l.upTo(r.From - 1)
	}
	i, _ := slices.BinarySearch(l.before, base+total/2+1) // before[i] is the first sum past the half
	i--
	best, most := uint64(0), uint64(0)
	for _, j := range []int{i - 1, i} { // cut after domain j
		b, ok := l.gap(j, r)
		if left := l.in(Range{r.From, b}); ok && min(left, total-left) > most {
			best, most = b, min(left, total-left)
		}
	}
	if most >= total/3 && most > 0 {
		return best
	}
	hi, lo := bits.Mul64(base+total/2-min(l.before[i], base+total/2), 1<<domainBits)
	offset, _ := bits.Div64(hi, lo, l.weights[i])
	b := l.domains[i]<<domainBits + min(offset, domainMask)
	return min(max(b, r.From), r.To-1)
}

// gap is the middle, in whole domains, of what nobody has between domain j and the next: the domains to come are as random.
func (l *loads) gap(j int, r Range) (uint64, bool) {
	from, to := r.From>>domainBits, r.To>>domainBits
	if j >= 0 {
		from = max(from, l.domains[j])
	}
	if j+1 < len(l.domains) {
		to = min(to, l.domains[j+1])
	}
	if from >= to {
		return 0, false
	}
	b := (from+(to-1-from)/2)<<domainBits | domainMask
	return b, r.From <= b && b < r.To
}

// fit moves a cut between two domains into r, or gives that up.
func (l *loads) fit(r Range, b uint64) uint64 {
	if b < r.To {
		return b
	}
	if b -= domainMask + 1; b >= r.From && b < r.To {
		return b
	}
	return r.From + (r.To-r.From)/2
}
