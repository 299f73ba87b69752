package faultdisk

import (
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
)

const sector = 512

// file is what the platter has under one name, and what is on its way there.
type file struct {
	entered bool // the name itself is durable
	durable []byte
	pending []change
	size    int64  // as the process sees it
	ghost   []byte // of an earlier file of this name whose removal is not durable; nil for none
	removed bool   // nothing of the name is left for the process
}

// change is one that no sync has followed yet: bytes at an offset, or, without any, a new length.
type change struct {
	at   int64
	data []byte
}

func (f *file) write(at int64, b []byte) {
	f.pending = append(f.pending, change{at, append([]byte{}, b...)})
	f.size = max(f.size, at+int64(len(b)))
}

func (f *file) truncate(n int64) {
	f.pending = append(f.pending, change{at: n})
	f.size = n
}

func (f *file) sync() {
	for _, c := range f.pending {
		f.durable = c.apply(f.durable)
	}
	f.pending, f.entered = nil, true
}

// remove takes the name away, until the directory is synced only for the process.
func (f *file) remove() {
	ghost := f.ghost
	if f.entered {
		ghost = append([]byte{}, f.durable...)
	}
	*f = file{removed: true, ghost: ghost}
}

func (c change) apply(b []byte) []byte {
	if c.data == nil {
		return resize(b, c.at)
	}
	if end := c.at + int64(len(c.data)); end > int64(len(b)) {
		b = resize(b, end)
	}
	copy(b[c.at:], c.data)
	return b
}

func resize(b []byte, n int64) []byte {
	if n <= int64(len(b)) {
		return b[:n]
	}
	return append(b, make([]byte, n-int64(len(b)))...)
}

// sectors cuts a change where sectors end.
func (c change) sectors() (l []change) {
	if c.data == nil {
		return []change{c}
	}
	for at, b := c.at, c.data; len(b) > 0; {
		n := min(sector-at%sector, int64(len(b)))
		l = append(l, change{at, b[:n]})
		at, b = at+n, b[n:]
	}
	return l
}

// survive is what is found after a power cut: nil for no file.
func (f *file) survive(r *rand.Rand) []byte {
	if f.ghost != nil && !f.entered && r.IntN(2) == 0 {
		return f.ghost
	}
	if f.removed || !f.entered && r.IntN(2) == 0 {
		return nil
	}
	var parts []change
	for _, c := range f.pending {
		parts = append(parts, c.sectors()...)
	}
	b := append([]byte{}, f.durable...)
	keep := func(int) bool { return true }
	switch r.IntN(5) {
	case 0:
		keep = func(int) bool { return false }
	case 1:
	case 2:
		n := r.IntN(len(parts) + 1)
		keep = func(i int) bool { return i < n }
	default:
		keep = func(int) bool { return r.IntN(2) == 0 }
	}
	trashed := -1
	if len(parts) > 0 && r.IntN(4) == 0 {
		trashed = r.IntN(len(parts))
	}
	for i, c := range parts {
		switch {
		case i == trashed && c.data != nil:
			b = change{c.at, garbage(r, len(c.data))}.apply(b)
		case keep(i):
			b = c.apply(b)
		}
	}
	return b
}

func garbage(r *rand.Rand, n int) []byte {
	var b []byte
	for len(b) < n {
		s := sha256.Sum256(binary.BigEndian.AppendUint64(nil, r.Uint64()))
		b = append(b, s[:]...)
	}
	return b[:n]
}
