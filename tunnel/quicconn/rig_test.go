package quicconn

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"culvert/protocol"
	"culvert/protocol/carrier"
	"culvert/protocol/key"
	"culvert/tunnel/link"
)

// longEnough is how long an event that must come is waited for, however slow and busy the machine is.
const longEnough = 2 * time.Minute

// patient gives a handshake the time that a busy machine needs.
var patient = times{handshake: longEnough, linger: lingerFor}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// node is one end of a test: a UDP socket with its reader, a lane and an endpoint.
type node struct {
	*Endpoint
	udp  *carrier.UDP
	lane *carrier.Lane
	cert tls.Certificate
	peer *protocol.CertifiedNode // as others call it
	sent atomic.Int64            // datagrams
}

// counted counts what is sent.
type counted struct {
	*carrier.UDP
	sent *atomic.Int64
}

// WriteBatch implements carrier.Conn.
func (c *counted) WriteBatch(ms []carrier.Message) (int, error) {
	n, err := c.UDP.WriteBatch(ms)
	c.sent.Add(int64(n))
	return n, err
}

func newNode(t testing.TB, seed byte) *node {
	t.Helper()
	p, err := key.Generate(bytes.NewReader(bytes.Repeat([]byte{seed}, 64)))
	check(t, err)
	n := &node{peer: &protocol.CertifiedNode{ID: protocol.NodeID(7, p.Signing.Public()), Signing: p.Signing.Public()}}
	n.cert, err = link.Certificate(p.Signing)
	check(t, err)
	n.udp, err = carrier.ListenUDP(netip.MustParseAddrPort("127.0.0.1:0"))
	check(t, err)
	n.lane = carrier.NewLane(&counted{n.udp, &n.sent})
	var wg sync.WaitGroup
	wg.Go(func() { readInto(n.udp, n.lane) })
	n.Endpoint, err = newEndpoint(n.lane, patient)
	check(t, err)
	t.Cleanup(func() {
		_ = n.Endpoint.Close()
		_ = n.udp.Close()
		wg.Wait()
	})
	return n
}

// readInto is the read loop of a node that speaks nothing but QUIC.
func readInto(u *carrier.UDP, l *carrier.Lane) {
	ms := make([]carrier.Message, 64)
	for i := range ms {
		ms[i].Buf = make([]byte, 1500)
	}
	for {
		k, err := u.ReadBatch(ms)
		if err != nil {
			return
		}
		now := time.Now()
		for i := range ms[:k] {
			if ms[i].N > 0 && carrier.Classify(ms[i].Buf[0]) == carrier.QUIC {
				l.Deliver(now, &ms[i])
			}
		}
	}
}

func (n *node) addr() netip.AddrPort { return n.udp.LocalAddr() }

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// connect makes a connection from a to b, on which a has said "hello".
func connect(t testing.TB, a, b *node) (from, to *Conn) {
	t.Helper()
	return connectBy(t, a, b, b.addr(), a.addr())
}

// connectBy is connect where a dials b at addr and b sees a at seen.
func connectBy(t testing.TB, a, b *node, addr, seen netip.AddrPort) (from, to *Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), longEnough)
	defer cancel()
	var wg sync.WaitGroup
	var err error
	ready := b.expects(seen)
	wg.Go(func() { to, err = b.AcceptFrom(ctx, seen, link.ServerTLS(&b.cert)) })
	ready()
	from, dialErr := a.Dial(ctx, addr, link.ClientTLS(&a.cert, b.peer))
	check(t, dialErr)
	_, dialErr = from.Write([]byte("hello"))
	check(t, dialErr)
	wg.Wait()
	check(t, err)
	hello := make([]byte, 5)
	_, err = io.ReadFull(to, hello)
	check(t, err)
	return from, to
}

// expects returns what waits until somebody waits for a connection from addr.
func (n *node) expects(addr netip.AddrPort) func() {
	return func() {
		for {
			n.mu.Lock()
			k := len(n.expected[addr])
			n.mu.Unlock()
			if k > 0 {
				return
			}
			runtime.Gosched()
		}
	}
}

// far is a UDP forwarder between two nodes, like a NAT whose outside port can change.
type far struct {
	t       testing.TB
	inside  *net.UDPConn
	to      netip.AddrPort
	mu      sync.Mutex
	outside *net.UDPConn
	from    netip.AddrPort
	mute    bool
	wg      sync.WaitGroup
}

func newFar(t testing.TB, to netip.AddrPort) *far {
	f := &far{t: t, to: to}
	var err error
	f.inside, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	check(t, err)
	f.rebind()
	f.wg.Go(func() {
		b := make([]byte, 2000)
		for {
			n, from, err := f.inside.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			f.mu.Lock()
			f.from = from
			out, mute := f.outside, f.mute
			f.mu.Unlock()
			if !mute {
				_, _ = out.WriteToUDPAddrPort(b[:n], f.to)
			}
		}
	})
	t.Cleanup(func() {
		_ = f.inside.Close()
		_ = f.outside.Close()
		f.wg.Wait()
	})
	return f
}

// rebind gives the inside another outside port; what comes to the old one is lost.
func (f *far) rebind() {
	out, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	check(f.t, err)
	f.mu.Lock()
	old := f.outside
	f.outside = out
	f.mu.Unlock()
	if old != nil {
		_ = old.Close()
	}
	f.wg.Go(func() {
		b := make([]byte, 2000)
		for {
			n, _, err := out.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			f.mu.Lock()
			to, mute := f.from, f.mute
			f.mu.Unlock()
			if !mute {
				_, _ = f.inside.WriteToUDPAddrPort(b[:n], to)
			}
		}
	})
}

// silence loses everything from now on.
func (f *far) silence() {
	f.mu.Lock()
	f.mute = true
	f.mu.Unlock()
}

func (f *far) addr() netip.AddrPort { return f.inside.LocalAddr().(*net.UDPAddr).AddrPort() }

// seen is where the other side sees the inside.
func (f *far) seen() netip.AddrPort { return f.outside.LocalAddr().(*net.UDPAddr).AddrPort() }
