package link

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"culvert/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEchoOnLinkAndPromoted(t *testing.T) {
	for name, after := range map[string]int64{"link": -1, "promoted": 0} {
		t.Run(name, func(t *testing.T) {
			r := ok(t, connect(t, echo, func(u, _ *Config) { u.PromoteAfter = after }))
			once := func(size int) (own bool) {
				f, err := r.user.Open(Open{Port: 9100, Protocol: protocol.TCP})
				if err != nil {
					t.Fatal(err)
				}
				data := random(size)
				if got := echoed(t, f, data); sha256.Sum256(got) != sha256.Sum256(data) {
					t.Errorf("%d bytes came back of %d", len(got), size)
				}
				if moved := f.Moved(); moved != int64(2*size) {
					t.Errorf("%d bytes counted, want %d", moved, 2*size)
				}
				f.mu.Lock()
				defer f.mu.Unlock()
				return f.bulk != nil
			}
			for _, size := range []int{0, 1, 5000} {
				if once(size) {
					t.Errorf("%d bytes: own connection", size)
				}
			}
			if name == "link" {
				if once(32 << 20) {
					t.Error("own connection")
				}
			} else {
				for !once(32 << 20) { // the link may be done before the flow's own connection is there
				}
			}
			if n := r.user.Flows(); n != 0 {
				t.Errorf("%d flows left", n)
			}
			until(t, "nothing is left in the accounts", func() bool { // the other end may still be at the flow's end
				return r.user.buffered.Load()+r.tunnel.buffered.Load()+r.user.granted.Load()+r.tunnel.granted.Load() == 0
			})
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
	until(t, "a window's bytes wait for the stuck flow", func() bool { return r.tunnel.buffered.Load() == firstWindow })
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
	if err == nil { // else it was noticed sooner than that
		err = f.Opened(context.Background())
	}
	if !errors.Is(err, ErrDead) {
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
