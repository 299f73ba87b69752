package load

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// allowed are the cores that this process may use, as it was started. To ask for the same ones tells whether it may ask at all.
var allowed, errAllowed = func() (s unix.CPUSet, err error) {
	if err = unix.SchedGetaffinity(0, &s); err == nil {
		err = unix.SchedSetaffinity(0, &s)
	}
	return s, err
}()

// twoCores are the first two that this process may use.
func twoCores() (first, second int, ok bool) {
	if errAllowed != nil {
		return 0, 0, false
	}
	return firstTwo(&allowed)
}

func firstTwo(s *unix.CPUSet) (first, second int, ok bool) {
	if s.Count() < 2 {
		return 0, 0, false
	}
	for !s.IsSet(first) {
		first++
	}
	for second = first + 1; !s.IsSet(second); {
		second++
	}
	return first, second, true
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
