package index

import "unsafe"

const (
	// hugeFrom is how many bytes make an index a large one, of records and entries. A lookup among many records is mostly a wait
	// for the tables by which addresses are translated; pages of 2 MB need few. Where there is less, such pages would only make an
	// agent larger.
	hugeFrom = 16 << 20
	// hugeUnit is a multiple of such a page, and what the runtime asks the system for at once.
	hugeUnit = 4 << 20
)

// hugePages has the kernel keep in large pages what an index holds. It is advice about memory that is the runtime's: whether the
// kernel follows it changes nothing but how fast the memory is.
type hugePages map[uintptr]struct{} // first addresses of the units that have been advised

// cover takes in the unit that p lies in.
func (h *hugePages) cover(p unsafe.Pointer) {
	u := uintptr(p) &^ (hugeUnit - 1)
	if _, known := (*h)[u]; known || p == nil {
		return
	}
	if *h == nil {
		*h = make(hugePages)
	}
	(*h)[u] = struct{}{}
	adviseHuge(u, hugeUnit)
}

// entry takes in what an entry is made of.
func (h *hugePages) entry(e *entry) {
	h.cover(unsafe.Pointer(e))
	h.cover(unsafe.Pointer(e.bytes))
}

// coverLocked takes in a new entry once the index is a large one, and all others when it becomes that.
func (x *Index) coverLocked(e *entry) {
	if x.resident+int64(x.live)*int64(unsafe.Sizeof(*e)) < hugeFrom {
		return
	}
	if x.huge != nil {
		x.huge.entry(e)
		return
	}
	for t := range x.tables {
		parts := x.tables[t].byKey.parts
		for i := 0; parts != nil && i < len(parts); i++ {
			x.huge.cover(unsafe.Pointer(unsafe.SliceData(parts[i].places)))
		}
	}
	x.expiry.from(func(*entry) bool { return false }, func(e *entry) bool {
		x.huge.entry(e)
		return true
	})
}

// Settle moves a large index into large pages at once, which the kernel would do by and by. It is for when a store has been loaded.
func (x *Index) Settle() {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for u := range x.huge {
		collapseHuge(u, hugeUnit)
	}
}
