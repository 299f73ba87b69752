package node

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"culvert/discovery/nat"
	"culvert/protocol"
	"culvert/protocol/carrier"
)

const (
	// natEvents is how many events may wait for a machine; more are lost like any datagram.
	natEvents = 64
	// natAsk bounds one question to a super-node, which may have to open a session first.
	natAsk = 1200 * time.Millisecond
)

// natDriver does what a machine wants done: it owns the fresh sockets and the goroutines that read from them, ask, and wait.
type natDriver struct {
	n       *Node
	m       *membership
	peers   map[protocol.ID]protocol.Peer
	ctx     context.Context
	work    sync.WaitGroup
	events  chan nat.Event
	sockets map[int]*net.UDPConn
	pending []nat.Event // that need no channel
}

// drive runs a machine until it is done or ctx is; tap: it hears what comes to the node's own socket.
func (n *Node) drive(ctx context.Context, m *membership, peers map[protocol.ID]protocol.Peer, machine nat.Machine, tap bool) error {
	ctx, cancel := context.WithCancel(ctx)
	d := &natDriver{n: n, m: m, peers: peers, ctx: ctx, events: make(chan nat.Event, natEvents), sockets: make(map[int]*net.UDPConn)}
	defer d.work.Wait()
	defer func() {
		for _, c := range d.sockets {
			_ = c.Close() // nothing was promised to anybody
		}
	}()
	defer cancel()
	if tap {
		n.nat.tap.Store(&d.events)
		defer n.nat.tap.Store(nil)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	var e nat.Event
	for {
		// The wall clock may be a test's; these intervals are real ones.
		if d.all(machine.Step(time.Now(), e)) {
			return nil
		}
		if len(d.pending) > 0 {
			e, d.pending = d.pending[0], d.pending[1:]
			continue
		}
		wait := time.Hour
		if next := machine.Next(); !next.IsZero() {
			wait = time.Until(next)
		}
		timer.Reset(max(wait, 0))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e = <-d.events:
		case <-timer.C:
			e = nat.Event{}
		}
	}
}

func (d *natDriver) all(actions []nat.Action) (done bool) {
	for _, a := range actions {
		switch a.Kind {
		case nat.ActionOpen:
			d.open(a)
		case nat.ActionSend:
			d.send(a)
		case nat.ActionAsk:
			d.work.Go(func() { d.tell(nat.Event{Kind: nat.Asked, Ask: a.Ask, Sent: d.ask(a)}) })
		case nat.ActionHop:
			d.work.Go(func() {
				// What cannot be sent tells as little as what is not answered.
				hop, reached, _ := nat.Hop(d.ctx, a.To, a.Hops, a.Data)
				d.tell(nat.Event{Kind: nat.HopSeen, Hop: hop, Reached: reached})
			})
		case nat.ActionClose:
			if c := d.sockets[a.Socket]; c != nil {
				_ = c.Close()
				delete(d.sockets, a.Socket)
			}
		case nat.ActionDone:
			done = true
		}
	}
	return done
}

// freshUDP opens a socket of one family, at the address that the node's own socket is bound to.
func (n *Node) freshUDP(v6 bool) (*net.UDPConn, error) {
	network, local := "udp4", netip.IPv4Unspecified()
	if v6 {
		network, local = "udp6", netip.IPv6Unspecified()
	}
	if a, ok := n.onlyAddress(); ok && a.Is6() == v6 {
		local = a
	}
	return net.ListenUDP(network, net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0)))
}

func (d *natDriver) open(a nat.Action) {
	e := nat.Event{Kind: nat.Opened, Socket: a.Socket}
	if c, err := d.n.freshUDP(a.V6); err == nil {
		d.sockets[a.Socket] = c
		e.Port = c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		d.work.Go(func() { d.read(a.Socket, c) })
	}
	d.pending = append(d.pending, e)
}

// natErrors is how many errors of reading in a row are taken for passing ones: Windows reports ICMP errors so.
const natErrors = 32

// read ends when the socket is closed.
func (d *natDriver) read(socket int, c *net.UDPConn) {
	var buf [readBuffer]byte
	for failed := 0; failed < natErrors; {
		k, from, err := c.ReadFromUDPAddrPort(buf[:])
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			failed++
			continue
		}
		failed = 0
		select {
		case d.events <- nat.Event{Kind: nat.Received, Socket: socket, From: from, Data: bytes.Clone(buf[:k])}:
		default:
		}
	}
}

func (d *natDriver) send(a nat.Action) {
	if a.Socket == 0 {
		// A datagram that is not taken is a lost one.
		_, _ = d.n.conn.WriteBatch([]carrier.Message{{Addr: a.To, Buf: a.Data, N: len(a.Data)}})
		return
	}
	if c := d.sockets[a.Socket]; c != nil {
		_, _ = c.WriteToUDPAddrPort(a.Data, a.To)
	}
}

// tell waits for room: unlike datagrams, ends of questions must not be lost.
func (d *natDriver) tell(e nat.Event) {
	select {
	case d.events <- e:
	case <-d.ctx.Done():
	}
}

// ask has a server send a reach probe.
func (d *natDriver) ask(a nat.Action) bool {
	to, ok := d.peers[a.Server]
	if !ok {
		return false
	}
	to.Addr = a.To
	ctx, cancel := context.WithTimeout(d.ctx, natAsk)
	defer cancel()
	q := protocol.ProbeReach{Addr: protocol.AddrOf(a.Addr), Protocol: protocol.UDP, Other: a.Other, Nonce: a.Nonce}
	status, err := d.m.askReach(ctx, to, q)
	return err == nil && status == protocol.StatusOK
}
