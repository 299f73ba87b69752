package node

import (
	"os"
	"slices"
	"strings"
	"testing"
)

const smaps = `00400000-00d91000 r-xp 00000000 fe:00 271 /opt/a b/culvert
Size:               9796 kB
Rss:                9476 kB
Anonymous:             0 kB
Swap:                  0 kB
VmFlags: rd ex mr mw me
00d91000-016a8000 r--p 00991000 fe:00 271                               /opt/a b/culvert
Anonymous:             0 kB
SwapPss:               4 kB
Swap:                  0 kB
016a8000-016a9000 r--p 012a8000 fe:00 271 /opt/a b/culvert
Anonymous:             4 kB
Swap:                  0 kB
016a9000-016b0000 r--p 012a9000 fe:00 271 /opt/a b/culvert
Anonymous:             0 kB
Swap:                  8 kB
016b0000-01728000 rw-p 012b0000 fe:00 271 /opt/a b/culvert
Anonymous:             0 kB
Swap:                  0 kB
01728000-03773000 rw-p 00000000 00:00 0
Anonymous:             0 kB
Swap:                  0 kB
7fe0fccd7000-7fe0fce2d000 r-xp 00026000 fe:00 12 /usr/lib/libc.so.6
Anonymous:             0 kB
Swap:                  0 kB
7ffc00000000-7ffc00001000 r-xp 00000000 00:00 0 [vdso]
`

// Only what is the file's, whole and unwritable, may be dropped: a page that the linker has changed cannot be had again.
func TestPristine(t *testing.T) {
	l, err := pristine(strings.NewReader(smaps), "/opt/a b/culvert")
	if want := []extent{{0x400000, 0xd91000}, {0xd91000, 0x16a8000}}; err != nil || !slices.Equal(l, want) {
		t.Errorf("got %x, %v, want %x", l, err, want)
	}
	for _, bad := range []string{"hello\n", "12-xyz r-xp 0 0 0 x\n", "20-10 r-xp 0 0 0 x\n", "1020 r-xp\n"} {
		if l, err := pristine(strings.NewReader(bad), "x"); err == nil {
			t.Errorf("%q gave %x", bad, l)
		}
	}
	// A kernel that says nothing of pages of one's own gives no leave.
	if l, err := pristine(strings.NewReader("10-20 r-xp 0 0:0 1 x\nRss: 0 kB\n"), "x"); err != nil || len(l) != 0 {
		t.Errorf("got %x, %v", l, err)
	}
}

// The program goes on after its own code was unmapped.
func TestUnmapProgram(t *testing.T) {
	path, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	if l, err := pristine(strings.NewReader(string(b)), path); err != nil || len(l) == 0 {
		t.Fatalf("%x, %v: no part of %s can be unmapped", l, err, path)
	}
	for range 3 {
		if err := unmapProgram(); err != nil {
			t.Fatal(err)
		}
	}
}
