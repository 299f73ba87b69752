package index

import (
	"testing"
	"unsafe"
)

// What a lookup reads of an entry shall lie in as few lines of memory as can be.
func TestEntryLines(t *testing.T) {
	if unsafe.Sizeof(uintptr(0)) != 8 {
		return // an entry is smaller on such machines, and they serve few
	}
	var e entry
	if n := unsafe.Sizeof(e); n != 3*line {
		t.Errorf("an entry takes %d bytes, which the allocator aligns to no line", n)
	}
	if at := unsafe.Offsetof(e.lookup); at != line {
		t.Errorf("the second line begins at %d", at)
	}
}
