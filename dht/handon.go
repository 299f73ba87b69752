package dht

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

	"culvert/protocol"

	"golang.org/x/time/rate"
)

const (
	// handOnMost bounds what one lookup hands on, handOnRate and handOnBurst what a client does in a second and at once.
	handOnMost  = 4
	handOnRate  = 2
	handOnBurst = 8
	// handOnKept is how many are remembered, so that one who will not take a record is not sent it again and again.
	handOnKept = 1024
)

// HandOn is a record for a member that has answered with an older one, or without it.
type HandOn struct {
	Peer   protocol.Peer
	Key    protocol.ID
	Record *protocol.Record
	None   bool // it had nothing of the owner, perhaps not even the certificate
}

// HandOns are what a lookup that has ended found missing at the members that it asked, at most a few: read repair.
func (l *Lookup) HandOns() []HandOn {
	if !l.done || l.cfg.Target.everywhere() {
		return nil
	}
	best := l.best()
	owners := make([]protocol.ID, 0, len(best))
	for id := range best {
		owners = append(owners, id)
	}
	slices.SortFunc(owners, protocol.ID.Compare)
	var out []HandOn
	for tag := range l.w.asks {
		g := l.got[tag]
		if g == nil || !g.complete && !(g.older && l.cfg.Target.single()) {
			continue
		}
		for _, id := range owners {
			h, lacks := l.lacks(g, best[id])
			if !lacks {
				continue
			}
			if h.Peer = l.w.asks[tag].member.Peer; len(out) == handOnMost {
				return out
			}
			out = append(out, h)
		}
	}
	return out
}

// lacks reports whether an answer was without r, or with an older one. Where it ends after so many, what is missing may have
// come later.
func (l *Lookup) lacks(g *answer, r *protocol.Record) (HandOn, bool) {
	h := HandOn{Key: l.cfg.Target.Key, Record: r, None: !g.older}
	if h.Key.Hash().IsZero() {
		h.Key = r.Owner
	}
	for _, o := range g.records {
		if o.Owner == r.Owner {
			h.None = false
			return h, r.Supersedes(o)
		}
	}
	return h, l.cfg.Target.Most == 0
}

// handOns hands records on, in the background and slowly.
type handOns struct {
	mu    sync.Mutex
	limit *rate.Limiter
	sent  map[handedOn]bool
	count uint64
}

type handedOn struct {
	peer    protocol.ID
	table   protocol.Table
	owner   protocol.ID
	version Version
}

func newHandOns() *handOns {
	return &handOns{limit: rate.NewLimiter(handOnRate, handOnBurst), sent: make(map[handedOn]bool)}
}

func (h *handOns) allow(now time.Time, o HandOn) bool {
	k := handedOn{o.Peer.ID, o.Record.Table, o.Record.Owner, VersionOf(o.Record)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sent[k] || !h.limit.AllowN(now, 1) {
		return false
	}
	if len(h.sent) >= handOnKept {
		clear(h.sent)
	}
	h.sent[k] = true
	h.count++
	return true
}

// HandedOn is how many records were handed on to members that lacked them.
func (c *Client) HandedOn() uint64 {
	c.handOns.mu.Lock()
	defer c.handOns.mu.Unlock()
	return c.handOns.count
}

// handOn starts what there is to hand on; Close waits for it. Nobody waits for its success: repair does the same, later.
func (c *Client) handOn(l *Lookup) {
	now := c.cfg.Now()
	operator := func(id protocol.ID) bool { _, ok := c.cfg.Trust.Operator(id); return ok }
	for _, o := range l.HandOns() {
		// An operator that was asked last of all need not keep this range.
		if operator(o.Peer.ID) || !c.handOns.allow(now, o) {
			continue
		}
		c.mu.Lock()
		if c.closed {
			c.mu.Unlock()
			return
		}
		c.running.Add(1)
		c.mu.Unlock()
		go func() {
			defer c.running.Done()
			ctx, cancel := context.WithTimeout(c.ctx, lateFactor*c.cfg.Timeout)
			defer cancel()
			if n, ok := c.certs.known(o.Record.Owner, now); o.None && ok && o.Record.Table == protocol.TableNodeInfo {
				_, _ = c.cfg.Caller.Call(ctx, o.Peer, protocol.Put{Key: o.Record.Owner, Record: bytes.Clone(n.Record)})
			}
			_, _ = c.cfg.Caller.Call(ctx, o.Peer, protocol.Put{Key: o.Key, Record: o.Record.Raw()})
		}()
	}
}
