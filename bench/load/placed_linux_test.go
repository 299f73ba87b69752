package load

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"culvert/bench/measure"
)

// cores are those that the process's first thread may use.
func cores(t *testing.T, pid int) (s unix.CPUSet) {
	t.Helper()
	if err := unix.SchedGetaffinity(pid, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPlacedProcesses(t *testing.T) {
	c, at, err := StartDevice(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	device := Proc{Name: "device", PID: c.PID()}
	first, second, ok := twoCores()
	if !ok {
		if g := PlacedTable([]Way{{Name: "plain", To: at}}, device); len(g.Cells) != 0 {
			t.Error("placed on two cores where there is one")
		}
		return
	}
	for _, core := range []int{second, first} {
		if err := device.bind(core); err != nil {
			t.Fatal(err)
		}
		if s := cores(t, c.PID()); s.Count() != 1 || !s.IsSet(core) {
			t.Errorf("%v, wanted core %d", s, core)
		}
	}
	g := PlacedTable([]Way{{Name: "plain", To: at}, {Name: "other", To: at, Procs: []Proc{device}}}, device)
	r, err := measure.Run(t.Context(), g, 1, 5*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Rows) != 2 || r.Rows[1].Reference != "plain" || !r.Rows[1].Less {
		t.Errorf("%+v", r.Rows)
	}
	for _, pid := range []int{c.PID(), os.Getpid()} {
		if s := cores(t, pid); s != allowed {
			t.Errorf("left at %v of %v", s, allowed)
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := measure.Run(t.Context(), g, 1, 5*time.Millisecond); err == nil {
		t.Error("measured with a device that has ended")
	}
}
