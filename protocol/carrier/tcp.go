package carrier

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"culvert/protocol/carrier/descriptors"
	"culvert/protocol/rawtcp"
)

// firstByteTLS is the record type of a ClientHello.
const firstByteTLS = 0x16

// TCPConfig says who gets which connection. A handler runs in a goroutine of its own; it closes
// the connection, or hands it on to a new owner before it returns. While it runs, Close of
// the TCP closes its connection under it. Time limits end when the handler is called.
type TCPConfig struct {
	TLS       *tls.Config                // NextProtos, where empty, is filled from Protocols
	Protocols map[string]func(*tls.Conn) // by ALPN; "" takes clients that offer none
	Raw       map[byte]func(*Peeked)     // by the first byte, which is still to be read

	HalfOpen  int // connections without a finished handshake, in all; 4,096
	PerSource int // the same for one address or IPv6 /64; 128
	// Descriptors says whether there is room for a connection; nil: always.
	Descriptors *descriptors.Budget
	Timeout     time.Duration // to show the first byte and finish the handshake; 10 s
}

// reason is why a connection ended before a handler saw it.
type reason uint8

const (
	reasonNone reason = iota
	reasonAccept
	reasonSource
	reasonCrowded
	reasonDescriptors
	reasonSilent
	reasonLeft
	reasonFirstByte
	reasonHandshake
	reasonHandshakeTime
	reasonProtocol
	reasonClosed
	reasons
)

var reasonNames = [reasons]string{
	reasonNone:          "served",
	reasonAccept:        "accept failed",
	reasonSource:        "too many from source",
	reasonCrowded:       "too many half-open",
	reasonDescriptors:   "out of descriptors",
	reasonSilent:        "silent",
	reasonLeft:          "left before first byte",
	reasonFirstByte:     "unknown first byte",
	reasonHandshake:     "handshake failed",
	reasonHandshakeTime: "handshake too slow",
	reasonProtocol:      "no such protocol",
	reasonClosed:        "closed",
}

// TCP serves one listener: it accepts, tells connections apart by their first byte, and
// hands them to their handlers. Neither a slow peer nor a handshake ever holds up the accept loop.
type TCP struct {
	listener *net.TCPListener
	accept   func() (*net.TCPConn, error) // the listener's; tests make it fail
	cfg      TCPConfig
	half     *halfOpen
	counts   [reasons]atomic.Uint64
	closing  sync.Once
	stop     chan struct{} // closed by Close
	wg       sync.WaitGroup
	err      error // of the accept loop; readable after wg.Wait

	mu     sync.Mutex
	closed bool
	active map[*net.TCPConn]struct{} // whose handler runs
}

// ErrTCPConfig means that there is TLS to serve and no configuration for it, or the reverse.
var ErrTCPConfig = errors.New("TLS protocols and TLS configuration must come together")

// ServeTCP starts to serve l, which it owns from then on.
func ServeTCP(l *net.TCPListener, cfg TCPConfig) (*TCP, error) {
	s, err := newTCP(l, cfg)
	if err != nil {
		return nil, err
	}
	s.wg.Go(s.acceptLoop)
	return s, nil
}

func newTCP(l *net.TCPListener, cfg TCPConfig) (*TCP, error) {
	if (cfg.TLS == nil) != (len(cfg.Protocols) == 0) {
		return nil, ErrTCPConfig
	}
	if cfg.TLS != nil && len(cfg.TLS.NextProtos) == 0 {
		cfg.TLS = cfg.TLS.Clone()
		cfg.TLS.NextProtos = slices.DeleteFunc(slices.Sorted(maps.Keys(cfg.Protocols)), func(p string) bool { return p == "" })
	}
	cfg.HalfOpen = cmp.Or(cfg.HalfOpen, 4096)
	cfg.PerSource = cmp.Or(cfg.PerSource, 128)
	cfg.Timeout = cmp.Or(cfg.Timeout, 10*time.Second)
	s := &TCP{
		listener: l,
		accept:   l.AcceptTCP,
		cfg:      cfg,
		stop:     make(chan struct{}),
		active:   make(map[*net.TCPConn]struct{}),
	}
	s.half = newHalfOpen(cfg.HalfOpen, cfg.PerSource, &s.counts)
	return s, nil
}

// LocalAddr is the address that is listened on.
func (s *TCP) LocalAddr() netip.AddrPort {
	addr := s.listener.Addr().(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
}

// Close stops accepting, closes what is half-open and what a handler still holds, and waits for
// all of it. It must not be called from a handler.
func (s *TCP) Close() error {
	var err error
	s.closing.Do(func() {
		close(s.stop)
		err = s.listener.Close()
		s.half.close()
		s.mu.Lock()
		s.closed = true
		held := slices.Collect(maps.Keys(s.active))
		s.mu.Unlock()
		for _, conn := range held {
			_ = conn.Close()
		}
	})
	s.wg.Wait()
	return err
}

// Wait returns when nothing runs any more: nil after Close, else why the listener ended.
func (s *TCP) Wait() error {
	s.wg.Wait()
	return s.err
}

// Stats counts connections by what became of them.
func (s *TCP) Stats() map[string]uint64 {
	stats := make(map[string]uint64, reasons)
	for r := range s.counts {
		stats[reasonNames[r]] = s.counts[r].Load()
	}
	return stats
}

func (s *TCP) acceptLoop() {
	const shortest, longest = 5 * time.Millisecond, time.Second
	pause := shortest
	for {
		conn, err := s.accept()
		if err == nil {
			pause = shortest
			// Where hardly anything is left, one that has proved nothing yet makes room for the next, or it has none.
			if !s.cfg.Descriptors.Stranger(conn) && !s.half.dropOldest(reasonDescriptors) {
				s.counts[reasonDescriptors].Add(1)
				abort(conn)
				continue
			}
			s.admit(conn)
			continue
		}
		select {
		case <-s.stop:
			return
		default:
		}
		if errors.Is(err, net.ErrClosed) {
			s.err = fmt.Errorf("accept: %w", err)
			return
		}
		// Out of descriptors or memory, or a peer that left already: all of it passes, and giving up
		// a connection that proved nothing makes it pass sooner.
		s.counts[reasonAccept].Add(1)
		s.half.dropOldest(reasonDescriptors)
		select {
		case <-s.stop:
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, longest)
	}
}

// admit starts the half-open part of a connection's life.
func (s *TCP) admit(conn *net.TCPConn) {
	p := s.half.add(conn)
	if p == nil {
		s.counts[reasonSource].Add(1)
		abort(conn)
		return
	}
	s.wg.Go(func() {
		why := s.introduce(p)
		if why == reasonNone || !s.half.done(p) {
			return // handled, or dropped by the table, which has counted it
		}
		s.counts[why].Add(1)
		if why == reasonHandshake || why == reasonProtocol {
			_ = p.conn.Close() // a reset would overtake the alert that tells the peer what is wrong
			return
		}
		abort(p.conn)
	})
}

// introduce finds the connection's handler and runs it, or says why there is none. It says
// reasonNone where nothing is left to do.
func (s *TCP) introduce(p *pending) reason {
	if err := p.conn.SetDeadline(time.Now().Add(s.cfg.Timeout)); err != nil {
		return reasonLeft
	}
	first := make([]byte, 1)
	if _, err := p.conn.Read(first); err != nil {
		if isTimeout(err) {
			return reasonSilent
		}
		return reasonLeft
	}
	peeked := &Peeked{TCPConn: p.conn, Prefix: first}
	if first[0] == firstByteTLS && s.cfg.TLS != nil {
		return s.introduceTLS(p, peeked)
	}
	handler := s.cfg.Raw[first[0]]
	if handler == nil {
		return reasonFirstByte
	}
	return s.hand(p, func() { handler(peeked) })
}

func (s *TCP) introduceTLS(p *pending, peeked *Peeked) reason {
	if !s.half.spoke(p) {
		return reasonNone
	}
	conn := tls.Server(&raw{Conn: rawtcp.New(p.conn), prefix: peeked.Prefix}, s.cfg.TLS)
	if err := conn.Handshake(); err != nil {
		if isTimeout(err) {
			return reasonHandshakeTime
		}
		return reasonHandshake
	}
	handler := s.cfg.Protocols[conn.ConnectionState().NegotiatedProtocol]
	if handler == nil {
		return reasonProtocol
	}
	return s.hand(p, func() { handler(conn) })
}

// hand runs the handler of an introduced connection.
func (s *TCP) hand(p *pending, handler func()) reason {
	if !s.half.done(p) {
		return reasonNone
	}
	_ = p.conn.SetDeadline(time.Time{})
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		s.counts[reasonClosed].Add(1)
		abort(p.conn)
		return reasonNone
	}
	s.active[p.conn] = struct{}{}
	s.mu.Unlock()
	s.counts[reasonNone].Add(1)
	handler()
	s.mu.Lock()
	delete(s.active, p.conn)
	s.mu.Unlock()
	return reasonNone
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
