package load

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ErrUnknown says that this system does not tell what a process uses.
var ErrUnknown = errors.New("this system does not tell what a process uses")

// Use is what processes have used and hold.
type Use struct {
	CPU         time.Duration // since they were started
	RSS         int64         // bytes
	Descriptors int
}

// tick is the unit of CPU time in /proc: fixed at 1/100 s for programs on every architecture that Linux has.
const tick = 10 * time.Millisecond

// Using adds up what the processes use, with all that they have started.
func Using(procs []Proc) (u Use, err error) {
	for _, p := range procs {
		if err := u.add(p.PID); err != nil {
			return u, fmt.Errorf("process %s: %w", p.Name, err)
		}
	}
	return u, nil
}

func (u *Use) add(pid int) error {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if errors.Is(err, os.ErrNotExist) {
		if _, e := os.Stat("/proc/self/stat"); e != nil {
			return ErrUnknown
		}
	}
	if err != nil {
		return err
	}
	// The name, in parentheses, may hold anything; what follows is numbers, the state first.
	f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(f) < 22 {
		return ErrUnknown
	}
	for _, i := range []int{11, 12} { // in user mode, in the kernel
		n, err := strconv.ParseInt(f[i], 10, 64)
		if err != nil {
			return err
		}
		u.CPU += time.Duration(n) * tick
	}
	pages, err := strconv.ParseInt(f[21], 10, 64)
	if err != nil {
		return err
	}
	u.RSS += pages * int64(os.Getpagesize())
	if l, err := os.ReadDir(filepath.Join(dir, "fd")); err == nil {
		u.Descriptors += len(l)
	}
	for _, child := range childrenOf(pid) {
		// One that has ended meanwhile counts for nothing.
		if err := u.add(child); err != nil && !ended(err) {
			return err
		}
	}
	return nil
}

// ended reports whether an error of reading about a process says that it is no more: its files are gone, or nobody is behind one that
// has just been opened.
func ended(err error) bool { return errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) }

// childrenOf are the processes that a process has started, as far as the system tells.
func childrenOf(pid int) (l []int) {
	files, _ := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task", "*", "children"))
	for _, f := range files {
		b, _ := os.ReadFile(f) // none of a thread that has ended meanwhile
		for _, s := range strings.Fields(string(b)) {
			if child, err := strconv.Atoi(s); err == nil {
				l = append(l, child)
			}
		}
	}
	return l
}

// Descendants are all processes that come from one.
func Descendants(pid int) (l []int) {
	for _, c := range childrenOf(pid) {
		l = append(append(l, c), Descendants(c)...)
	}
	return l
}
