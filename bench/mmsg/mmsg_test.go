package mmsg

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"culvert/protocol/carrier"
)

func open(t *testing.T) *Conn {
	t.Helper()
	c, err := Listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.Socket().SetDeadline(time.Now().Add(time.Minute))
	return c
}

func fresh(n int) []carrier.Message {
	ms := make([]carrier.Message, n)
	for i := range ms {
		ms[i].Buf = make([]byte, 100)
	}
	return ms
}

// More datagrams than a call takes come whole, in order, with the address they are from.
func TestAllArriveInOrder(t *testing.T) {
	from, to := open(t), open(t)
	out := fresh(2*batch + 3)
	for i := range out {
		out[i].Addr, out[i].N = to.LocalAddr(), copy(out[i].Buf, fmt.Append(nil, "datagram ", i))
	}
	if n, err := from.WriteBatch(out); n != len(out) || err != nil {
		t.Fatalf("%d written, %v", n, err)
	}
	in := fresh(len(out))
	for got := 0; got < len(out); {
		n, err := to.ReadBatch(in)
		if err != nil {
			t.Fatalf("after %d: %v", got, err)
		}
		for i := range n {
			w := &out[got+i]
			if in[i].Addr != from.LocalAddr() || !bytes.Equal(in[i].Buf[:in[i].N], w.Buf[:w.N]) {
				t.Fatalf("%d: %q from %v", got+i, in[i].Buf[:in[i].N], in[i].Addr)
			}
		}
		got += n
	}
}

// What cannot be sent is an error, and a closed socket says so.
func TestErrors(t *testing.T) {
	c := open(t)
	m := fresh(1)
	m[0].Addr, m[0].N = netip.MustParseAddrPort("[::1]:9"), 1
	if n, err := c.WriteBatch(m); n != 0 || err == nil {
		t.Errorf("IPv6: %d, %v", n, err)
	}
	ended := make(chan error)
	go func() {
		_, err := c.ReadBatch(fresh(1))
		ended <- err
	}()
	c.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// A batch there and back allocates nothing.
func TestNoAllocation(t *testing.T) {
	from, to := open(t), open(t)
	out, in := fresh(8), fresh(8)
	for i := range out {
		out[i].Addr, out[i].N = to.LocalAddr(), 50
	}
	if n := testing.AllocsPerRun(100, func() {
		if _, err := from.WriteBatch(out); err != nil {
			t.Fatal(err)
		}
		for got := 0; got < len(out); {
			n, err := to.ReadBatch(in)
			if err != nil {
				t.Fatal(err)
			}
			got += n
		}
	}); n != 0 {
		t.Errorf("%v allocations a batch", n)
	}
}
