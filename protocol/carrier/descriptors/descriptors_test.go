package descriptors

import (
	"net"
	"os"
	"testing"
)

// The number of a new descriptor is how many there are: the reserve begins where it should, and what is closed makes room.
func TestReserve(t *testing.T) {
	if Limit() == 0 {
		t.Log("this system has no limit") // and nothing is refused then
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	base, ok := number(l)
	if !ok {
		t.Fatal("a listener has no number")
	}
	told := 0
	b := New(int(base+50)*5/4, func() { told++ })
	var open []net.Conn
	for len(open) < 400 && b.Refused() == 0 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if b.Tunnel(c) {
			open = append(open, c)
		}
	}
	if Limit() == 0 {
		return
	}
	// Some other part of the test may have closed a descriptor below.
	if told != 1 {
		t.Errorf("told of %d refusals", told)
	}
	if n := len(open); n < 40 || n > 80 {
		t.Errorf("%d connections had room, about 50 should", n)
	}
	if !b.Stranger(l) {
		t.Error("a descriptor of before is no stranger's")
	}
	for _, c := range open {
		c.Close()
	}
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if !b.Tunnel(c) {
		t.Error("there is room again and it is not given")
	}
}

func TestNoLimit(t *testing.T) {
	var none *Budget
	for _, b := range []*Budget{none, New(0, nil)} {
		if !b.Tunnel(os.Stdin) || !b.Stranger(nil) || b.Refused() != 0 || b.Limit() != 0 || b.Connections() != 0 {
			t.Error("without a limit something is refused")
		}
	}
}

// Go raises the soft limit by itself: if it ever stops to, this says so.
func TestSoftLimitIsRaised(t *testing.T) { checkRaised(t) }
