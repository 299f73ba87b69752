package node

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// extent is a range of addresses.
type extent struct{ from, to uint64 }

// unmapProgram takes this program's code and constants out of its page tables. They stay in the system's cache, from where what
// is used comes back by itself, without a disk: in pieces of 64 KiB, or, with Linux 6.18, of a folio, which is megabytes where the
// file was written in one go and not yet read from the disk again.
func unmapProgram() error {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return err
	}
	defer f.Close()
	l, err := pristine(f, program)
	if err != nil {
		return err
	}
	for _, e := range l {
		if _, _, no := unix.Syscall(unix.SYS_MADVISE, uintptr(e.from), uintptr(e.to-e.from), unix.MADV_DONTNEED); no != 0 {
			return os.NewSyscallError("madvise", no)
		}
	}
	return nil
}

// pristine lists the mappings of the file path that nobody can write to and of which this process has no pages of its own, such as
// a dynamic linker leaves: what is in them can be had from the file again. r is in the form of /proc/PID/smaps, see proc_pid_smaps(5).
func pristine(r io.Reader, path string) (l []extent, err error) {
	var at extent
	fit := false // the mapping at which r is
	own := 2     // which of its two lines about pages of its own are still to come
	for lines := bufio.NewScanner(r); ; {
		if !lines.Scan() {
			return l, lines.Err()
		}
		name, rest, _ := strings.Cut(lines.Text(), " ")
		switch {
		case !strings.HasSuffix(name, ":"): // FROM-TO PERMISSIONS OFFSET DEVICE INODE PATH
			low, high, ok := strings.Cut(name, "-")
			from, err1 := strconv.ParseUint(low, 16, 64)
			to, err2 := strconv.ParseUint(high, 16, 64)
			if !ok || err1 != nil || err2 != nil || to <= from {
				return nil, fmt.Errorf("smaps: unexpected line %q", lines.Text())
			}
			permissions, rest, _ := strings.Cut(rest, " ")
			fields := strings.SplitN(rest, " ", 4)
			at, own = extent{from, to}, 2
			fit = len(fields) == 4 && strings.TrimLeft(fields[3], " ") == path && (permissions == "r-xp" || permissions == "r--p")
		case name == "Anonymous:" || name == "Swap:":
			fit = fit && strings.TrimSpace(rest) == "0 kB"
			if own--; own == 0 && fit {
				l = append(l, at)
			}
		}
	}
}
