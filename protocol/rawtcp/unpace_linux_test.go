package rawtcp

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// option is what get says of the connection's socket.
func option[T any](t *testing.T, c *net.TCPConn, get func(fd int) (T, error)) (v T) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if e := raw.Control(func(fd uintptr) { v, err = get(int(fd)) }); e != nil || err != nil {
		t.Fatal(e, err)
	}
	return v
}

func congestion(t *testing.T, c *net.TCPConn) string {
	t.Helper()
	return option(t, c, func(fd int) (string, error) { return unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION) })
}

func keepAlive(t *testing.T, c *net.TCPConn) int {
	t.Helper()
	return option(t, c, func(fd int) (int, error) { return unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE) })
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

// What a listener of loopback accepts, and who dials it, is as if New had made it, and nobody asks whether the other lives; who
// comes to a listener that others may reach is asked.
func TestWithinThisMachineFromTheStart(t *testing.T) {
	for addr, asks := range map[string]int{"127.0.0.1:0": 0, "0.0.0.0:0": 1} {
		near, far := joined(t, addr)
		for _, c := range []*net.TCPConn{near.TCPConn, far} {
			if got := congestion(t, c); got != "reno" {
				t.Errorf("%s: %q", addr, got)
			}
		}
		if got := keepAlive(t, near.TCPConn); got != asks {
			t.Errorf("%s: asks %d", addr, got)
		}
		if got := keepAlive(t, far); got != 0 {
			t.Errorf("%s: who called asks %d", addr, got)
		}
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
