package dht

import (
	"context"
	"time"

	"culvert/partition"
	"culvert/protocol"
)

// outcome is how a question for the map ended.
type outcome struct {
	number uint64 // of the question
	at     time.Time
	err    error
}

// gate lets one in at a time, and lets whoever waits give up: behind a question that nobody answers there may wait thousands.
type gate chan struct{}

func newGate() gate { return make(gate, 1) }

func (g gate) enter(ctx context.Context) error {
	select {
	case g <- struct{}{}:
		return ctx.Err()
	default:
	}
	select {
	case g <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g gate) leave() { <-g }

// RefreshMap asks for a newer map, and for the operator chain where the map cannot be proved with the one held. Callers who
// wait at the same time share one answer, but nobody is given that of a question older than his own: he may ask because he
// has just heard of a newer map.
func (c *Client) RefreshMap(ctx context.Context) (*partition.Map, error) {
	ctx, leave, err := c.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	before := c.asked.Load()
	if err := c.refresh.enter(ctx); err != nil {
		return nil, err
	}
	defer c.refresh.leave()
	if c.last.number > before {
		return c.Map(), c.last.err
	}
	return c.refreshInside(ctx, readQuorum)
}

const (
	refreshShared = time.Second
	// widely is how many are asked for the map when nobody answers by the one held: two may lag as well.
	widely = 4
)

// refreshTogether is for lookups and stores that nobody answers: those that fail together share what was learned a moment ago,
// also that there was nobody to learn from. Else each would ask again, and a machine with much to ask would do nothing else.
func (c *Client) refreshTogether(ctx context.Context) error {
	if err := c.refresh.enter(ctx); err != nil {
		return err
	}
	defer c.refresh.leave()
	if now := c.cfg.Now(); now.Sub(c.last.at) < refreshShared && now.Sub(c.last.at) >= 0 && c.Map() != nil {
		return c.last.err
	}
	_, err := c.refreshInside(ctx, widely)
	return err
}

// refreshInside is for whoever is inside the gate.
func (c *Client) refreshInside(ctx context.Context, quorum int) (*partition.Map, error) {
	number, began := c.asked.Add(1), c.cfg.Now()
	err := c.refreshOnce(ctx, quorum)
	if err != nil {
		cfg := c.lookupConfig(Target{Kind: FindOperators})
		cfg.NoRefresh = true
		if _, oerr := c.run(ctx, cfg); oerr == nil {
			err = c.refreshOnce(ctx, quorum)
		}
	}
	// That one caller soon gave up says nothing to the others.
	if now := c.cfg.Now(); err == nil || ctx.Err() == nil || now.Sub(began) >= c.cfg.Timeout {
		c.last = outcome{number: number, at: now, err: err}
	}
	if err != nil {
		return nil, err
	}
	return c.Map(), nil
}

func (c *Client) refreshOnce(ctx context.Context, quorum int) error {
	cfg := c.mapConfig()
	cfg.Quorum = quorum
	return c.takeMap(ctx, cfg)
}

// maxFlights is how many members are asked for a map that they have named at the same time.
const maxFlights = 8

// refreshFrom has one member show the map that it has named. The question outlives whoever asks it: a lookup that others answer
// meanwhile is over sooner than the map is here, and the next would be sent by the old map again. It does not wait for a
// question to everybody, which takes its time when many are silent.
func (c *Client) refreshFrom(ctx context.Context, p protocol.Peer, epoch uint64) {
	if done := c.fly(p, epoch); done != nil {
		select {
		case <-done:
		case <-ctx.Done():
		}
	}
}

// fly starts the question, or joins one; nil where there is none to wait for.
func (c *Client) fly(p protocol.Peer, epoch uint64) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || epochOf(c.pmap) >= epoch {
		return nil
	}
	if done, ok := c.flights[p.ID]; ok || len(c.flights) >= maxFlights {
		return done
	}
	done := make(chan struct{})
	c.flights[p.ID] = done
	c.running.Go(func() {
		ctx, cancel := context.WithTimeout(c.ctx, lateFactor*c.cfg.Timeout)
		defer cancel()
		cfg := c.mapConfig()
		cfg.Members, cfg.Operators = []partition.Member{{Peer: p, Domain: p.ID.Domain(), Range: partition.Whole()}}, nil
		_ = c.takeMap(ctx, cfg) // whoever waits looks at the map
		c.mu.Lock()
		delete(c.flights, p.ID)
		c.mu.Unlock()
		close(done)
	})
	return done
}

func (c *Client) mapConfig() LookupConfig {
	m := c.Map()
	cfg := c.lookupConfig(Target{Kind: FindMap, Since: epochOf(m)})
	cfg.NoRefresh, cfg.Map = true, m
	return cfg
}

// takeMap asks for what has changed, and for the whole map where nobody can tell all that has: who joined a moment ago
// knows nothing of those who left before.
func (c *Client) takeMap(ctx context.Context, cfg LookupConfig) error {
	err := c.askMap(ctx, cfg)
	if err != nil && cfg.Map != nil && ctx.Err() == nil {
		cfg.Map, cfg.Target.Since, cfg.Rand = nil, 0, c.seed()
		err = c.askMap(ctx, cfg)
	}
	return err
}

func (c *Client) askMap(ctx context.Context, cfg LookupConfig) error {
	l, err := c.run(ctx, cfg)
	if err != nil {
		return err
	}
	if m := l.Map(); m != nil {
		c.SetMap(m)
	}
	_, err = l.Result()
	return err
}

func epochOf(m *partition.Map) uint64 {
	if m == nil {
		return 0
	}
	return m.Epoch()
}
