package node

import (
	"bufio"
	"bytes"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// unmapCode has the kernel forget the pages of this program's file that are mapped here: starting touches most of a binary, and what
// an idle node goes on using comes back from the page cache by itself. Only what is never written is forgotten.
func unmapCode() {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if start, end, ok := codeOf(s.Bytes(), exe); ok {
			// Where it is refused the pages stay, as they would without it.
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, start, end-start, unix.MADV_DONTNEED)
		}
	}
}

// codeOf is where a line of /proc/self/maps says that file is mapped without leave to write. Format: proc_pid_maps(5).
func codeOf(line []byte, file string) (start, end uintptr, ok bool) {
	f := bytes.Fields(line)
	if len(f) < 6 || len(f[1]) != 4 || f[1][1] != '-' || f[1][3] != 'p' || !bytes.HasSuffix(line, append([]byte(" "), file...)) {
		return 0, 0, false
	}
	from, to, _ := bytes.Cut(f[0], []byte("-"))
	a, errA := strconv.ParseUint(string(from), 16, strconv.IntSize)
	b, errB := strconv.ParseUint(string(to), 16, strconv.IntSize)
	return uintptr(a), uintptr(b), errA == nil && errB == nil && a < b
}
