package tunnel

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"culvert/tunnel/link"
)

const (
	// sourceQueue is how many datagrams of one local address wait for their flow; more are dropped and counted.
	sourceQueue = 64
	// longest is what a read may bring. What is longer than a frame is dropped and counted.
	longest = 64 << 10
	// endWait is how long the other end may take to end a flow in order.
	endWait = 2 * time.Second
)

// source is one local address that sends datagrams into a tunnel. It has a flow of its own, so that answers find back.
type source struct {
	from netip.AddrPort
	in   chan []byte
	held []byte // taken, and to be sent by the next flow
}

// receive takes datagrams from the local port until the tunnel closes.
func (t *Tunnel) receive() {
	b := make([]byte, longest)
	for {
		n, from, err := t.packets.ReadFromUDPAddrPort(b)
		if err != nil {
			if t.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			continue // a program that is gone: Windows says so on the next read
		}
		if n > link.MaxDatagram || !t.enqueue(from, b[:n]) {
			t.lost.Add(1)
		}
	}
}

// enqueue gives a datagram to its source, which it makes where it is new; false where there is no room.
func (t *Tunnel) enqueue(from netip.AddrPort, b []byte) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.sources[from]
	if s == nil {
		if t.closed || len(t.sources) >= t.m.cfg.Limits.Sources {
			return false
		}
		s = &source{from: from, in: make(chan []byte, sourceQueue)}
		t.sources[from] = s
		t.wg.Go(func() { t.serveSource(s) })
	}
	select {
	case s.in <- append([]byte(nil), b...):
		return true
	default:
		return false
	}
}

// endSource forgets a source; false where a datagram has come meanwhile, and ends it all the same where must is set.
func (t *Tunnel) endSource(s *source, must bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !must && len(s.in) > 0 {
		return false
	}
	t.lost.Add(int64(len(s.in)))
	delete(t.sources, s.from)
	return true
}

// serveSource carries the datagrams of one local address until none has gone either way for a while. When its flow ends for
// another reason the next datagram opens another.
func (t *Tunnel) serveSource(s *source) {
	t.total.Add(1)
	for {
		idle, err := t.sourceFlow(s)
		if err != nil {
			t.mu.Lock()
			t.lastErr = err
			t.mu.Unlock()
		}
		if err != nil && !errors.Is(err, errSilent) || t.ctx.Err() != nil {
			t.endSource(s, true) // the next datagram starts anew
			return
		}
		if idle && t.endSource(s, false) {
			return
		}
	}
}

// sourceFlow opens a flow for a source and carries its datagrams. It returns when the flow is over, its link does not answer
// (errSilent), or nothing has moved for long (idle).
func (t *Tunnel) sourceFlow(s *source) (idle bool, err error) {
	p, f, err := t.openFlow(t.ctx, false)
	if err != nil {
		return false, err
	}
	var c datagramConn
	if p.link == nil {
		if c, err = t.selfDatagrams(); err != nil {
			return false, t.judge(p, err)
		}
	} else {
		c = flowDatagrams{f}
	}
	idle, err = t.shuttle(s, c, p)
	return idle, t.judge(p, err)
}

// datagramConn is a way for datagrams to the device: a flow, or a socket of this node.
type datagramConn interface {
	Send([]byte) error
	Receive([]byte) (int, error)
	End(orderly bool) // Receive returns soon
}

// shuttle moves datagrams between a source and c, which goes by p. What comes back goes to where the question came from.
func (t *Tunnel) shuttle(s *source, c datagramConn, p *path) (idle bool, err error) {
	var ended error
	heard := make(chan struct{}, 1)
	done := make(chan struct{})
	go func() { // ends with c
		defer close(done)
		b := make([]byte, link.MaxDatagram)
		for {
			n, err := c.Receive(b)
			if err != nil {
				ended = err
				return
			}
			t.got.Add(int64(n))
			_, _ = t.packets.WriteToUDPAddrPort(b[:n], s.from) // a program that is gone
			select {
			case heard <- struct{}{}:
			default:
			}
		}
	}()
	defer func() {
		c.End(idle)
		<-done
	}()
	send := func(b []byte) error {
		if !p.alive() {
			s.held = b
			return errSilent
		}
		s.held = nil
		if err := c.Send(b); err != nil {
			t.lost.Add(1)
			return err
		}
		t.sent.Add(int64(len(b)))
		return nil
	}
	if s.held != nil {
		if err := send(s.held); err != nil {
			return false, err
		}
	}
	timer := time.NewTimer(t.m.cfg.IdleDatagram)
	defer timer.Stop()
	for {
		select {
		case b := <-s.in:
			if err := send(b); err != nil {
				return false, err
			}
			timer.Reset(t.m.cfg.IdleDatagram)
		case <-heard:
			timer.Reset(t.m.cfg.IdleDatagram)
		case <-timer.C:
			return true, nil
		case <-done:
			if ended == io.EOF {
				return true, nil
			}
			return false, ended
		case <-t.ctx.Done():
			return false, ErrClosed
		}
	}
}

// selfDatagrams is a socket to a device that this node itself reaches.
func (t *Tunnel) selfDatagrams() (datagramConn, error) {
	ctx, cancel := context.WithTimeout(t.ctx, t.m.cfg.OpenTimeout)
	defer cancel()
	w, err := t.wanted(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := t.m.dialer.connectUDP(ctx, Ask{Device: w.device, Requester: w.me.Node, Port: w.port, Protocol: w.proto,
		Local: w.me.Node.ID, Consent: w.me.Consent})
	if err != nil {
		return nil, err
	}
	return socketDatagrams{conn}, nil
}

// flowDatagrams is a flow as a way to the device.
type flowDatagrams struct{ f *link.Flow }

func (d flowDatagrams) Send(b []byte) error           { return d.f.SendDatagram(b) }
func (d flowDatagrams) Receive(b []byte) (int, error) { return d.f.ReceiveDatagram(b) }
func (d flowDatagrams) End(orderly bool) {
	if !orderly || d.f.CloseWrite() != nil {
		d.f.Close()
		return
	}
	time.AfterFunc(endWait, d.f.Close) // of a flow that has ended it does nothing
}

// socketDatagrams is a connected socket as a way to the device.
type socketDatagrams struct{ net.Conn }

func (d socketDatagrams) Send(b []byte) error {
	_, err := d.Write(b)
	return socketError(err)
}

func (d socketDatagrams) Receive(b []byte) (int, error) {
	n, err := d.Read(b)
	return n, socketError(err)
}

func (d socketDatagrams) End(bool) { _ = d.Close() }

// socketError says what an error of a socket means for the device. One datagram too many or too long is a lost one.
func socketError(err error) error {
	switch {
	case err == nil, errors.Is(err, syscall.EMSGSIZE), errors.Is(err, syscall.ENOBUFS):
		return nil
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET):
		return ErrDeviceRefused
	case errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded):
		return err
	}
	return ErrDeviceUnreachable
}
