package socks

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait; nothing comes near it unless something is broken.
const patience = 2 * time.Minute

var errRefused = errors.New("refused")

// mesh is an opener whose devices echo.
type mesh struct {
	opened chan *echoTunnel
	hold   chan struct{}      // where not nil, Open waits for it
	fail   func(Target) error // of Open
	refuse func(Target) error // of Carry

	mu    sync.Mutex
	asked []Target
}

var _ Opener = (*mesh)(nil)

func newMesh() *mesh { return &mesh{opened: make(chan *echoTunnel, 64)} }

func (m *mesh) Open(ctx context.Context, t Target) (Tunnel, error) {
	m.mu.Lock()
	m.asked = append(m.asked, t)
	m.mu.Unlock()
	if m.hold != nil {
		select {
		case <-m.hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if m.fail != nil {
		if err := m.fail(t); err != nil {
			return nil, err
		}
	}
	e := &echoTunnel{mesh: m, target: t, closed: make(chan struct{})}
	m.opened <- e
	return e, nil
}

func (m *mesh) targets() []Target {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]Target{}, m.asked...)
}

type echoTunnel struct {
	mesh   *mesh
	target Target
	once   sync.Once
	closed chan struct{}
}

var _ Tunnel = (*echoTunnel)(nil)

func (e *echoTunnel) Closed() bool {
	select {
	case <-e.closed:
		return true
	default:
		return false
	}
}

func (e *echoTunnel) Close() { e.once.Do(func() { close(e.closed) }) }

func (e *echoTunnel) Carry(_ context.Context, conn *net.TCPConn, answered func() error) error {
	if e.Closed() {
		return errors.New("closed")
	}
	if e.mesh.refuse != nil {
		if err := e.mesh.refuse(e.target); err != nil {
			return err
		}
	}
	defer conn.Close()
	if err := answered(); err != nil {
		return err
	}
	if _, err := io.Copy(conn, conn); err != nil {
		return err
	}
	return conn.CloseWrite()
}

func serve(t *testing.T, cfg Config) *Server {
	t.Helper()
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := Serve(l, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func connect(t *testing.T, s *Server) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}

// ask speaks the client's side for a name, and returns the server's reply.
func ask(t *testing.T, s *Server, name string, port uint16) (*net.TCPConn, Reply) {
	t.Helper()
	c := connect(t, s)
	if _, err := io.WriteString(c, "\x05\x01\x00"+connectTo(name, port)); err != nil {
		t.Fatal(err)
	}
	var b [12]byte
	if _, err := io.ReadFull(c, b[:]); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if string(b[:2]) != "\x05\x00" || string(b[2:3]) != "\x05" || string(b[4:]) != string(Succeeded.message()[2:]) {
		t.Fatalf("%s: answered %x", name, b)
	}
	return c, Reply(b[3])
}

// echoes has data go and come, with half-close.
func echoes(t *testing.T, c *net.TCPConn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || string(got) != text {
		t.Fatalf("got %d of %d bytes, %v", len(got), len(text), err)
	}
}
