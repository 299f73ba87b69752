package quicconn

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
)

var (
	// ErrClosed is what an endpoint says after Close.
	ErrClosed = errors.New("quicconn: endpoint closed")
	// ErrUnexpected marks a handshake from an address from which nobody waits for one.
	ErrUnexpected = errors.New("quicconn: nobody waits for a connection from there")
	errBusy       = errors.New("quicconn: too many addresses are waited for")
)

// Socket is a UDP socket's QUIC side: carrier.Lane.
type Socket interface {
	net.PacketConn
	// Admit lets connections start from addr until then; false where there is no room.
	Admit(now time.Time, addr netip.AddrPort, until time.Time) bool
	// Dismiss takes back what Admit allowed.
	Dismiss(addr netip.AddrPort)
	// ConnectionID mints an ID whose datagrams the socket lets in.
	ConnectionID() ([10]byte, error)
}

// Codes that end streams and connections. Who reads them learns nothing that he acts on.
const (
	codeClosed     quic.ApplicationErrorCode = 0
	codeUnexpected quic.ApplicationErrorCode = 1
	codeReset      quic.StreamErrorCode      = 1
)

// Endpoint makes and takes connections on one socket.
type Endpoint struct {
	socket    Socket
	transport *quic.Transport
	listener  *quic.Listener
	ctx       context.Context
	cancel    context.CancelFunc
	wg        sync.WaitGroup
	times     times

	mu       sync.Mutex
	closed   bool
	expected map[netip.AddrPort][]*expectation
}

// expectation is somebody who waits for a connection from one address.
type expectation struct {
	tls   *tls.Config
	got   chan *quic.Conn // takes one
	tries int             // handshakes that were begun for it
}

// mostTries is how many handshakes may be begun for one who waits: more than a dialler needs who loses packets, and few enough
// that neither the peer nor who forges its address has this node do the work of a handshake over and over.
const mostTries = 16

// New starts an endpoint on s, which stays the caller's: it is read until Close.
func New(s Socket) (*Endpoint, error) { return newEndpoint(s, times{handshakeFor, lingerFor}) }

func newEndpoint(s Socket, t times) (*Endpoint, error) {
	e := &Endpoint{socket: s, times: t, expected: make(map[netip.AddrPort][]*expectation)}
	e.transport = &quic.Transport{Conn: s, ConnectionIDGenerator: minter{s}, DisableVersionNegotiationPackets: true}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	var err error
	conf := t.transportConfig(mostStreams)
	conf.GetConfigForClient = e.begun
	e.listener, err = e.transport.Listen(&tls.Config{GetConfigForClient: e.greeted, MinVersion: tls.VersionTLS13}, conf)
	if err != nil {
		e.cancel()
		return nil, fmt.Errorf("quicconn: %w", err)
	}
	e.wg.Go(e.accept)
	return e, nil
}

// minter gives QUIC the socket's connection IDs.
type minter struct{ s Socket }

// GenerateConnectionID implements quic.ConnectionIDGenerator.
func (m minter) GenerateConnectionID() (quic.ConnectionID, error) {
	id, err := m.s.ConnectionID()
	return quic.ConnectionIDFromBytes(id[:]), err
}

// ConnectionIDLen implements quic.ConnectionIDGenerator.
func (minter) ConnectionIDLen() int { return 10 }

// Dial connects to addr as TLS client.
func (e *Endpoint) Dial(ctx context.Context, addr netip.AddrPort, conf *tls.Config) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, e.times.handshake)
	defer cancel()
	qc, err := e.transport.Dial(ctx, net.UDPAddrFromAddrPort(plain(addr)), conf, e.times.transportConfig(-1))
	if err != nil {
		return nil, fmt.Errorf("QUIC to %s: %w", addr, err)
	}
	s, err := qc.OpenStream()
	if err != nil {
		_ = qc.CloseWithError(codeClosed, "")
		return nil, fmt.Errorf("QUIC to %s: %w", addr, err)
	}
	return &Conn{e: e, qc: qc, s: s}, nil
}

// AcceptFrom admits addr and waits for one connection from there, with its first stream.
func (e *Endpoint) AcceptFrom(ctx context.Context, addr netip.AddrPort, conf *tls.Config) (*Conn, error) {
	addr = plain(addr)
	ctx, cancel := context.WithTimeout(ctx, 2*e.times.handshake)
	defer cancel()
	x := &expectation{tls: conf, got: make(chan *quic.Conn, 1)}
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil, ErrClosed
	}
	e.expected[addr] = append(e.expected[addr], x)
	e.mu.Unlock()
	defer e.forget(addr, x)
	now := time.Now()
	until, _ := ctx.Deadline()
	if !e.socket.Admit(now, addr, until) {
		return nil, errBusy
	}
	select {
	case qc := <-x.got:
		s, err := qc.AcceptStream(ctx)
		if err != nil {
			_ = qc.CloseWithError(codeClosed, "")
			return nil, fmt.Errorf("QUIC from %s: %w", addr, err)
		}
		return &Conn{e: e, qc: qc, s: s}, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("QUIC from %s: %w", addr, ctx.Err())
	case <-e.ctx.Done():
		return nil, ErrClosed
	}
}

// forget takes back an expectation; a connection that came for it all the same is closed. When nobody waits any more, what comes
// from there is lost and not refused: the next meeting with the same peer may have its first packets here before it is waited for.
func (e *Endpoint) forget(addr netip.AddrPort, x *expectation) {
	e.mu.Lock()
	e.dropLocked(addr, x)
	if len(e.expected[addr]) == 0 {
		e.socket.Dismiss(addr)
	}
	e.mu.Unlock()
	select {
	case qc := <-x.got:
		_ = qc.CloseWithError(codeUnexpected, "")
	default:
	}
}

func (e *Endpoint) dropLocked(addr netip.AddrPort, x *expectation) {
	l := slices.DeleteFunc(e.expected[addr], func(o *expectation) bool { return o == x })
	if e.expected[addr] = l; len(l) == 0 {
		delete(e.expected, addr)
	}
}

// begun is asked before anything is computed for a connection that starts.
func (e *Endpoint) begun(c *quic.ClientInfo) (*quic.Config, error) {
	addr := addrPort(c.RemoteAddr)
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, x := range e.expected[addr] {
		if x.tries < mostTries {
			x.tries++
			return e.times.transportConfig(mostStreams), nil
		}
	}
	return nil, ErrUnexpected
}

// greeted gives a client's first message a certificate, if somebody waits for that client.
func (e *Endpoint) greeted(h *tls.ClientHelloInfo) (*tls.Config, error) {
	x := e.awaits(h.Conn.RemoteAddr(), false)
	if x == nil {
		return nil, ErrUnexpected
	}
	if x.tls.GetConfigForClient != nil {
		return x.tls.GetConfigForClient(h)
	}
	return x.tls, nil
}

// awaits is the longest waiting expectation for an address; take ends it.
func (e *Endpoint) awaits(from net.Addr, take bool) *expectation {
	addr := addrPort(from)
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.expected[addr]
	if len(l) == 0 {
		return nil
	}
	x := l[0]
	if take {
		e.dropLocked(addr, x)
	}
	return x
}

// accept hands finished handshakes to those who wait for them.
func (e *Endpoint) accept() {
	for {
		qc, err := e.listener.Accept(e.ctx)
		if err != nil {
			return
		}
		if x := e.awaits(qc.RemoteAddr(), true); x != nil {
			x.got <- qc
			continue
		}
		e.wg.Go(func() { _ = qc.CloseWithError(codeUnexpected, "") })
	}
}

// spawn runs fn in a goroutine that Close waits for; false after Close.
func (e *Endpoint) spawn(fn func()) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false
	}
	e.wg.Go(fn)
	return true
}

// Close ends all connections, lets those that were closed before have their time to say so, and stops reading the socket.
func (e *Endpoint) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		e.wg.Wait()
		return nil
	}
	e.closed = true
	e.mu.Unlock()
	e.cancel()
	e.wg.Wait()
	_ = e.listener.Close()
	return e.transport.Close()
}

func addrPort(a net.Addr) netip.AddrPort {
	u, ok := a.(*net.UDPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	return plain(u.AddrPort())
}

func plain(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
