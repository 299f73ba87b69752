package tunnel

import (
	"context"
	"crypto/tls"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"culvert/protocol"
	"culvert/protocol/carrier"
	"culvert/tunnel/quicconn"
)

// puncher is a node's UDP side in a world whose NATs let through whatever both sides want.
type puncher struct {
	w        *world
	seen     protocol.Addr // made up; led to udp
	udp      *carrier.UDP
	lane     *carrier.Lane
	endpoint *quicconn.Endpoint

	meetings, closed atomic.Int32
	deaf             atomic.Bool // takes no part
	mu               sync.Mutex
	met              []Meeting
}

var _ Puncher = (*puncher)(nil)

// punching gives an agent a UDP side that others see at addr.
func punching(addr string) agentOption {
	return func(a *agent, cfg *Config, _ *Identity) {
		t := a.w.t
		p := &puncher{w: a.w, seen: protocol.AddrOf(netip.MustParseAddrPort(addr))}
		var err error
		p.udp, err = carrier.ListenUDP(netip.MustParseAddrPort("127.0.0.1:0"))
		check(t, err)
		p.lane = carrier.NewLane(p.udp)
		var wg sync.WaitGroup
		wg.Go(func() { readQUIC(p.udp, p.lane) })
		p.endpoint, err = quicconn.New(p.lane)
		check(t, err)
		cfg.Puncher = p
		a.puncher = p
		t.Cleanup(func() { // after the manager's own end
			_ = p.endpoint.Close()
			_ = p.udp.Close()
			wg.Wait()
			if m, c := p.meetings.Load(), p.closed.Load(); m != c {
				t.Errorf("%d paths, %d of them closed", m, c)
			}
		})
	}
}

// readQUIC is the read loop of a node that speaks nothing else.
func readQUIC(u *carrier.UDP, l *carrier.Lane) {
	ms := make([]carrier.Message, 64)
	for i := range ms {
		ms[i].Buf = make([]byte, 1500)
	}
	for {
		k, err := u.ReadBatch(ms)
		if err != nil {
			return
		}
		now := time.Now()
		for i := range ms[:k] {
			if ms[i].N > 0 && carrier.Classify(ms[i].Buf[0]) == carrier.QUIC {
				l.Deliver(now, &ms[i])
			}
		}
	}
}

// Offer implements Puncher.
func (p *puncher) Offer(context.Context, protocol.ID) ([]protocol.Candidate, protocol.Punch, error) {
	if p.deaf.Load() {
		return nil, protocol.Punch{}, nil
	}
	c := protocol.Candidate{Kind: protocol.CandidateSeen, Protocol: protocol.UDP, Addr: p.seen}
	return []protocol.Candidate{c}, protocol.Punch{Wanted: true, Mapping: protocol.MappingIndependent}, nil
}

// Meet implements Puncher.
func (p *puncher) Meet(_ context.Context, m Meeting) (UDPPath, error) {
	p.mu.Lock()
	p.met = append(p.met, m)
	p.mu.Unlock()
	if len(m.Theirs) == 0 {
		return nil, errors.New("nobody to send to")
	}
	p.w.mu.Lock()
	peer := p.w.agents[m.Peer]
	p.w.mu.Unlock()
	p.meetings.Add(1)
	return &udpPath{p, peer.puncher.udp.LocalAddr()}, nil
}

type udpPath struct {
	p    *puncher
	peer netip.AddrPort
}

// Dial implements UDPPath.
func (u *udpPath) Dial(ctx context.Context, conf *tls.Config) (*quicconn.Conn, error) {
	return u.p.endpoint.Dial(ctx, u.peer, conf)
}

// Accept implements UDPPath.
func (u *udpPath) Accept(ctx context.Context, conf *tls.Config) (*quicconn.Conn, error) {
	return u.p.endpoint.AcceptFrom(ctx, u.peer, conf)
}

// Close implements UDPPath.
func (u *udpPath) Close() error {
	u.p.closed.Add(1)
	return nil
}
