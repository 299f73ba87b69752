package quicconn

import (
	"bytes"
	"context"
	"crypto/tls"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"culvert/protocol"
	"culvert/protocol/carrier"
	"culvert/protocol/key"
	"culvert/tunnel/link"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// node is one end of a test: a UDP socket with its reader, a lane and an endpoint.
type node struct {
	*Endpoint
	udp  *carrier.UDP
	lane *carrier.Lane
	cert tls.Certificate
	peer *protocol.CertifiedNode // as others call it
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
	n.lane = carrier.NewLane(n.udp)
	var wg sync.WaitGroup
	wg.Go(func() { readInto(n.udp, n.lane) })
	n.Endpoint, err = New(n.lane)
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
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	var err error
	ready := make(chan struct{})
	wg.Go(func() {
		close(ready)
		to, err = b.AcceptFrom(ctx, a.addr(), link.ServerTLS(&b.cert))
	})
	<-ready
	from, dialErr := a.Dial(ctx, b.addr(), link.ClientTLS(&a.cert, b.peer))
	check(t, dialErr)
	_, dialErr = from.Write([]byte("hello"))
	check(t, dialErr)
	wg.Wait()
	check(t, err)
	hello := make([]byte, 5)
	_, err = to.Read(hello)
	check(t, err)
	return from, to
}
