package socks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// replyTime is how long a client may take to read an answer, farewell to close after a refusal.
	replyTime = 5 * time.Second
	farewell  = time.Second
	// lastWords is how much of what a refused client still says is read, so that it reads its answer and no reset.
	lastWords = 64 << 10
)

// Config of a server. Opener is required; zero fields take the defaults.
type Config struct {
	Opener         Opener
	User, Password string              // both or none
	Reply          func(error) Reply   // what an error of the tunnels is to a client; all Failed
	Count          func(reason string) // told of each connection that ended without a request
	Room           func(net.Conn) bool // whether there is a descriptor for one more; nil: always
	Log            *slog.Logger        // of what was refused, at level debug

	Connections int           // at once, 1,024
	Tunnels     int           // open or opening, 256
	Handshake   time.Duration // until the request is there, 10 s
	Open        time.Duration // until there is a tunnel, 30 s
	Idle        time.Duration // of a tunnel without a connection, 5 min
}

// Server is one listener and what came in by it.
type Server struct {
	cfg      Config
	listener *net.TCPListener
	pool     *pool
	ctx      context.Context
	cancel   context.CancelFunc
	wg       sync.WaitGroup

	mu     sync.Mutex
	closed bool
	conns  map[*net.TCPConn]struct{}
}

// Listen opens a listener at a loopback address: whoever reaches it reaches the devices.
func Listen(address string) (*net.TCPListener, error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil || !at.Addr().IsLoopback() {
		return nil, fmt.Errorf("socks: %.80q is not a loopback address", address)
	}
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return nil, fmt.Errorf("socks: %w", err)
	}
	return l, nil
}

// Serve starts to serve l, which it owns from then on.
func Serve(l *net.TCPListener, cfg Config) (*Server, error) {
	if cfg.Opener == nil || (cfg.User == "") != (cfg.Password == "") {
		_ = l.Close()
		return nil, errors.New("socks: the opener is missing, or one of user and password")
	}
	if cfg.Reply == nil {
		cfg.Reply = func(error) Reply { return Failed }
	}
	if cfg.Count == nil {
		cfg.Count = func(string) {}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Connections, cfg.Tunnels = cmp.Or(cfg.Connections, 1024), cmp.Or(cfg.Tunnels, 256)
	cfg.Handshake = cmp.Or(cfg.Handshake, 10*time.Second)
	cfg.Open = cmp.Or(cfg.Open, 30*time.Second)
	cfg.Idle = cmp.Or(cfg.Idle, 5*time.Minute)
	s := &Server{cfg: cfg, listener: l, conns: make(map[*net.TCPConn]struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.pool = newPool(s.ctx, cfg.Opener, cfg.Tunnels, cfg.Open)
	s.wg.Go(s.accept)
	s.wg.Go(s.sweep)
	return s, nil
}

// Addr is where it listens.
func (s *Server) Addr() netip.AddrPort { return s.listener.Addr().(*net.TCPAddr).AddrPort() }

// Close ends listener, connections and tunnels, and waits for them. It may be called twice.
func (s *Server) Close() error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	for c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.cancel()
	var err error
	if first {
		err = s.listener.Close()
	}
	s.wg.Wait()
	s.pool.close()
	return err
}

func (s *Server) accept() {
	for {
		conn, err := s.listener.AcceptTCP()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			select {
			case <-s.ctx.Done():
				return
			case <-time.After(50 * time.Millisecond): // out of descriptors: it passes
			}
			continue
		}
		room := s.cfg.Room == nil || s.cfg.Room(conn)
		s.mu.Lock()
		if !room || s.closed || len(s.conns) >= s.cfg.Connections {
			s.mu.Unlock()
			_ = conn.Close()
			s.cfg.Count("socks: too many connections")
			continue
		}
		s.conns[conn] = struct{}{}
		s.wg.Go(func() {
			s.serve(conn)
			_ = conn.Close()
			s.mu.Lock()
			delete(s.conns, conn)
			s.mu.Unlock()
		})
		s.mu.Unlock()
	}
}

func (s *Server) sweep() {
	tick := time.NewTicker(max(s.cfg.Idle/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case now := <-tick.C:
			s.pool.sweep(now.Add(-s.cfg.Idle))
		}
	}
}

// serve is one connection's life.
func (s *Server) serve(conn *net.TCPConn) {
	_ = conn.SetDeadline(time.Now().Add(s.cfg.Handshake))
	want, err := s.greet(conn)
	if err != nil {
		s.cfg.Count("socks: " + reason(err))
		s.part(conn)
		return
	}
	reply := want.reply
	target, ok := parseTarget(want.name, want.port)
	if reply == Succeeded && !ok {
		reply = NotAllowed
	}
	if reply == Succeeded {
		var said bool
		if said, err = s.carry(conn, target); said {
			s.cfg.Log.Debug("socks connection ended", "to", target.String(), "error", err)
			return
		}
		if reply = s.cfg.Reply(err); errors.Is(err, errFull) || reply == Succeeded {
			reply = Failed
		}
	}
	s.cfg.Count("socks: answered " + reply.String())
	s.cfg.Log.Debug("socks request refused", "name", want.name, "port", want.port, "reply", reply.String(), "error", err)
	_ = conn.SetDeadline(time.Now().Add(replyTime))
	if _, err := conn.Write(reply.message()); err == nil {
		s.part(conn)
	}
}

// greet has the handshake with a client.
func (s *Server) greet(conn *net.TCPConn) (request, error) {
	h := newHandshake(credentials{s.cfg.User, s.cfg.Password})
	var buf [257]byte
	for !h.done() {
		b := buf[:h.need]
		if _, err := io.ReadFull(conn, b); err != nil {
			return request{}, err
		}
		send, err := h.step(b)
		if len(send) > 0 {
			if _, err := conn.Write(send); err != nil {
				return request{}, err
			}
		}
		if err != nil {
			return request{}, err
		}
	}
	return h.request, nil
}

// reason is why a handshake ended, of a few words only.
func reason(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, errVersion), errors.Is(err, errMethod), errors.Is(err, errPassword), errors.Is(err, errReserved):
		return err.Error()
	case errors.As(err, &timeout) && timeout.Timeout():
		return "handshake too slow"
	}
	return "left before the request"
}

// carry connects a client with a device; said means that it was told so, and that the connection has ended since. A tunnel
// that was closed under it is opened once more.
func (s *Server) carry(conn *net.TCPConn, t Target) (said bool, err error) {
	for range 2 {
		var e *shared
		if e, err = s.pool.take(t); err != nil {
			return false, err
		}
		err = e.tunnel.Carry(s.ctx, conn, func() error {
			said = true
			_ = conn.SetDeadline(time.Now().Add(replyTime))
			_, err := conn.Write(Succeeded.message())
			return errors.Join(err, conn.SetDeadline(time.Time{}))
		})
		s.pool.give(e, time.Now())
		if said || !e.tunnel.Closed() || s.ctx.Err() != nil {
			break
		}
	}
	return said, err
}

// part closes in order: a client that reads its answer late must not find a reset instead.
func (s *Server) part(conn *net.TCPConn) {
	if conn.CloseWrite() != nil {
		return
	}
	_ = conn.SetReadDeadline(time.Now().Add(farewell))
	_, _ = io.CopyN(io.Discard, conn, lastWords)
}
