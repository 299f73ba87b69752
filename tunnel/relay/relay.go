package relay

import (
	"cmp"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"culvert/protocol"
	"culvert/tunnel/gate"
)

// Conn is a connection as the relay needs it: a *net.TCPConn, or one of which the first bytes were read and are read again
// (carrier.Peeked), or a stream that stands for one. TCP is the bare connection behind it, nil where there is none; it is spliced.
type Conn interface {
	net.Conn
	CloseWrite() error
	SetLinger(sec int) error
}

// Config of a relay. Zero numbers take the defaults.
type Config struct {
	// Verify proves a signed RelayJoin that is addressed to this node: signature, freshness, replay, certificate, revocation.
	Verify func(raw []byte) (*protocol.Verified, protocol.RelayJoin, error)
	Now    func() time.Time // time.Now
	// TCP gives the bare TCP connection inside a Conn, from which nothing was read ahead any more; nil: the Conn itself where
	// it is one.
	TCP func(Conn) *net.TCPConn

	Wait        time.Duration // for the other end, 10 s
	Idle        time.Duration // without a byte either way, 10 min
	Connections int           // in all, 16,384
	Waiting     int           // ends that wait, 4,096
	Strangers   int           // whose join is not verified yet, 1,024
	PerSource   int           // of those from one address, 128
	Hello       time.Duration // to say the join, 5 s
	Rate        int64         // bytes a second in all, the upload cap; 0 for none
	Node        Allowance     // of each node: 2,048 connections
	Domain      Allowance     // of each domain: 8,192 connections
}

type reason byte

const (
	reasonNone reason = iota
	reasonRead
	reasonVerify
	reasonMismatch
	reasonSpent
	reasonFull
	reasonAllowance
	reasonAlone
	reasonClosed
	reasonIdle
	reasonReset
	reasonBytes
	reasonCrowded
	reasons
)

var reasonNames = [reasons]string{
	"joined", "unreadable join", "join not verified", "the two ends do not fit", "token spent", "relay full",
	"allowance of node or domain used up", "the other end did not come", "closed", "idle", "reset", "bytes used up", "too many strangers",
}

// ErrRefused is what Serve returns for a connection that was not joined.
var ErrRefused = errors.New("relay: refused")

// guest is a connection that is here.
type guest struct {
	conn  Conn
	party *party // nil until its join was verified; guarded by Relay.mu
}

// Relay is a super-node's side of relayed tunnels.
type Relay struct {
	cfg    Config
	acc    *accounts
	door   *gate.Gate
	bytes  atomic.Int64
	bufs   sync.Pool // of *[copySize]byte
	counts [reasons]atomic.Uint64
	wg     sync.WaitGroup

	mu     sync.Mutex
	closed bool
	table  *table
	guests map[*guest]struct{}
}

// New makes a relay; Close it.
func New(cfg Config) (*Relay, error) {
	if cfg.Verify == nil {
		return nil, errors.New("relay: no way to verify joins")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Wait = cmp.Or(cfg.Wait, 10*time.Second)
	cfg.Idle = cmp.Or(cfg.Idle, 10*time.Minute)
	cfg.Connections = cmp.Or(cfg.Connections, 16384)
	cfg.Waiting = cmp.Or(cfg.Waiting, 4096)
	cfg.Strangers = cmp.Or(cfg.Strangers, 1024)
	cfg.PerSource = cmp.Or(cfg.PerSource, 128)
	cfg.Hello = cmp.Or(cfg.Hello, 5*time.Second)
	cfg.Node.Connections = cmp.Or(cfg.Node.Connections, 2048)
	cfg.Domain.Connections = cmp.Or(cfg.Domain.Connections, 8192)
	return &Relay{
		cfg: cfg, acc: newAccounts(cfg.Rate, cfg.Node, cfg.Domain), door: gate.New(cfg.Strangers, cfg.PerSource), guests: make(map[*guest]struct{}),
		// Spent tokens are kept past the ±120 s in which a recorded join could be fresh.
		table: newTable(cfg.Waiting, 5*time.Minute),
	}, nil
}

// Serve owns conn until it returns, and closes it. It is called in a goroutine of the caller, one for each connection.
func (r *Relay) Serve(conn Conn) error {
	defer conn.Close()
	g := &guest{conn: conn}
	if why := r.track(g); why != reasonNone {
		return r.refuse(why)
	}
	defer r.untrack(g)
	if why := r.serve(g); why != reasonNone {
		return r.refuse(why)
	}
	return nil
}

func (r *Relay) track(g *guest) reason {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return reasonClosed
	}
	if len(r.guests) >= r.cfg.Connections {
		return reasonFull
	}
	r.guests[g] = struct{}{}
	r.wg.Add(1)
	return reasonNone
}

func (r *Relay) untrack(g *guest) {
	r.mu.Lock()
	delete(r.guests, g)
	r.mu.Unlock()
	r.wg.Done()
}

func (r *Relay) refuse(why reason) error {
	r.counts[why].Add(1)
	return errors.Join(ErrRefused, errors.New(reasonNames[why]))
}

// serve pairs the connection and carries its own direction.
func (r *Relay) serve(g *guest) reason {
	conn := g.conn
	leave, ok := r.door.Enter(conn.RemoteAddr())
	if !ok {
		return reasonCrowded
	}
	defer leave()
	_ = conn.SetReadDeadline(time.Now().Add(r.cfg.Hello))
	raw, err := readJoin(conn)
	if err != nil {
		return reasonRead
	}
	v, join, err := r.cfg.Verify(raw)
	if err != nil || v == nil {
		return reasonVerify
	}
	leave()
	_ = conn.SetReadDeadline(time.Time{})
	now := r.cfg.Now()
	who, ok := r.acc.enter(v.Sender, now)
	if !ok {
		return reasonAllowance
	}
	defer who.leave()
	w := &waiter{conn: conn, party: who, sender: v.Sender, peer: join.Peer, met: make(chan *pair, 1)}
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return reasonClosed
	}
	g.party = who
	other, why := r.table.join(now, join.Token, w)
	r.mu.Unlock()
	if why != reasonNone {
		return why
	}
	if other != nil {
		p := newPair(r, other, w)
		p.greet()
		other.met <- p
		return p.carry(1)
	}
	timer := time.NewTimer(r.cfg.Wait)
	defer timer.Stop()
	select {
	case p := <-w.met:
		return p.carry(0)
	case <-timer.C:
	}
	r.mu.Lock()
	withdrawn := r.table.withdraw(join.Token, w)
	r.mu.Unlock()
	if withdrawn {
		return reasonAlone
	}
	return (<-w.met).carry(0)
}

// Drop ends what the nodes for which gone reports true have here: revoked ones, banned domains.
func (r *Relay) Drop(gone func(protocol.ID) bool) int {
	var out []Conn
	r.mu.Lock()
	for g := range r.guests {
		if g.party != nil && gone(g.party.id) {
			out = append(out, g.conn)
		}
	}
	r.mu.Unlock()
	for _, c := range out {
		_ = c.Close()
	}
	return len(out)
}

// Stats counts joined connections, refusals by reason, bytes, and what is there now.
func (r *Relay) Stats() map[string]uint64 {
	s := make(map[string]uint64, reasons+3)
	for i := range r.counts {
		s[reasonNames[i]] = r.counts[i].Load()
	}
	s["bytes"] = uint64(r.bytes.Load())
	r.mu.Lock()
	s["connections now"], s["waiting now"] = uint64(len(r.guests)), uint64(len(r.table.waiting))
	r.mu.Unlock()
	return s
}

// Close ends everything and waits for it.
func (r *Relay) Close() error {
	r.mu.Lock()
	r.closed = true
	here := make([]Conn, 0, len(r.guests))
	for g := range r.guests {
		here = append(here, g.conn)
	}
	for token, w := range r.table.waiting {
		delete(r.table.waiting, token)
		close(w.met)
	}
	r.mu.Unlock()
	for _, c := range here {
		_ = c.Close()
	}
	r.wg.Wait()
	return nil
}
