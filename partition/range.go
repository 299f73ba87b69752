package partition

import (
	"fmt"
	"math"
	"math/bits"

	"culvert/protocol"
)

// Range is a contiguous run of positions of the key space, both ends inclusive.
type Range struct{ From, To uint64 }

// Whole is every position there is.
func Whole() Range { return Range{0, math.MaxUint64} }

// None is the range without a position.
func None() Range { return Range{1, 0} }

// Contains reports whether position p lies in r.
func (r Range) Contains(p uint64) bool { return r.From <= p && p <= r.To }

// ContainsKey reports whether k's position lies in r.
func (r Range) ContainsKey(k protocol.ID) bool { return r.Contains(k.Position()) }

// Valid reports whether r holds at least one position.
func (r Range) Valid() bool { return r.From <= r.To }

// Intersect is what r and o share; ok is false where that is nothing.
func (r Range) Intersect(o Range) (both Range, ok bool) {
	both = Range{max(r.From, o.From), min(r.To, o.To)}
	return both, both.Valid()
}

// holds reports whether all of o lies in r; nothing holds None.
func (r Range) holds(o Range) bool { return o.Valid() && r.From <= o.From && o.To <= r.To }

// Split cuts r into up to n parts of nearly equal width that together are r.
func (r Range) Split(n int) []Range {
	if !r.Valid() || n <= 0 {
		return nil
	}
	if w := r.To - r.From; w < uint64(n-1) {
		n = int(w) + 1
	}
	parts := make([]Range, 0, n)
	from := r.From
	for i := 1; i <= n; i++ {
		to := r.To
		if i < n {
			to = r.From + share(r.To-r.From, uint64(i), uint64(n))
		}
		parts = append(parts, Range{from, to})
		from = to + 1
	}
	return parts
}

// share is the offset of the last position of part i of n in a range whose last offset is w: floor((w+1)·i/n) − 1.
func share(w, i, n uint64) uint64 {
	hi, lo := bits.Mul64(w, i)
	lo, carry := bits.Add64(lo, i, 0)
	q, _ := bits.Div64(hi+carry, lo, n)
	return q - 1
}

// String is the range in hex.
func (r Range) String() string { return fmt.Sprintf("%016x-%016x", r.From, r.To) }
