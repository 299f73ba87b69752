package relay

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"culvert/protocol"
	"culvert/tunnel/gate"
)

// guest is a connection that is here, and its node once the join was verified.
type guest struct {
	conn   Conn
	sender protocol.ID
	peer   protocol.ID
	party  party // empty until the join was verified; guarded by Relay.mu until there is a pair

	alone *time.Timer // while it waits for the other end; guarded by Relay.mu
}

// Relay is a super-node's side of relayed tunnels.
type Relay struct {
	cfg     Config
	acc     *accounts
	door    *gate.Gate
	bytes   atomic.Int64
	kernel  atomic.Int64 // of them, moved by splice
	bufs    sync.Pool    // of *[copySize]byte
	splices atomic.Int64
	counts  [reasons]atomic.Uint64
	wg      sync.WaitGroup // of guests, and of their goroutines

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
	cfg = cfg.withDefaults()
	return &Relay{
		cfg: cfg, acc: newAccounts(cfg.Rate, cfg.Node, cfg.Domain), door: gate.New(cfg.Strangers, cfg.PerSource), guests: make(map[*guest]struct{}),
		// Spent tokens are kept past the ±120 s in which a recorded join could be fresh.
		table: newTable(cfg.Waiting, 5*time.Minute),
	}, nil
}

// Serve takes conn over and closes it in the end. It returns when conn has said its join: refused, or waiting for its other
// end, or joined; from then on no goroutine of the caller's is needed. A refusal that comes later is counted like the others.
func (r *Relay) Serve(conn Conn) error {
	g := &guest{conn: conn}
	// Counted before the other end can know.
	if why := r.track(g); why != reasonNone {
		err := r.refuse(why)
		_ = conn.Close()
		return err
	}
	if why := r.serve(g); why != reasonNone {
		err := r.refuse(why)
		r.dismiss(g)
		return err
	}
	return nil
}

func (r *Relay) track(g *guest) reason {
	if !r.cfg.Descriptors.Tunnel(g.conn) {
		return reasonDescriptors
	}
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

// dismiss ends a guest's stay, once.
func (r *Relay) dismiss(g *guest) {
	_ = g.conn.Close()
	r.mu.Lock()
	_, here := r.guests[g]
	delete(r.guests, g)
	party := g.party
	r.mu.Unlock()
	if !here {
		return
	}
	party.leave()
	r.wg.Done()
}

func (r *Relay) refuse(why reason) error {
	r.counts[why].Add(1)
	return errors.Join(ErrRefused, errors.New(reasonNames[why]))
}

// serve reads the join, and pairs the connection or has it wait.
func (r *Relay) serve(g *guest) reason {
	leave, ok := r.door.Enter(g.conn.RemoteAddr())
	if !ok {
		return reasonCrowded
	}
	defer leave()
	_ = g.conn.SetReadDeadline(time.Now().Add(r.cfg.Hello))
	raw, err := readJoin(g.conn)
	if err != nil {
		return reasonRead
	}
	v, join, err := r.cfg.Verify(raw)
	if err != nil || v == nil {
		return reasonVerify
	}
	leave()
	_ = g.conn.SetReadDeadline(time.Time{})
	now := r.cfg.Now()
	who, ok := r.acc.enter(v.Sender, now)
	if !ok {
		return reasonAllowance
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	g.party, g.sender, g.peer = who, v.Sender, join.Peer
	if r.closed {
		return reasonClosed
	}
	other, why := r.table.join(now, join.Token, g)
	switch {
	case why != reasonNone:
		return why
	case other == nil:
		token := join.Token
		g.alone = time.AfterFunc(r.cfg.Wait, func() { r.leftAlone(token, g) })
		return reasonNone
	}
	other.alone.Stop() // or it finds that other waits no more
	other.alone = nil
	newPair(r, other, g)
	return reasonNone
}

// leftAlone ends a wait for which nobody has come.
func (r *Relay) leftAlone(token protocol.Hash, g *guest) {
	r.mu.Lock()
	withdrawn := r.table.withdraw(token, g)
	r.mu.Unlock()
	if withdrawn {
		r.counts[reasonAlone].Add(1)
		r.dismiss(g)
	}
}

// Drop ends what the nodes for which gone reports true have here: revoked ones, banned domains.
func (r *Relay) Drop(gone func(protocol.ID) bool) int {
	var out []Conn
	r.mu.Lock()
	for g := range r.guests {
		if g.party.all != nil && gone(g.sender) {
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
	s := make(map[string]uint64, reasons+4)
	for i := range r.counts {
		s[reasonNames[i]] = r.counts[i].Load()
	}
	s["bytes"], s["bytes spliced"] = uint64(r.bytes.Load()), uint64(r.kernel.Load())
	r.mu.Lock()
	s["connections now"], s["waiting now"] = uint64(len(r.guests)), uint64(len(r.table.waiting))
	r.mu.Unlock()
	return s
}

// Close ends everything and waits for it.
func (r *Relay) Close() error {
	var alone, here []*guest
	r.mu.Lock()
	r.closed = true
	for g := range r.guests {
		here = append(here, g)
	}
	for token, g := range r.table.waiting {
		delete(r.table.waiting, token)
		g.alone.Stop()
		alone = append(alone, g)
	}
	r.mu.Unlock()
	for _, g := range alone {
		r.dismiss(g)
	}
	for _, g := range here {
		_ = g.conn.Close()
	}
	r.wg.Wait()
	return nil
}
