package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"culvert/protocol"
	"culvert/tunnel/link"
	"culvert/tunnel/quicconn"
)

var (
	errNoPunch      = errors.New("no meeting by UDP: this node's UDP does not reach out, or it takes no part in punching")
	errNoPunchThere = errors.New("no meeting by UDP: the tunnel-node takes no part")
)

// punchFor bounds the making of a link through NATs: request, meeting and handshakes.
const punchFor = 12 * time.Second

// offerFor bounds what an answer waits for; the requester asks again by another way after less than a second.
const offerFor = 600 * time.Millisecond

const (
	// peerMeetings are the meetings that one requester, domainMeetings those that one domain may have at a time: each sends some
	// thousand packets to where the requester says that he is. A user needs one, and another while an earlier one ends.
	peerMeetings   = 3
	domainMeetings = 32
)

// meetingKey names a meeting by UDP at the tunnel side. A request that is sent again, by way of another super-node, bears the
// same token, and has no second meeting.
type meetingKey struct {
	peer  protocol.ID
	token protocol.Hash
}

// byPunch makes a link over UDP through the NATs on both sides.
func (m *Manager) byPunch(ctx context.Context, w want, t Target, key linkKey) (*link.Link, error) {
	if m.cfg.Puncher == nil {
		return nil, errNoPunch
	}
	if m.rests.resting(time.Now(), t.Node.ID) {
		return nil, errPunchRests
	}
	ctx, cancel := context.WithTimeout(ctx, punchFor)
	defer cancel()
	mine, nat, err := m.cfg.Puncher.Offer(ctx, key.local)
	if err != nil {
		return nil, fmt.Errorf("offer addresses for UDP: %w", err)
	}
	if !nat.Wanted || len(mine) == 0 {
		return nil, errNoPunch
	}
	token, err := m.token()
	if err != nil {
		return nil, err
	}
	mine = mine[:min(len(mine), mostPunched)]
	answer, hash, err := m.request(ctx, w, t, protocol.TunnelRequest{Token: token, Candidates: mine, Punch: nat})
	if err != nil {
		return nil, err
	}
	if !answer.Punch.Wanted {
		return nil, errNoPunchThere
	}
	near := shares(m.cfg.Locator.Locations(key.local.Domain()), t.Info.Locations)
	path, err := m.cfg.Puncher.Meet(ctx, Meeting{
		Token: token, Requester: true, Local: key.local, Peer: t.Node.ID, MyNAT: nat,
		Theirs: m.sendable(answer.Candidates, near), TheirNAT: answer.Punch, Near: near,
	})
	m.rests.note(time.Now(), t.Node.ID, err)
	if err != nil {
		return nil, fmt.Errorf("meet by UDP: %w", err)
	}
	conn, err := path.Dial(ctx, link.ClientTLS(&w.me.cert, t.Node))
	if err != nil {
		_ = path.Close()
		return nil, err
	}
	lc, err := overQUIC(conn)
	if err != nil {
		_ = path.Close()
		return nil, err
	}
	cfg := m.linkConfig(w.me)
	cfg.Role, cfg.Request = link.RoleUser, hash
	cfg.DialBulk = func(ctx context.Context, _ func(protocol.Hash) error) (net.Conn, error) { return conn.Open(ctx) }
	m.closePath(path, conn)
	l, err := m.greetOver(ctx, w.me, lc, t.Node, cfg)
	if err != nil {
		return nil, err
	}
	return l, m.register(l, key)
}

// overQUIC takes a QUIC connection whose handshake is done as what a link is built on; on error it is closed.
func overQUIC(conn *quicconn.Conn) (link.Conn, error) {
	lc, err := link.FromState(conn, conn.State())
	if err != nil {
		_ = conn.Close()
	}
	return lc, err
}

// closePath gives a path up when the connection over it has ended.
func (m *Manager) closePath(path UDPPath, conn *quicconn.Conn) {
	if !m.spawn(func() { <-conn.Done(); _ = path.Close() }) {
		_ = conn.Close()
		<-conn.Done()
		_ = path.Close()
	}
}

// mostPunched is how many UDP candidates go into a request or an answer.
const mostPunched = 4

// sendable are the addresses of a peer to which this node may send: public ones, and private ones of a shared location or of
// this machine's own links. Never one that all of a link hear.
func (m *Manager) sendable(c []protocol.Candidate, near bool) []protocol.Candidate {
	own := m.cfg.Locator.Own()
	everybody := func(a netip.Addr) bool {
		return slices.ContainsFunc(own, func(p netip.Prefix) bool { return edge(a, p.Masked()) })
	}
	return slices.DeleteFunc(slices.Clone(c[:min(len(c), mostPunched)]), func(c protocol.Candidate) bool {
		a := c.Addr.AddrPort
		return c.Protocol != protocol.UDP || !a.IsValid() || a.Port() == 0 || everybody(a.Addr()) ||
			!m.cfg.Public(a.Addr()) && !(dialable(a.Addr()) && (near || m.cfg.Locator.OnLink(a.Addr())))
	})
}

// offerPunch fills in this node's part of the answer to a request for a meeting, and starts the meeting.
func (m *Manager) offerPunch(ctx context.Context, me *member, peer protocol.ID, req protocol.TunnelRequest, answer *protocol.TunnelOpened) {
	if !req.Punch.Wanted || m.cfg.Puncher == nil || req.Token.IsZero() || !allowed(m.cfg.Routes, Punched) {
		return
	}
	meeting := meetingKey{peer, req.Token}
	met, room := m.takeMeeting(meeting)
	if !room {
		m.counts.introductionsFailed.Add(1)
		return
	}
	over := func() {
		m.mu.Lock()
		delete(m.meetings, meeting)
		m.mu.Unlock()
	}
	ctx, cancel := context.WithTimeout(ctx, offerFor)
	defer cancel()
	mine, nat, err := m.cfg.Puncher.Offer(ctx, me.Node.ID)
	if err != nil || !nat.Wanted || len(mine) == 0 {
		if !met {
			over()
		}
		return
	}
	mine = mine[:min(len(mine), mostPunched)]
	answer.Candidates, answer.Punch = mine, nat
	if met {
		return
	}
	x := Meeting{
		Token: req.Token, Local: me.Node.ID, Peer: peer, MyNAT: nat,
		Theirs: m.sendable(req.Candidates, false), TheirNAT: req.Punch,
	}
	started := m.introduce(peer, func(ctx context.Context) error {
		defer over()
		return m.meetByUDP(ctx, x)
	})
	if !started {
		over()
	}
}

// takeMeeting takes a place for a meeting; met: it has one already.
func (m *Manager) takeMeeting(k meetingKey) (met, room bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, met := m.meetings[k]; met {
		return true, true
	}
	ofPeer, ofDomain := 0, 0
	for o := range m.meetings {
		if o.peer == k.peer {
			ofPeer++
		}
		if o.peer.Domain() == k.peer.Domain() {
			ofDomain++
		}
	}
	if ofPeer >= peerMeetings || ofDomain >= domainMeetings {
		return false, false
	}
	m.meetings[k] = struct{}{}
	return false, true
}

// meetByUDP meets the requester and takes its link.
func (m *Manager) meetByUDP(ctx context.Context, x Meeting) error {
	path, err := m.cfg.Puncher.Meet(ctx, x)
	if err != nil {
		return err
	}
	conn, err := path.Accept(ctx, m.ServerTLS())
	if err != nil {
		_ = path.Close()
		return err
	}
	m.closePath(path, conn)
	return m.acceptQUIC(ctx, conn)
}

// acceptQUIC takes over a connection that used ServerTLS. It returns after the HELLOs; on error the connection is closed.
func (m *Manager) acceptQUIC(ctx context.Context, conn *quicconn.Conn) error {
	err := m.takeQUIC(ctx, conn)
	if err != nil {
		m.counts.linksRefused.Add(1)
		return err
	}
	m.counts.linksIn.Add(1)
	return nil
}

func (m *Manager) takeQUIC(ctx context.Context, conn *quicconn.Conn) error {
	lc, err := overQUIC(conn)
	if err != nil {
		return err
	}
	l, err := m.welcome(ctx, lc, conn.State().ServerName, Punched, nil)
	if err != nil {
		return err
	}
	if !m.spawn(func() { m.takeStreams(conn, l) }) {
		l.Close(link.ReasonClosing)
	}
	return nil
}

// takeStreams gives the further streams of a link's connection to the flows that their prefaces name, until the link ends.
func (m *Manager) takeStreams(conn *quicconn.Conn, l *link.Link) {
	for {
		s, err := conn.Accept(m.ctx)
		if err != nil {
			return
		}
		started := m.spawn(func() {
			flow, proof, err := link.ReadPreface(s, time.Now().Add(m.cfg.strangerFor))
			if err != nil {
				_ = s.Close()
			} else if err = l.AcceptBulk(s, flow, proof); err == nil {
				m.counts.bulkIn.Add(1)
				return
			}
			m.counts.bulkRefused.Add(1)
		})
		if !started {
			_ = s.Close()
			return
		}
	}
}
