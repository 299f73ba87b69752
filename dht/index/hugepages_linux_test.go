package index

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"culvert/protocol"
)

// A large index asks for large pages, and a small one does not: the kernel's own list says so. Format: proc_pid_smaps(5).
func TestHugePages(t *testing.T) {
	if _, err := os.Stat("/sys/kernel/mm/transparent_hugepage"); err != nil {
		t.Logf("this kernel has no such pages: %v", err)
		return
	}
	x := New(0)
	put := func(i int) *entry {
		r := valued(t, protocol.NewID(7, protocol.Hash(sha(i, 'o'))), 1, time.Hour, make([]byte, 700))
		x.Apply(r)
		return x.ownedLocked(r.Table, &r.Owner)
	}
	e := put(0)
	if x.huge != nil {
		t.Fatal("advice about a small index")
	}
	for i := 1; x.resident < hugeFrom; i++ {
		e = put(i)
	}
	x.Settle()
	for _, p := range []unsafe.Pointer{unsafe.Pointer(e), unsafe.Pointer(e.bytes)} {
		if l := flags(t, uintptr(p)); !slices.Contains(l, "hg") {
			t.Errorf("the memory of the last record has flags %v", l)
		}
	}
}

// flags are those of the mapping in which p lies.
func flags(t *testing.T, p uintptr) []string {
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	here := false
	for s := bufio.NewScanner(f); s.Scan(); {
		var start, end uintptr
		if n, _ := fmt.Sscanf(s.Text(), "%x-%x ", &start, &end); n == 2 {
			here = start <= p && p < end
		}
		if l, ok := strings.CutPrefix(s.Text(), "VmFlags:"); ok && here {
			return strings.Fields(l)
		}
	}
	return nil
}
