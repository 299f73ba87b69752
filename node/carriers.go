package node

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"culvert/protocol"
	"culvert/protocol/carrier"
)

const (
	// udpVerdict is how long a probe waits before UDP counts as silent, udpLate how long an answer still counts.
	udpVerdict = time.Second
	udpLate    = 3 * time.Second
	// probePeers are asked at once by UDP, dialPeers by stream.
	probePeers = 3
	dialPeers  = 4
	// streamStagger is between the ways to one peer, relayStagger between those to a relay: bare TCP, then streams.
	streamStagger = 150 * time.Millisecond
	relayStagger  = 200 * time.Millisecond
)

// Network is what tests put in the place of the system's network; zero fields are the system's.
type Network struct {
	UDP    func(carrier.Conn) carrier.Conn // laid over the socket, for messages
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
	Getenv func(string) string
	Again  time.Duration // between tries of UDP
	Wave   time.Duration // until a lookup asks others, too
}

// choice is what the choice of a carrier rests on.
type choice struct {
	dialer      carrier.Dialer
	memory      carrier.Memory
	events      chan carrier.ChooserEvent
	last        atomic.Pointer[carrier.Way] // by which the last stream of messages came up
	https, http bool                        // this node is at ports 443 and 80
	web         []string                    // the addresses at which it listens for them
}

// CarrierState is how messages travel now.
type CarrierState struct {
	Carrier string `json:"carrier"`           // udp, tls or websocket
	Address string `json:"address,omitempty"` // of the last peer that was reached by stream
	Proxy   string `json:"proxy,omitempty"`   // HOST:PORT of the HTTP proxy that is used for it
}

// CarrierState says how messages travel now.
func (n *Node) CarrierState() CarrierState { return n.carrierState() }

func (n *Node) carrierState() CarrierState {
	w := n.choice.last.Load()
	if !n.mux.Blocked() || w == nil {
		return CarrierState{Carrier: "udp"}
	}
	s := CarrierState{Carrier: w.Form.String(), Address: w.Address}
	if p := n.choice.dialer.Proxies.For(w.Address); w.Proxied && p != nil {
		s.Proxy = p.Host
	}
	return s
}

// openCarriers lays the mux over the socket.
func (n *Node) openCarriers() error {
	x := &n.cfg.Network
	if x.Getenv == nil {
		x.Getenv = os.Getenv
	}
	var socket carrier.Conn = n.conn
	if x.UDP != nil {
		socket = x.UDP(socket)
	}
	n.mux = carrier.NewMux(socket, carrier.MuxConfig{
		Offers: func(to netip.AddrPort) bool { _, _, ok := n.offering(to); return ok },
		Dial:   n.dialMessages,
	})
	proxies, err := carrier.NewProxies(n.cfg.Settings.Proxy, x.Getenv, func(a netip.Addr) bool { return !n.isPublic(a) })
	if err != nil {
		return err
	}
	if v := proxies.Unused(); v != "" {
		n.log.Warn("this is no HTTP proxy, so it is not used: write it as http://USER:PASSWORD@HOST:PORT", "variable", v)
	}
	n.choice.events = make(chan carrier.ChooserEvent, 16)
	n.choice.dialer = carrier.Dialer{Dial: x.Dial, Proxies: proxies}
	return nil
}

// carrierEvent tells the loop what happened; it never waits.
func (n *Node) carrierEvent(e carrier.ChooserEvent) {
	select {
	case n.choice.events <- e:
	default:
	}
}

// carrierLoop finds out whether UDP passes, and has streams stand in for it where it does not.
func (n *Node) carrierLoop(ctx context.Context) {
	if n.cfg.Extension != nil {
		return // an operator is where UDP reaches it
	}
	c := carrier.Chooser{Again: n.cfg.Network.Again}
	t := time.NewTimer(time.Hour)
	defer t.Stop()
	if len(n.members()) > 0 {
		n.carrierEvent(carrier.EventDoubt) // before anybody waits for an answer
	}
	for {
		e := carrier.EventTick
		select {
		case <-ctx.Done():
			return
		case e = <-n.choice.events:
		case <-t.C:
		}
		if e == carrier.EventNetwork {
			n.choice.memory.Reset()
		}
		now := time.Now()
		for _, a := range c.Step(now, e) {
			n.carrierAct(ctx, a)
		}
		if next := c.Next(); !next.IsZero() {
			t.Reset(max(next.Sub(now), time.Millisecond))
		} else {
			t.Stop()
		}
	}
}

func (n *Node) carrierAct(ctx context.Context, a carrier.ChooserAction) {
	switch a {
	case carrier.ActProbe:
		n.tasks.start(n.probeByUDP)
	case carrier.ActDial:
		n.tasks.start(n.dialStreams)
	case carrier.ActBlock:
		n.mux.Block(true)
		s := n.carrierState()
		n.log.Info("UDP does not pass here; messages travel by stream", "carrier", s.Carrier, "address", s.Address, "proxy", s.Proxy)
		n.tendAllHomes()
	case carrier.ActUnblock:
		n.mux.Block(false)
		n.log.Info("messages travel by UDP")
		n.tendAllHomes()
	case carrier.ActCloseDetours:
		n.mux.CloseDetours()
	}
}

// tendAllHomes has all homes pinged, so that they know by what this node is reached now.
func (n *Node) tendAllHomes() {
	for _, m := range n.members() {
		m.pingNow()
	}
}

// asked is a peer that a membership may ask.
type asked struct {
	by   *membership
	peer protocol.Peer
}

// knownPeers are super-nodes and operators of all memberships, each once, in random order: homes first.
func (n *Node) knownPeers() []asked {
	var homes, l []asked
	seen := make(map[protocol.ID]bool)
	add := func(to *[]asked, m *membership, p protocol.Peer) {
		if !seen[p.ID] {
			seen[p.ID] = true
			*to = append(*to, asked{m, n.reach(p)})
		}
	}
	for _, m := range n.members() {
		for _, h := range m.homes.snapshot() {
			add(&homes, m, h.peer)
		}
	}
	for _, m := range n.members() {
		for _, p := range m.peers() {
			add(&l, m, p)
		}
		for _, p := range m.mesh.contacts() {
			if !n.isLocal(p.ID) {
				add(&l, m, p)
			}
		}
	}
	rand.Shuffle(len(l), func(i, j int) { l[i], l[j] = l[j], l[i] })
	return append(homes, l...)
}

// probeByUDP asks a few peers by UDP. One answer is enough; a late one counts too.
func (n *Node) probeByUDP(ctx context.Context) {
	l := n.knownPeers()
	if len(l) == 0 {
		n.awaitEvent(ctx, carrier.EventUDPAnswered) // nobody to ask: nothing is known against UDP
		return
	}
	ctx, cancel := context.WithTimeout(ctx, udpLate)
	defer cancel()
	answers := make(chan bool)
	var wg sync.WaitGroup
	for _, a := range l[:min(len(l), probePeers)] {
		wg.Go(func() {
			to := a.peer
			to.Addr = carrier.ByUDP(to.Addr)
			_, err := a.by.call(ctx, to, protocol.Ping{})
			select {
			case answers <- err == nil:
			case <-ctx.Done():
			}
		})
	}
	defer wg.Wait()
	defer cancel()
	verdict := time.NewTimer(udpVerdict)
	defer verdict.Stop()
	said := false
	silent := func() {
		if !said {
			said = true
			n.awaitEvent(ctx, carrier.EventUDPSilent)
		}
	}
	for left := min(len(l), probePeers); left > 0; {
		select {
		case ok := <-answers:
			if ok {
				n.awaitEvent(ctx, carrier.EventUDPAnswered)
				return
			}
			left--
		case <-verdict.C:
			silent()
		case <-ctx.Done():
			left = 0
		}
	}
	silent()
}

// awaitEvent tells the loop what it waits for: such an event is not lost.
func (n *Node) awaitEvent(ctx context.Context, e carrier.ChooserEvent) {
	select {
	case n.choice.events <- e:
	case <-n.tasks.ctx.Done():
	}
}

// dialStreams opens streams to a few peers; the first that comes up decides. The others stay, if they come up.
func (n *Node) dialStreams(ctx context.Context) {
	l := n.knownPeers()
	slices.SortStableFunc(l, func(a, b asked) int { return n.webFirst(b.peer.ID) - n.webFirst(a.peer.ID) })
	l = l[:min(len(l), dialPeers)]
	up := make(chan bool, len(l))
	var wg sync.WaitGroup
	for _, a := range l {
		wg.Go(func() { up <- n.mux.Reach(ctx, a.peer.Addr) == nil })
	}
	defer wg.Wait()
	for range l {
		if <-up {
			n.awaitEvent(ctx, carrier.EventStreamUp)
			return
		}
	}
	n.awaitEvent(ctx, carrier.EventNoStream)
}

// webFirst puts peers that are at a web port before others.
func (n *Node) webFirst(id protocol.ID) int {
	for _, w := range n.ways(id, carrier.ServiceMessages) {
		if !w.Own {
			return 1
		}
	}
	return 0
}

// pingedHomes tells how a round of pings went: that nobody answers at all may be UDP's fault.
func (n *Node) pingedHomes(l []home) {
	for _, h := range l {
		if h.misses == 0 {
			return
		}
	}
	if len(l) > 0 {
		n.carrierEvent(carrier.EventSilence)
	}
}
