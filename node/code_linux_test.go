package node

import (
	"bytes"
	"os"
	"strconv"
	"testing"
)

// mappedFiles is how many KB of files are mapped into this process and in memory.
func mappedFiles(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(b) {
		if f := bytes.Fields(line); len(f) == 3 && string(f[0]) == "RssFile:" {
			n, err := strconv.Atoi(string(f[1]))
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("no RssFile")
	return 0
}

func TestUnmapCode(t *testing.T) {
	before := mappedFiles(t)
	unmapCode()
	if after := mappedFiles(t); after >= before {
		t.Errorf("%d KB of files in memory, and %d after all were forgotten", before, after)
	}
}

func TestCodeOf(t *testing.T) {
	const file = "/opt/a b/culvert"
	for line, want := range map[string]bool{
		"00400000-00452000 r-xp 00000000 08:02 173521      /opt/a b/culvert":           true,
		"00651000-00652000 r--p 00051000 08:02 173521      /opt/a b/culvert":           true,
		"00652000-00655000 rw-p 00052000 08:02 173521      /opt/a b/culvert":           false,
		"00400000-00452000 r-xs 00000000 08:02 173521      /opt/a b/culvert":           false,
		"00400000-00452000 r-xp 00000000 08:02 173521      /opt/a b/culvert (deleted)": false,
		"00400000-00452000 r-xp 00000000 08:02 173521      /usr/lib/libc.so":           false,
		"00452000-00400000 r-xp 00000000 08:02 173521      /opt/a b/culvert":           false,
		"x-y r-xp 00000000 08:02 173521      /opt/a b/culvert":                         false,
		"7ffc0000-7ffd0000 rw-p 00000000 00:00 0      [stack]":                         false,
		"": false,
	} {
		start, end, ok := codeOf([]byte(line), file)
		if ok != want || ok && (start >= end || start == 0) {
			t.Errorf("%q: %x-%x, %v", line, start, end, ok)
		}
	}
}
