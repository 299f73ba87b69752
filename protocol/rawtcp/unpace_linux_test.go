package rawtcp

import (
	"net"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func congestion(t *testing.T, c *net.TCPConn) string {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var name string
	if e := raw.Control(func(fd uintptr) { name, err = unix.GetsockoptString(int(fd), syscall.IPPROTO_TCP, unix.TCP_CONGESTION) }); e != nil || err != nil {
		t.Fatal(e, err)
	}
	return name
}

func TestWithinThisMachineIsNotPaced(t *testing.T) {
	c, far := pair(t)
	if got := congestion(t, c.TCPConn); got != "reno" {
		t.Errorf("%q on a pumped connection of loopback", got)
	}
	dst, _ := pair(t)
	s, err := NewSplice(far, dst.TCPConn)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := congestion(t, far); got != "reno" {
		t.Errorf("%q on a spliced connection of loopback", got)
	}
}

func TestWhatIsOnThisMachine(t *testing.T) {
	for _, c := range []struct {
		near, far string
		here      bool
	}{
		{"127.0.0.1", "127.0.0.1", true}, {"::1", "::1", true}, {"192.0.2.1", "192.0.2.1", true}, {"192.0.2.1", "::ffff:192.0.2.1", true},
		{"192.0.2.1", "192.0.2.2", false}, {"10.0.0.1", "10.0.0.2", false}, {"fe80::1", "fe80::2", false},
	} {
		if got := within(net.ParseIP(c.near), net.ParseIP(c.far)); got != c.here {
			t.Errorf("%s to %s: %v", c.near, c.far, got)
		}
	}
}
