package link

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"culvert/protocol"
	"culvert/protocol/key"
)

const domain protocol.Domain = 0x0badcafe

// patience is how long an event that must come is waited for, however slow and busy the machine is.
const patience = 2 * time.Minute

// until waits for what the other end does.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.After(patience); !ok(); {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("not in time: %s", what)
		}
	}
}

// side is one node of a test.
type side struct {
	node *protocol.CertifiedNode
	cert tls.Certificate
}

func newSide(t testing.TB, d protocol.Domain, seed byte) side {
	t.Helper()
	p, err := key.Generate(bytes.NewReader(bytes.Repeat([]byte{seed}, 64)))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := Certificate(p.Signing)
	if err != nil {
		t.Fatal(err)
	}
	return side{&protocol.CertifiedNode{
		ID: protocol.NodeID(d, p.Signing.Public()), Signing: p.Signing.Public(), Sequence: 1,
		Record: []byte{seed},
	}, cert}
}

// rig is a pair of links over loopback.
type rig struct {
	user, tunnel   *Link
	userErr, tunnE error
}

type rigOption func(user, tunnel *Config)

// connect builds both ends. The certificates are the single byte of side.node.Record.
func connect(t testing.TB, serve func(ctx context.Context, f *Flow), opts ...rigOption) *rig {
	t.Helper()
	return connectBy(t, func(addr string) string { return addr }, serve, opts...)
}

// connectBy is connect where the dialler dials another address, from which it goes on to the one that by is told.
func connectBy(t testing.TB, by func(addr string) string, serve func(ctx context.Context, f *Flow), opts ...rigOption) *rig {
	t.Helper()
	u, n := newSide(t, domain, 1), newSide(t, domain, 2)
	r := &rig{}
	request := protocol.Hash{42}
	admit := func(want side) func(Hello, bool) (*protocol.CertifiedNode, error) {
		return func(h Hello, _ bool) (*protocol.CertifiedNode, error) {
			if h.Request != request || !bytes.Equal(h.Node, want.node.Record) {
				return nil, &RefusedError{Reason: ReasonRequest}
			}
			return want.node, nil
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { t.Cleanup(func() { listener.Close() }) }()
	dialled := by(listener.Addr().String())
	ucfg := Config{Local: u.node.ID, Node: u.node.Record, Request: request, Role: RoleUser, Dialler: true, Admit: admit(n)}
	ncfg := Config{Local: n.node.ID, Node: n.node.Record, Role: RoleTunnel, Admit: admit(u), Serve: serve}
	ucfg.DialBulk = func(ctx context.Context, _ func(protocol.Hash) error) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", dialled)
	}
	for _, c := range []*Config{&ucfg, &ncfg} { // a machine that is busy elsewhere is not dead
		c.Handshake, c.Timing.Answer = patience, patience
	}
	for _, o := range opts {
		o(&ucfg, &ncfg)
	}
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		raw, err := listener.Accept()
		if err != nil {
			r.tunnE = err
			return
		}
		tc := tls.Server(raw, ServerTLS(&n.cert))
		if r.tunnE = tc.Handshake(); r.tunnE != nil {
			raw.Close()
			return
		}
		conn, err := FromTLS(tc)
		if err != nil {
			r.tunnE = err
			raw.Close()
			return
		}
		r.tunnel, r.tunnE = New(context.Background(), conn, ncfg)
	}()
	raw, err := net.Dial("tcp", dialled)
	if err != nil {
		t.Fatal(err)
	}
	tc := tls.Client(raw, ClientTLS(&u.cert, n.node))
	if r.userErr = tc.Handshake(); r.userErr == nil {
		conn, err := FromTLS(tc)
		if err != nil {
			t.Fatal(err)
		}
		r.user, r.userErr = New(context.Background(), conn, ucfg)
	} else {
		raw.Close()
	}
	wg.Wait()
	if r.tunnel != nil {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				c, err := listener.Accept()
				if err != nil {
					return
				}
				flow, proof, err := ReadPreface(c, time.Now().Add(patience))
				if err != nil {
					c.Close()
					continue
				}
				_ = r.tunnel.AcceptBulk(c, flow, proof)
			}
		}()
	}
	t.Cleanup(func() {
		listener.Close()
		for _, l := range []*Link{r.user, r.tunnel} {
			if l != nil {
				l.Close(ReasonClosing)
				_ = l.Wait()
			}
		}
		wg.Wait()
	})
	return r
}

func ok(t testing.TB, r *rig) *rig {
	t.Helper()
	if r.userErr != nil || r.tunnE != nil {
		t.Fatalf("user: %v, tunnel: %v", r.userErr, r.tunnE)
	}
	return r
}

// echo gives every byte back and keeps half-close.
func echo(_ context.Context, f *Flow) {
	if f.Accept() != nil {
		return
	}
	pr, pw := io.Pipe()
	go func() {
		_, err := f.WriteTo(pw)
		pw.CloseWithError(err)
	}()
	if _, err := f.ReadFrom(pr); err == nil {
		_ = f.CloseWrite()
	}
	pr.CloseWithError(io.ErrClosedPipe)
	<-f.link.ctx.Done()
}

// echoed sends data through a flow and returns what comes back.
func echoed(t testing.TB, f *Flow, data []byte) []byte {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := f.ReadFrom(bytes.NewReader(data))
		if err == nil {
			err = f.CloseWrite()
		}
		done <- err
	}()
	var got bytes.Buffer
	if _, err := f.WriteTo(&got); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return got.Bytes()
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}
