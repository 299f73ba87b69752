package dht

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"culvert/partition"
	"culvert/protocol"
	"culvert/protocol/key"
)

// ClientConfig of one membership.
type ClientConfig struct {
	Caller  protocol.Caller
	Self    protocol.ID // whose membership it is
	Trust   *protocol.Trust
	RootKey key.Public
	// Store keeps what this node stores itself before anybody else has it; nil for none.
	Store Store
	// IsSelf names members of the map that are this very daemon, which are not asked; nil is Self alone.
	IsSelf  func(protocol.ID) bool
	Revoked func(protocol.ID) bool // nil for nobody
	OnMap   func(*partition.Map)   // hears of every newer map
	Scores  *Scores                // may be shared between memberships
	Timeout time.Duration          // of a wave
	Fresh   time.Duration          // see LookupConfig
	Seed    [2]uint64              // of the order in which members are asked
	Now     func() time.Time       // the node's clock, corrected; nil is time.Now
}

// Client reads and stores records over a Caller, with the step machines. Safe for concurrent use.
type Client struct {
	cfg   ClientConfig
	certs *certificates
	marks *marks

	handOns *handOns

	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	mu      sync.Mutex
	rand    *rand.Rand
	pmap    *partition.Map
	closed  bool
	running sync.WaitGroup
	flights map[protocol.ID]chan struct{} // questions for a map that one member has named, by who is asked; closed at the end

	asked   atomic.Uint64 // questions for the map so far
	refresh gate          // one question to everybody for the map at a time
	last    outcome       // of the last one that was heard out; behind refresh
}

// NewClient knows no map until SetMap or RefreshMap.
func NewClient(cfg ClientConfig) *Client {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Scores == nil {
		cfg.Scores = NewScores()
	}
	if cfg.Revoked == nil {
		cfg.Revoked = func(protocol.ID) bool { return false }
	}
	if cfg.IsSelf == nil {
		self := cfg.Self
		cfg.IsSelf = func(id protocol.ID) bool { return id == self }
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = DefaultTimeout
	}
	c := &Client{cfg: cfg, certs: newCertificates(), marks: newMarks(), handOns: newHandOns(), refresh: newGate(), flights: make(map[protocol.ID]chan struct{}), rand: rand.New(rand.NewPCG(cfg.Seed[0], cfg.Seed[1]))}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// Close ends every call in progress and waits for it.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.running.Wait()
	return nil
}

// enter counts a call in; the context ends with the caller's or with Close.
func (c *Client) enter(ctx context.Context) (context.Context, func(), error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, nil, ErrClosed
	}
	c.running.Add(1)
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(c.ctx, cancel)
	return ctx, func() { stop(); cancel(); c.running.Done() }, nil
}

// Map is the newest map known, nil before the first.
func (c *Client) Map() *partition.Map {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pmap
}

// SetMap takes in a verified map if it is newer than the one held.
func (c *Client) SetMap(m *partition.Map) {
	c.mu.Lock()
	newer := m != nil && (c.pmap == nil || m.Epoch() > c.pmap.Epoch())
	if newer {
		c.pmap = m
	}
	c.mu.Unlock()
	if newer && c.cfg.OnMap != nil {
		c.cfg.OnMap(m)
	}
}

// seed makes a source of its own for one machine.
func (c *Client) seed() *rand.Rand {
	c.mu.Lock()
	defer c.mu.Unlock()
	return rand.New(rand.NewPCG(c.rand.Uint64(), c.rand.Uint64()))
}

// servingBy are the members to ask about key: all of the map where that is the zero ID.
func (c *Client) servingBy(m *partition.Map, k protocol.ID) []partition.Member {
	if m == nil {
		return nil
	}
	if k.IsZero() {
		return c.others(m.Members())
	}
	return c.others(m.Serving(k))
}

func (c *Client) others(l []partition.Member) []partition.Member {
	var out []partition.Member
	for _, m := range l {
		if !m.Isolated && !c.cfg.IsSelf(m.Peer.ID) && !c.cfg.Revoked(m.Peer.ID) {
			out = append(out, m)
		}
	}
	return out
}

// operators are the chain's, as the last to ask.
func (c *Client) operators() []partition.Member {
	var out []partition.Member
	for _, o := range c.cfg.Trust.Operators() {
		i := slices.IndexFunc(o.Addresses, func(a protocol.Addr) bool { return a.IsValid() && !protocol.StreamsOnly(a.AddrPort) })
		if i < 0 || !o.Retired.IsZero() || c.cfg.IsSelf(o.ID) {
			continue
		}
		out = append(out, partition.Member{
			Peer: protocol.Peer{ID: o.ID, Signing: o.Signing, Sealing: o.Sealing, Addr: o.Addresses[i].AddrPort}, Range: partition.Whole(),
		})
	}
	return out
}

// check proves a record that came over the wire.
func (c *Client) check(now time.Time, r *protocol.Record) error {
	if !r.Tombstone && !r.Table.Everywhere() && c.cfg.Revoked(r.Owner) {
		return ErrIgnored
	}
	switch r.Table {
	case protocol.TableNodeInfo:
		cert, ok := c.certs.known(r.Owner, now)
		if !ok {
			return fmt.Errorf("%w: no certificate of %s", protocol.ErrUntrusted, r.Owner.Short())
		}
		return protocol.CheckOwned(r, cert, now)
	case protocol.TableNode:
		if r.Tombstone {
			return c.cfg.Trust.CheckStatic(r, now)
		}
		_, err := c.certs.check(c.cfg.Trust, r.Raw(), r.Owner, now)
		return err
	case protocol.TableOperatorNode:
		return c.cfg.Trust.AddOperator(r.Raw(), c.cfg.RootKey, now)
	}
	return c.cfg.Trust.CheckStatic(r, now)
}

func (c *Client) seen(t protocol.Table, owner protocol.ID) (Version, bool) {
	v, ok := c.marks.get(t, owner)
	if c.cfg.Store != nil {
		if w, held, err := c.cfg.Store.Version(t, owner); err == nil && held && (!ok || v.Less(w)) {
			return w, true
		}
	}
	return v, ok
}

// Lookup finds what target asks for, in order of owner. ErrNotFound is what every member of the range says; ErrUnreachable
// means that nothing is known.
func (c *Client) Lookup(ctx context.Context, target Target) ([]*protocol.Record, error) {
	ctx, leave, err := c.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	l, err := c.lookup(ctx, target)
	if err != nil {
		return nil, err
	}
	c.handOn(l)
	for _, r := range l.Newest() {
		c.marks.raise(r)
	}
	return l.Result()
}

func (c *Client) lookup(ctx context.Context, target Target) (*Lookup, error) {
	return c.run(ctx, c.lookupConfig(target))
}

func (c *Client) lookupConfig(target Target) LookupConfig {
	m := c.Map()
	return LookupConfig{
		Target: target, Members: c.servingBy(m, target.place()), Epoch: epochOf(m), Operators: c.operators(),
		Own: c.cfg.Self.Domain(), Timeout: c.cfg.Timeout, Fresh: c.cfg.Fresh, Rand: c.seed(), Scores: c.cfg.Scores,
		Check: c.check, Seen: c.seen,
	}
}

func (c *Client) run(ctx context.Context, cfg LookupConfig) (*Lookup, error) {
	if len(cfg.Members) == 0 && len(cfg.Operators) == 0 {
		return nil, ErrNoMap
	}
	l, t := NewLookup(cfg), cfg.Target
	return l, c.drive(ctx, l, t.place(), func(ctx context.Context, p protocol.Peer, v *protocol.Verified) bool {
		c.meet(ctx, t, p, v)
		return c.certify(ctx, t, p, v)
	})
}

// Store puts a signed record at every key it has, and at those that it leaves, after the local database. It returns once W
// members have it durably.
func (c *Client) Store(ctx context.Context, raw []byte, left ...protocol.ID) error {
	ctx, leave, err := c.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	r, err := protocol.ParseRecord(raw)
	if err != nil {
		return err
	}
	if c.cfg.Store != nil {
		if _, err := c.cfg.Store.Put(ctx, []*protocol.Record{r}); err != nil && !errors.Is(err, ErrReadOnly) {
			return fmt.Errorf("dht: store in the local database: %w", err)
		}
	}
	m := c.Map()
	cfg := StoreConfig{
		Record: raw, Epoch: epochOf(m), Operators: c.operators(), Own: c.cfg.Self.Domain(), Timeout: c.cfg.Timeout, Rand: c.seed(), Scores: c.cfg.Scores,
	}
	k := r.Owner
	if r.Table.Everywhere() {
		k = protocol.ID{}
		cfg.Placed = []Placed{{Key: r.Owner, Members: c.servingBy(m, k)}}
	} else {
		for _, k := range append(r.Keys(), left...) {
			cfg.Placed = append(cfg.Placed, Placed{Key: k, Members: c.servingBy(m, k)})
		}
	}
	if len(cfg.Placed[0].Members) == 0 && len(cfg.Operators) == 0 {
		return ErrNoMap
	}
	s := NewStoreOp(cfg)
	if err := c.drive(ctx, s, k, nil); err != nil {
		return err
	}
	return s.Err()
}
