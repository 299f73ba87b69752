package relay

import (
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"culvert/protocol"
)

// Allowance bounds what one node, or one domain, may use of this relay. Zero fields are unlimited.
type Allowance struct {
	Connections int   // at a time, waiting ones included
	Bytes       int64 // an hour, received from it
	Rate        int64 // bytes a second, received from it
}

const allowanceHour = time.Hour

// account is what one node or domain uses.
type account struct {
	Allowance
	connections int
	used        int64
	since       time.Time // start of the hour that used counts
	limiter     *rate.Limiter
}

// accounts are bounded by the connections that are open, and by those that used bytes within the hour.
type accounts struct {
	node, domain Allowance
	limiter      *rate.Limiter // of all together, nil for none

	mu      sync.Mutex
	nodes   map[protocol.ID]*account
	domains map[protocol.Domain]*account
	swept   time.Time
}

func newAccounts(all int64, node, domain Allowance) *accounts {
	return &accounts{node: node, domain: domain, limiter: newLimiter(all),
		nodes: make(map[protocol.ID]*account), domains: make(map[protocol.Domain]*account)}
}

func newAccount(a Allowance, now time.Time) *account {
	return &account{Allowance: a, since: now, limiter: newLimiter(a.Rate)}
}

func newLimiter(perSecond int64) *rate.Limiter {
	if perSecond <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(perSecond), int(min(max(perSecond, copySize), math.MaxInt32)))
}

// party is one joined or waiting node's hold on its accounts; without shares it holds none.
type party struct {
	all    *accounts
	shares [2]*account
}

// enter takes a connection's place, or names the account that is full.
func (a *accounts) enter(id protocol.ID, now time.Time) (party, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sweepLocked(now)
	n, d := a.nodes[id], a.domains[id.Domain()]
	if n == nil {
		n = newAccount(a.node, now)
	}
	if d == nil {
		d = newAccount(a.domain, now)
	}
	for _, c := range []*account{n, d} {
		if c.Connections > 0 && c.connections >= c.Connections || c.left(now) == 0 {
			return party{}, false
		}
	}
	a.nodes[id], a.domains[id.Domain()] = n, d
	n.connections++
	d.connections++
	return party{all: a, shares: [2]*account{n, d}}, true
}

func (p *party) leave() {
	if p.all == nil {
		return
	}
	p.all.mu.Lock()
	defer p.all.mu.Unlock()
	for _, c := range p.shares {
		c.connections--
	}
}

// take counts n bytes before they move, or as many as both accounts still have: never a byte goes past an allowance.
func (p *party) take(n int64, now time.Time) int64 {
	p.all.mu.Lock()
	defer p.all.mu.Unlock()
	for _, c := range p.shares {
		n = min(n, c.left(now))
	}
	for _, c := range p.shares {
		c.used += n
	}
	return n
}

// giveBack takes back what take counted and did not move.
func (p *party) giveBack(n int64) {
	p.all.mu.Lock()
	defer p.all.mu.Unlock()
	for _, c := range p.shares {
		c.used = max(c.used-n, 0) // an hour may have ended in between
	}
}

// left is how many bytes the party may still move in this hour.
func (p *party) left(now time.Time) int64 {
	p.all.mu.Lock()
	defer p.all.mu.Unlock()
	return min(p.shares[0].left(now), p.shares[1].left(now))
}

// left is how many bytes the account may still move in this hour.
func (c *account) left(now time.Time) int64 {
	if now.Sub(c.since) >= allowanceHour {
		c.since, c.used = now, 0
	}
	if c.Bytes == 0 {
		return math.MaxInt64
	}
	return max(c.Bytes-c.used, 0)
}

// limiters are the rates that hold for the party.
func (p *party) limiters() []*rate.Limiter {
	var l []*rate.Limiter
	for _, c := range p.shares {
		if c.limiter != nil {
			l = append(l, c.limiter)
		}
	}
	if p.all.limiter != nil { // last: who waits for his own does not hold what others could move
		l = append(l, p.all.limiter)
	}
	return l
}

// sweepLocked forgets accounts that are idle and whose hour is over.
func (a *accounts) sweepLocked(now time.Time) {
	if now.Sub(a.swept) < time.Minute {
		return
	}
	a.swept = now
	for id, c := range a.nodes {
		if c.connections == 0 && (c.used == 0 || now.Sub(c.since) >= allowanceHour) {
			delete(a.nodes, id)
		}
	}
	for d, c := range a.domains {
		if c.connections == 0 && (c.used == 0 || now.Sub(c.since) >= allowanceHour) {
			delete(a.domains, d)
		}
	}
}
