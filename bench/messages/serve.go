package messages

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"sync"

	"culvert/bench/mmsg"
	"culvert/protocol/carrier"
)

// conn is a socket, culvert's or the references' own.
type conn interface {
	carrier.Conn
	Socket() *net.UDPConn
}

// loopback is where everything here listens.
var loopback = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)

// responder answers one datagram into out, or leaves out.N zero.
type responder func(in []byte, out *carrier.Message)

// serveEcho answers on conn until it is closed.
func serveEcho(conn carrier.Conn, respond responder) error {
	ms := buffers(batch)
	var out outbox
	for {
		n, err := conn.ReadBatch(ms)
		if err != nil {
			return endOf(err)
		}
		for i := range ms[:n] {
			m := out.next()
			m.Addr, m.N = ms[i].Addr, 0
			if respond(ms[i].Buf[:ms[i].N], m); m.N == 0 {
				out.ms = out.ms[:len(out.ms)-1]
			}
		}
		if err := out.flush(conn); err != nil {
			return endOf(err)
		}
	}
}

// endOf is nil for a socket that its owner closed.
func endOf(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// serving is a set of sockets, each with its loop.
type serving struct {
	wg    sync.WaitGroup
	conns []conn
	after []func() error // once the loops have ended
	mu    sync.Mutex
	err   error
}

// sockets says what a cell reads and writes.
type sockets int

const (
	bare     sockets = iota // package mmsg: the references' own
	single                  // culvert's, without segments: as for peers at different addresses
	segments                // culvert's
)

func (w sockets) listen() (conn, error) {
	if w == bare {
		return mmsg.Listen(loopback)
	}
	c, err := carrier.ListenUDP(loopback)
	if err == nil && w == single {
		c.Segment(false)
	}
	return c, err
}

// add listens and runs loop on the socket.
func (s *serving) add(w sockets, loop func(conn) error) (netip.AddrPort, error) {
	c, err := w.listen()
	if err != nil {
		return netip.AddrPort{}, err
	}
	s.conns = append(s.conns, c)
	s.wg.Go(func() {
		err := loop(c)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.err = errors.Join(s.err, err)
	})
	return c.LocalAddr(), nil
}

// onClose has f called when everything else has ended, last asked first called.
func (s *serving) onClose(f func() error) { s.after = append([]func() error{f}, s.after...) }

func (s *serving) close() error {
	for _, c := range s.conns {
		_ = c.Close()
	}
	s.wg.Wait()
	for _, f := range s.after {
		s.err = errors.Join(s.err, f())
	}
	return s.err
}

// bareAt is where the references are served.
type bareAt struct {
	Plain, Sealed, SealedMany, SealedOurs, Public netip.AddrPort
}

// Bare is the part that serves the references; its argument is the number of peers.
func Bare(ctx context.Context, arg json.RawMessage, ready func(any) error) (err error) {
	var peers int
	if err := json.Unmarshal(arg, &peers); err != nil {
		return err
	}
	pairs, err := sealedPairs(peers)
	if err != nil {
		return err
	}
	ours, err := sealedPairs(peers)
	if err != nil {
		return err
	}
	one, err := sealedPairs(1)
	if err != nil {
		return err
	}
	_, public, err := publicSides()
	if err != nil {
		return err
	}
	var s serving
	defer func() { err = errors.Join(err, s.close()) }()
	var at bareAt
	for _, e := range []struct {
		at *netip.AddrPort
		w  sockets
		r  responder
	}{
		{&at.Plain, bare, func(in []byte, out *carrier.Message) { out.N = copy(out.Buf, in) }},
		{&at.Sealed, segments, (&sealedEcho{pairs: one}).respond},
		{&at.SealedMany, bare, (&sealedEcho{pairs: pairs}).respond},
		{&at.SealedOurs, single, (&sealedEcho{pairs: ours}).respond},
		{&at.Public, bare, public.respond},
	} {
		if *e.at, err = s.add(e.w, func(c conn) error { return serveEcho(c, e.r) }); err != nil {
			return err
		}
	}
	if err := ready(at); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}
