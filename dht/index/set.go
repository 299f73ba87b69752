package index

import "slices"

// chunkMax bounds the memory that one insertion moves.
const chunkMax = 256

// set is an ordered set in chunks: near-constant insertion at any size that fits memory, and a sum per chunk, so that the
// digest of a range touches few elements.
type set[T any] struct {
	compare func(a, b T) int
	sum     func(T) Sum // nil where no digests are taken
	chunks  []chunk[T]
}

type chunk[T any] struct {
	items []T
	sum   Sum
}

// Sum is the XOR of hashes.
type Sum [16]byte

func (s *Sum) xor(o Sum) {
	for i := range s {
		s[i] ^= o[i]
	}
}

// find returns the place of the first element for which less is false; less must hold for a prefix of the set.
func (s *set[T]) find(less func(T) bool) (c, i int) {
	c, _ = slices.BinarySearchFunc(s.chunks, 0, func(k chunk[T], _ int) int {
		if less(k.items[len(k.items)-1]) {
			return -1
		}
		return 1
	})
	if c == len(s.chunks) {
		return c, 0
	}
	i, _ = slices.BinarySearchFunc(s.chunks[c].items, 0, func(v T, _ int) int {
		if less(v) {
			return -1
		}
		return 1
	})
	return c, i
}

// from walks the elements in order, from the first for which less is false, until yield says stop.
func (s *set[T]) from(less func(T) bool, yield func(T) bool) {
	c, i := s.find(less)
	for ; c < len(s.chunks); c, i = c+1, 0 {
		for _, v := range s.chunks[c].items[i:] {
			if !yield(v) {
				return
			}
		}
	}
}

func (s *set[T]) insert(v T) {
	c, i := s.find(func(x T) bool { return s.compare(x, v) < 0 })
	if c == len(s.chunks) {
		if c == 0 {
			s.chunks = append(s.chunks, chunk[T]{items: make([]T, 0, 8)})
		} else {
			c--
		}
		i = len(s.chunks[c].items)
	}
	k := &s.chunks[c]
	if i < len(k.items) && s.compare(k.items[i], v) == 0 {
		return
	}
	k.items = slices.Insert(k.items, i, v)
	if s.sum != nil {
		k.sum.xor(s.sum(v))
	}
	if len(k.items) > chunkMax {
		half := slices.Clone(k.items[chunkMax/2:])
		clear(k.items[chunkMax/2:])
		k.items = k.items[:chunkMax/2]
		next := chunk[T]{items: half}
		if s.sum != nil {
			for _, x := range half {
				next.sum.xor(s.sum(x))
			}
			k.sum.xor(next.sum)
		}
		s.chunks = slices.Insert(s.chunks, c+1, next)
	}
}

// replace puts v in the place of the one that compares equal, and reports false where there is none.
func (s *set[T]) replace(v T) bool {
	c, i := s.find(func(x T) bool { return s.compare(x, v) < 0 })
	if c == len(s.chunks) || s.compare(s.chunks[c].items[i], v) != 0 {
		return false
	}
	k := &s.chunks[c]
	if s.sum != nil {
		k.sum.xor(s.sum(k.items[i]))
		k.sum.xor(s.sum(v))
	}
	k.items[i] = v
	return true
}

func (s *set[T]) remove(v T) {
	c, i := s.find(func(x T) bool { return s.compare(x, v) < 0 })
	if c == len(s.chunks) || s.compare(s.chunks[c].items[i], v) != 0 {
		return
	}
	k := &s.chunks[c]
	if s.sum != nil {
		k.sum.xor(s.sum(k.items[i]))
	}
	k.items = slices.Delete(k.items, i, i+1)
	if len(k.items) == 0 {
		s.chunks = slices.Delete(s.chunks, c, c+1)
	}
}

// digest counts and sums the elements from the first for which less is false up to the first for which within is.
func (s *set[T]) digest(less, within func(T) bool) (n uint64, sum Sum) {
	c, i := s.find(less)
	for ; c < len(s.chunks); c, i = c+1, 0 {
		k := &s.chunks[c]
		if i == 0 && within(k.items[len(k.items)-1]) {
			n += uint64(len(k.items))
			sum.xor(k.sum)
			continue
		}
		for _, v := range k.items[i:] {
			if !within(v) {
				return n, sum
			}
			n++
			sum.xor(s.sum(v))
		}
	}
	return n, sum
}
