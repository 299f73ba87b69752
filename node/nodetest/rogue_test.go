package nodetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"culvert/discovery/nat"
	"culvert/protocol"
	"culvert/protocol/carrier"
	"culvert/protocol/endpoint"
)

// trap is a third party who has nothing to do with any of this: whatever comes there is somebody's fault.
type trap struct {
	addr netip.AddrPort
	came atomic.Int32
}

func newTrap(t testing.TB) *trap {
	t.Helper()
	x := &trap{addr: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.9"), freePort(t))}
	l := must[net.Listener](t)(net.Listen("tcp4", x.addr.String()))
	u := must[*net.UDPConn](t)(net.ListenUDP("udp4", net.UDPAddrFromAddrPort(x.addr)))
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			x.came.Add(1)
			c.Close()
		}
	})
	wg.Go(func() {
		var b [1500]byte
		for {
			if _, _, err := u.ReadFromUDPAddrPort(b[:]); err != nil {
				return
			}
			x.came.Add(1)
		}
	})
	t.Cleanup(func() { l.Close(); u.Close(); wg.Wait() })
	return x
}

// How a rogue hands on what is to be forwarded.
const (
	rogueHonest    = iota
	rogueLate      // after others have been tried
	rogueElsewhere // to others, as if it were for them
	rogueSwaps     // with the way back of another request
	rogueReplays   // twice, with all that came before
	rogueForges    // not at all: it answers in the tunnel-node's place
	rogueWithholds // not at all
)

var rogueNames = [...]string{"honest", "late", "elsewhere", "swaps", "replays", "forges", "withholds"}

// rogue stands where a super-node of the map was, with its keys. It tells everybody that he is at the trap, by ping and by STUN,
// says of every address that it was reached, takes records and has none, and accepts connections on which it then says nothing.
type rogue struct {
	*probe
	lie    protocol.Addr
	mode   atomic.Int32
	others []protocol.ID // to whom "elsewhere" is

	handed, returned, lied atomic.Int32

	earlier []protocol.ForwardedTunnelRequest
	held    []heldRequest
	later   []delayed
}

type heldRequest struct {
	m  protocol.ForwardedTunnelRequest
	by protocol.ID
}

type delayed struct {
	at time.Time
	to protocol.ID
	q  protocol.Payload
}

// rogueFor takes a super-node's place.
func (m *mesh) rogueFor(a *agent, domain string, lie netip.AddrPort, others ...protocol.ID) *rogue {
	t := m.t
	t.Helper()
	at := a.addr()
	r := &rogue{probe: m.probeAs(a, a.member(domain).DomainID), lie: protocol.AddrOf(lie), others: others}
	a.stop()
	r.close()
	eventually(t, "the rogue takes the socket", func() bool {
		c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
		r.conn = c
		return err == nil
	})
	l := must[net.Listener](t)(net.Listen("tcp4", at.String()))
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { r.run(ctx) })
	wg.Go(func() {
		var held []net.Conn
		for {
			c, err := l.Accept()
			if err != nil {
				break
			}
			held = append(held, c)
		}
		for _, c := range held {
			c.Close()
		}
	})
	t.Cleanup(func() { cancel(); l.Close(); r.conn.Close(); wg.Wait() })
	return r
}

func (r *rogue) run(ctx context.Context) {
	var (
		ev  endpoint.Event
		evs []endpoint.Event
		buf [1500]byte
	)
	for ctx.Err() == nil {
		if r.flush() != nil || r.conn.SetReadDeadline(time.Now().Add(20*time.Millisecond)) != nil {
			return
		}
		n, from, err := r.conn.ReadFromUDPAddrPort(buf[:])
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil || n == 0:
		case carrier.Classify(buf[0]) == carrier.STUN:
			if b, err := (nat.Responder{}).Answer(buf[:n], r.lie.AddrPort); err == nil {
				r.lied.Add(1)
				r.out.Add(from, b)
			}
		case carrier.Classify(buf[0]) == carrier.Culvert && buf[0] != protocol.TypePunch && buf[0] != protocol.TypeProbe:
			r.ep.Receive(time.Now(), from, buf[:n], &ev, &r.out)
			for ok := true; ok; ok = r.ep.More(time.Now(), &ev, &r.out) {
				if ev.Kind == endpoint.EventRequest {
					r.handle(ev.Verified.Clone())
				}
			}
		}
		evs = r.ep.Tick(time.Now(), evs[:0], &r.out)
		now := time.Now()
		r.later = slices.DeleteFunc(r.later, func(d delayed) bool {
			if now.Before(d.at) {
				return false
			}
			r.send(d.to, d.q)
			return true
		})
	}
}

func (r *rogue) send(to protocol.ID, q protocol.Payload) {
	b, err := protocol.AppendPayload(nil, q)
	if err != nil {
		return
	}
	// Somebody with whom it is not in contact cannot be lied to.
	_ = r.ep.Send(time.Now(), r.id, protocol.Peer{ID: to}, q.Command(), b, &r.out)
}

func (r *rogue) reply(v *protocol.Verified, q protocol.Payload) {
	if b, err := protocol.AppendPayload(nil, q); err == nil {
		_ = r.ep.Reply(time.Now(), v, q.Command(), b, &r.out)
	}
}

func (r *rogue) handle(v *protocol.Verified) {
	switch v.Command {
	case protocol.CmdPing:
		r.lied.Add(1)
		r.reply(v, protocol.Pong{Time: time.Now().UnixMilli(), Observed: r.lie})
	case protocol.CmdPut:
		r.reply(v, protocol.Stored{Status: protocol.StatusOK})
	case protocol.CmdGetNodeInfo:
		r.reply(v, protocol.NodeInfo{})
	case protocol.CmdGetTunnelNodes:
		r.reply(v, protocol.TunnelNodes{})
	case protocol.CmdGetEndDevices:
		r.reply(v, protocol.EndDevices{})
	case protocol.CmdProbeReach:
		r.reply(v, protocol.ReachProbed{Status: protocol.StatusOK})
	case protocol.CmdForwardedTunnelRequest:
		if m, err := protocol.ParsePayload[protocol.ForwardedTunnelRequest](v.Payload); err == nil {
			m.Request, m.Node = slices.Clone(m.Request), slices.Clone(m.Node)
			r.reply(v, protocol.ForwardedTunnelOpened{Status: protocol.StatusOK})
			r.forward(m, v.Sender)
		}
	case protocol.CmdForwardedTunnelOpened:
		if m, err := protocol.ParsePayload[protocol.ForwardedTunnelOpened](v.Payload); err == nil && len(m.Cookie) == protocol.IDSize {
			r.returned.Add(1)
			to := protocol.ID(m.Cookie)
			r.send(to, protocol.ForwardedTunnelOpened{Status: m.Status, Answer: slices.Clone(m.Answer), Node: slices.Clone(m.Node)})
		}
	}
}

func (r *rogue) forward(m protocol.ForwardedTunnelRequest, by protocol.ID) {
	r.handed.Add(1)
	target := m.Target
	m.Cookie = by[:]
	switch r.mode.Load() {
	case rogueHonest:
		r.send(target, m)
	case rogueLate:
		r.later = append(r.later, delayed{time.Now().Add(700 * time.Millisecond), target, m})
	case rogueElsewhere:
		for _, o := range r.others {
			r.send(o, m)
			m.Target = o
			r.send(o, m)
			m.Target = target
		}
	case rogueSwaps:
		if r.held = append(r.held, heldRequest{m, by}); len(r.held) < 2 {
			return
		}
		a, b := r.held[0], r.held[1]
		r.held = nil
		a.m.Cookie, b.m.Cookie = b.by[:], a.by[:]
		r.send(a.m.Target, a.m)
		r.send(b.m.Target, b.m)
	case rogueReplays:
		r.earlier = append(r.earlier, m)
		r.send(target, m)
		for _, e := range r.earlier {
			r.send(e.Target, e)
		}
	case rogueForges:
		// It cannot read the request, and names the trap for whatever was asked.
		env, err := protocol.ParseEnvelope(m.Request)
		if err != nil {
			return
		}
		requester, err := r.trust.CheckNode(m.Node, time.Now())
		if err != nil {
			return
		}
		there := []protocol.Candidate{
			{Kind: protocol.CandidateSeen, Protocol: protocol.UDP, Addr: r.lie, Priority: 300},
			{Kind: protocol.CandidateHost, Protocol: protocol.TCP, Addr: r.lie, Priority: 300},
		}
		opened := protocol.TunnelOpened{Candidates: there, Request: protocol.Hash(sha256.Sum256(m.Request)), Punch: protocol.Punch{Wanted: true, Mapping: protocol.MappingRandom}}
		b, err := protocol.AppendPayload(nil, opened)
		if err != nil {
			return
		}
		to := protocol.Peer{ID: env.Sender, Signing: requester.Signing, Sealing: requester.Sealing}
		if raw, err := r.ep.SealSigned(time.Now(), r.id, to, opened.Command(), b); err == nil {
			r.send(by, protocol.ForwardedTunnelOpened{Answer: raw, Node: r.record})
		}
	}
}
