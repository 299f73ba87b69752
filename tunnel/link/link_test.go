package link

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"culvert/protocol"
	"culvert/protocol/key"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const domain protocol.Domain = 0x0badcafe

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
	bulkDials      chan error // nil: dial; anything else fails it
	userErr, tunnE error
}

type rigOption func(user, tunnel *Config)

// connect builds both ends. The certificates are the single byte of side.node.Record.
func connect(t testing.TB, serve func(ctx context.Context, f *Flow), opts ...rigOption) *rig {
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
	ucfg := Config{Local: u.node.ID, Node: u.node.Record, Request: request, Role: RoleUser, Dialler: true, Admit: admit(n)}
	ncfg := Config{Local: n.node.ID, Node: n.node.Record, Role: RoleTunnel, Admit: admit(u), Serve: serve}
	ucfg.DialBulk = func(ctx context.Context, _ func(protocol.Hash) error) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", listener.Addr().String())
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
	raw, err := net.Dial("tcp", listener.Addr().String())
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
				flow, proof, err := ReadPreface(c, time.Now().Add(5*time.Second))
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

func TestEchoOnLinkAndPromoted(t *testing.T) {
	for name, after := range map[string]int64{"link": -1, "promoted": 0} {
		t.Run(name, func(t *testing.T) {
			r := ok(t, connect(t, echo, func(u, _ *Config) { u.PromoteAfter = after }))
			for _, size := range []int{0, 1, 5000, 32 << 20} {
				f, err := r.user.Open(Open{Port: 9100, Protocol: protocol.TCP})
				if err != nil {
					t.Fatal(err)
				}
				data := random(size)
				if got := echoed(t, f, data); sha256.Sum256(got) != sha256.Sum256(data) {
					t.Errorf("%d bytes came back of %d", len(got), size)
				}
				f.mu.Lock()
				own := f.bulk != nil
				f.mu.Unlock()
				if own != (name == "promoted" && size > 1<<20) {
					t.Errorf("%d bytes: own connection %t", size, own)
				}
				if moved := f.Moved(); moved != int64(2*size) {
					t.Errorf("%d bytes counted, want %d", moved, 2*size)
				}
			}
			if n := r.user.Flows(); n != 0 {
				t.Errorf("%d flows left", n)
			}
			if n := r.user.buffered.Load() + r.tunnel.buffered.Load() + r.user.granted.Load() + r.tunnel.granted.Load(); n != 0 {
				t.Errorf("%d bytes left in the accounts", n)
			}
		})
	}
}

func TestFallsBackToTheLink(t *testing.T) {
	asked := make(chan struct{}, 1)
	r := ok(t, connect(t, echo, func(u, _ *Config) {
		u.DialBulk = func(context.Context, func(protocol.Hash) error) (net.Conn, error) {
			asked <- struct{}{}
			return nil, errors.New("no second connection here")
		}
	}))
	f, err := r.user.Open(Open{Port: 1})
	if err != nil {
		t.Fatal(err)
	}
	data := random(8 << 20)
	if !bytes.Equal(echoed(t, f, data), data) {
		t.Error("other bytes came back")
	}
	<-asked
}

func TestRefusedAndReset(t *testing.T) {
	r := ok(t, connect(t, func(_ context.Context, f *Flow) {
		switch f.Target().Port {
		case 1:
			f.Refuse(ReasonDeviceRefused, "192.0.2.1:1\x1b[31m")
		case 2:
			_ = f.Accept()
			_, _ = f.Write([]byte("half an ans"))
			f.Reset(ReasonNone, "")
		}
	}))
	f, _ := r.user.Open(Open{Port: 1})
	_, _ = f.Write([]byte("sent before the answer")) // may race with the refusal
	var refused *RefusedError
	if err := f.Opened(context.Background()); !errors.As(err, &refused) || refused.Reason != ReasonDeviceRefused ||
		strings.ContainsRune(err.Error(), 0x1b) {
		t.Errorf("got %v", err)
	}
	f, _ = r.user.Open(Open{Port: 2})
	var reset *ResetError
	if _, err := f.WriteTo(io.Discard); !errors.As(err, &reset) {
		t.Errorf("got %v, want a reset", err)
	}
}

func TestOneStuckFlowBlocksNobody(t *testing.T) {
	release := make(chan struct{})
	r := ok(t, connect(t, func(ctx context.Context, f *Flow) {
		if f.Target().Port == 1 {
			_ = f.Accept()
			<-release // reads nothing
			return
		}
		echo(ctx, f)
	}, func(u, _ *Config) { u.PromoteAfter = -1 }))
	stuck, _ := r.user.Open(Open{Port: 1})
	full := make(chan error, 1)
	go func() { _, err := stuck.Write(make([]byte, 4<<20)); full <- err }()
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			f, err := r.user.Open(Open{Port: 2})
			if err != nil {
				t.Error(err)
				return
			}
			data := random(200<<10 + i)
			if !bytes.Equal(echoed(t, f, data), data) {
				t.Error("other bytes came back")
			}
		})
	}
	wg.Wait()
	if n := r.tunnel.buffered.Load(); n != firstWindow {
		t.Errorf("%d bytes wait for the stuck flow, want its window", n)
	}
	close(release)
	if err := <-full; err == nil {
		t.Error("4 MB went into a flow that nobody reads")
	}
}

func TestHelloIsJudged(t *testing.T) {
	other, foreign := newSide(t, domain, 9), newSide(t, domain+1, 1)
	for name, c := range map[string]struct {
		opt          rigOption
		user, tunnel error
	}{
		"another request": {func(u, _ *Config) { u.Request = protocol.Hash{1} }, &GoneError{}, &RefusedError{}},
		"someone else's certificate": {func(_, n *Config) {
			n.Admit = func(Hello, bool) (*protocol.CertifiedNode, error) { return other.node, nil }
		}, &GoneError{}, ErrPeerKey},
		"foreign domain": {func(_, n *Config) {
			n.Admit = func(Hello, bool) (*protocol.CertifiedNode, error) { return foreign.node, nil }
		}, &GoneError{}, ErrPeerKey},
		"same role": {func(u, _ *Config) { u.Role = RoleTunnel }, &GoneError{}, &RefusedError{}},
	} {
		t.Run(name, func(t *testing.T) {
			r := connect(t, echo, c.opt)
			if !sameKind(r.userErr, c.user) || !sameKind(r.tunnE, c.tunnel) {
				t.Errorf("user: %v, tunnel: %v", r.userErr, r.tunnE)
			}
		})
	}
}

func sameKind(err, want error) bool {
	var g *GoneError
	var r *RefusedError
	switch want.(type) {
	case *GoneError:
		return errors.As(err, &g)
	case *RefusedError:
		return errors.As(err, &r)
	}
	return errors.Is(err, want)
}

func TestFlowIDNeverReturns(t *testing.T) {
	r := ok(t, connect(t, func(_ context.Context, f *Flow) { f.Refuse(ReasonPort, "") }))
	f, _ := r.user.Open(Open{Port: 1})
	_ = f.Opened(context.Background())
	_ = r.user.control(Header{Type: FrameOpen, Flow: f.ID()}, Open{Port: 1}.Append(nil))
	if err := r.tunnel.Wait(); !errors.Is(err, ErrFrame) {
		t.Errorf("a flow ID came back: %v", err)
	}
}

func TestDeadLinkIsNoticed(t *testing.T) {
	pair, silent := net.Pipe()
	go func() { _, _ = io.Copy(io.Discard, silent) }()
	defer silent.Close()
	l := &Link{
		cfg: Config{Role: RoleUser, Timing: Timing{Ask: 5 * time.Millisecond, Answer: 20 * time.Millisecond}.withDefaults(),
			Limits: Limits{}.withDefaults()},
		conn: Conn{Conn: pair}, out: newOutbox(pair), start: time.Now(), done: make(chan struct{}),
		look: make(chan struct{}, 1), flows: make(map[uint64]*Flow),
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.wg.Go(func() { l.end(l.out.run()) })
	l.wg.Go(func() { l.end(l.watch()) })
	f, err := l.Open(Open{Port: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Opened(context.Background()); !errors.Is(err, ErrDead) {
		t.Errorf("got %v", err)
	}
	_ = l.Wait()
}

func TestRenewedCertificate(t *testing.T) {
	r := ok(t, connect(t, echo))
	newer := *r.tunnel.Peer()
	newer.Sequence = 2
	seen := make(chan struct{})
	r.tunnel.cfg.Admit = func(_ Hello, renewal bool) (*protocol.CertifiedNode, error) {
		defer close(seen)
		if !renewal {
			t.Error("not marked as a renewal")
		}
		return &newer, nil
	}
	r.user.Renew([]byte{1, 1})
	<-seen
	f, _ := r.user.Open(Open{Port: 1}) // its answer comes after the renewal was handled
	_ = f.Opened(context.Background())
	if s := r.tunnel.Peer().Sequence; s != 2 {
		t.Errorf("sequence %d", s)
	}
	f.Close()
}
