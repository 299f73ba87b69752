package load

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"culvert/bench/measure"
	"culvert/bench/proc"
)

// checkCores checks which cores every thread of a process may use.
func checkCores(t *testing.T, pid int, want unix.CPUSet) {
	t.Helper()
	l, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil || len(l) == 0 {
		t.Fatalf("%d threads of %d, %v", len(l), pid, err)
	}
	for _, task := range l {
		tid, err := strconv.Atoi(filepath.Base(task))
		if err != nil {
			t.Fatal(err)
		}
		var s unix.CPUSet
		if err := unix.SchedGetaffinity(tid, &s); err != nil {
			if !errors.Is(err, unix.ESRCH) { // it has ended meanwhile
				t.Fatal(err)
			}
			continue
		}
		if s != want {
			t.Errorf("thread %d of %d: %v, wanted %v", tid, pid, s, want)
		}
	}
}

func only(core int) (s unix.CPUSet) {
	s.Set(core)
	return s
}

// startPlaceable starts a process that can be placed, and answers.
func startPlaceable(t *testing.T, name string) (*proc.Child, Way, Proc) {
	t.Helper()
	c, at, err := StartDevice(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c, Way{Name: name, To: at}, Proc{Name: name, PID: c.PID()}
}

func TestFirstTwoCores(t *testing.T) {
	for _, c := range []struct {
		cores         []int
		first, second int
		ok            bool
	}{{nil, 0, 0, false}, {[]int{3}, 0, 0, false}, {[]int{0, 1, 2}, 0, 1, true}, {[]int{70, 5, 9}, 5, 9, true}} {
		var s unix.CPUSet
		for _, core := range c.cores {
			s.Set(core)
		}
		if first, second, ok := firstTwo(&s); first != c.first || second != c.second || ok != c.ok {
			t.Errorf("of %v: %d, %d, %v", c.cores, first, second, ok)
		}
	}
}

func TestPlacedProcesses(t *testing.T) {
	c, plain, device := startPlaceable(t, "plain")
	first, second, ok := twoCores()
	if !ok {
		if g := PlacedTable([]Way{plain}, device); len(g.Cells) != 0 {
			t.Error("placed on two cores where there is one")
		}
		return
	}
	for _, core := range []int{second, first} {
		if err := device.bind(core); err != nil {
			t.Fatal(err)
		}
		checkCores(t, c.PID(), only(core))
	}
	g := PlacedTable([]Way{plain, {Name: "other", To: plain.To, Procs: []Proc{device}}}, device)
	r, err := measure.Run(t.Context(), g, 1, 5*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Rows) != 2 || r.Rows[1].Reference != "plain" || !r.Rows[1].Less {
		t.Errorf("%+v", r.Rows)
	}
	for _, pid := range []int{c.PID(), os.Getpid()} {
		checkCores(t, pid, allowed)
	}
}

// Every placement is measured once, with the load on the first core; afterwards everybody may use all cores again.
func TestEveryPlacement(t *testing.T) {
	first, second, ok := twoCores()
	if !ok {
		return // TestPlacedProcesses has looked at that
	}
	_, _, device := startPlaceable(t, "device")
	_, _, between := startPlaceable(t, "between")
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	type placement struct{ load, device, between unix.CPUSet }
	seen := make(map[placement]int)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			var p placement
			for pid, s := range map[int]*unix.CPUSet{os.Getpid(): &p.load, device.PID: &p.device, between.PID: &p.between} {
				if err := unix.SchedGetaffinity(pid, s); err != nil {
					t.Error(err)
				}
			}
			seen[p]++
			new(Device).serve(c)
			_ = c.Close()
		}
	}()
	way := Way{Name: "w", To: l.Addr().(*net.TCPAddr).AddrPort(), Procs: []Proc{between}}
	_, err = measure.Run(t.Context(), PlacedTable([]Way{way}, device), 1, 5*time.Millisecond)
	_ = l.Close()
	<-done
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []int{first, second} {
		for _, b := range []int{first, second} {
			if n := seen[placement{only(first), only(d), only(b)}]; n != 1 {
				t.Errorf("device on %d, process between on %d: measured %d times", d, b, n)
			}
		}
	}
	if len(seen) != 4 {
		t.Errorf("%d placements", len(seen))
	}
	for _, pid := range []int{device.PID, between.PID, os.Getpid()} {
		checkCores(t, pid, allowed)
	}
}

// A way that does not answer is an error, and leaves nobody on one core.
func TestPlacedWayThatHasEnded(t *testing.T) {
	_, _, device := startPlaceable(t, "device")
	gone, way, between := startPlaceable(t, "gone")
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	way.Procs = []Proc{between}
	g := PlacedTable([]Way{way}, device)
	if len(g.Cells) == 0 {
		return
	}
	if _, err := measure.Run(t.Context(), g, 1, 5*time.Millisecond); err == nil {
		t.Error("measured with a process that has ended")
	}
	for _, pid := range []int{device.PID, os.Getpid()} {
		checkCores(t, pid, allowed)
	}
}
