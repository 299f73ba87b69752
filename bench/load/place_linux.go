package load

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// allowed are the cores that this process may use, as it was started.
var allowed, errAllowed = func() (s unix.CPUSet, err error) {
	err = unix.SchedGetaffinity(0, &s)
	return s, err
}()

// twoCores are the first two that may be used.
func twoCores() (first, second int, ok bool) {
	var l []int
	for i := 0; errAllowed == nil && len(l) < min(2, allowed.Count()); i++ {
		if allowed.IsSet(i) {
			l = append(l, i)
		}
	}
	if len(l) < 2 {
		return 0, 0, false
	}
	return l[0], l[1], true
}

// bind puts the process, with all that it has started, on one core.
func (p Proc) bind(core int) error {
	var s unix.CPUSet
	s.Set(core)
	return p.allow(&s)
}

// release lets the process use again what this one may.
func (p Proc) release() error { return p.allow(&allowed) }

func (p Proc) allow(s *unix.CPUSet) error {
	// This process's children are what is measured, and placed each for itself.
	pids := []int{p.PID}
	if p.PID != os.Getpid() {
		pids = append(pids, Descendants(p.PID)...)
	}
	for _, pid := range pids {
		if err := allowThreads(pid, s); err != nil {
			return fmt.Errorf("place process %s: %w", p.Name, err)
		}
	}
	return nil
}

// allowThreads looks again after it was done: a thread may have been started meanwhile by one that was not yet bound.
func allowThreads(pid int, s *unix.CPUSet) error {
	done := make(map[int]bool)
	for more := true; more; {
		more = false
		l, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task", "*"))
		if err != nil {
			return err
		}
		for _, t := range l {
			tid, err := strconv.Atoi(filepath.Base(t))
			if err != nil || done[tid] {
				continue
			}
			if err := unix.SchedSetaffinity(tid, s); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
			done[tid], more = true, true
		}
	}
	return nil
}
