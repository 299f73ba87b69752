package nat

import (
	"io"
	"net/netip"
	"slices"
	"time"

	"culvert/protocol"
)

const (
	// DefaultKeepalive is a safe interval where nothing has been measured: routers are met that forget a binding after 30 s.
	DefaultKeepalive = 20 * time.Second
	// LongestKeepalive is the most that is tried: RFC 4787 has NATs keep a binding for two minutes at the least.
	LongestKeepalive = 120 * time.Second

	shortestSilence = 15 * time.Second
	firstSilence    = 30 * time.Second
	longestSilence  = LongestKeepalive
	fineEnough      = 5 * time.Second
	hastyKeepalive  = 10 * time.Second // where not even the shortest silence was survived
	// warmUp is between the two exchanges at a round's start: Linux takes a flow for lasting, with a longer time-out, once it
	// has been in use for two seconds.
	warmUp = 2500 * time.Millisecond
	// roundServers are asked side by side, each with a socket of its own: one that lies makes no binding seem dead.
	roundServers = 2
	warmings     = 2
	badRounds    = 3 // in a row without a result; then the prober gives up
)

// Prober finds for how long a binding may be silent. It is for one goroutine.
type Prober struct {
	servers []Server
	rand    io.Reader

	lo, hi  time.Duration // longest silence survived, shortest that was not; 0 for none
	silence time.Duration // tried now
	trials  []*trial
	rounds  int
	bad     int
	asks    int
	sockets int
	done    bool
	out     []Action
}

// trial is one socket and one server in a round.
type trial struct {
	phase  phase
	socket int
	server Server
	to     netip.AddrPort
	query  query
	warm   int            // exchanges done
	mapped netip.AddrPort // the socket from outside
	since  time.Time      // of a pause
	ask    ask
	valid  bool // something can be concluded
	alive  bool
}

type phase uint8

const (
	opening phase = iota
	exchanging
	pausing
	silent
	asking
	over
)

var _ Machine = (*Prober)(nil)

// NewProber makes a prober; the first Step starts it. It asks servers in turn.
func NewProber(servers []Server, random io.Reader) *Prober {
	return &Prober{servers: slices.Clone(servers), rand: random, silence: firstSilence}
}

// Interval is how often to write so that a binding stays: a tenth less than the longest silence that it survived. known is false
// while nothing has been found.
func (p *Prober) Interval() (d time.Duration, known bool) {
	switch {
	case p.lo > 0:
		return p.lo * 9 / 10, true
	case p.hi > 0 && p.hi <= shortestSilence:
		return hastyKeepalive, true
	}
	return DefaultKeepalive, false
}

// Step implements Machine.
func (p *Prober) Step(now time.Time, e Event) []Action {
	p.out = nil
	if p.done {
		return nil
	}
	if len(p.trials) == 0 {
		p.begin()
	}
	for _, t := range p.trials {
		t.event(now, e)
	}
	ended := true
	for _, t := range p.trials {
		p.proceed(now, t)
		ended = ended && t.phase == over
	}
	if ended && !p.done {
		p.conclude()
	}
	return p.out
}

// Next implements Machine.
func (p *Prober) Next() (next time.Time) {
	sooner := func(at time.Time) {
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	for _, t := range p.trials {
		switch {
		case t.phase == exchanging:
			sooner(t.query.next)
		case t.phase == pausing:
			sooner(t.since.Add(warmUp))
		case t.phase == silent:
			sooner(t.since.Add(p.silence))
		case t.phase == asking && t.ask.id == 0:
			sooner(t.ask.next)
		}
	}
	return next
}

func (p *Prober) begin() {
	for i := range min(roundServers, len(p.servers)) {
		s := p.servers[(p.rounds*roundServers+i)%len(p.servers)]
		p.sockets++
		t := &trial{socket: p.sockets, server: s, to: s.V4}
		if !t.to.IsValid() {
			t.to = s.V6
		}
		p.trials = append(p.trials, t)
		p.out = append(p.out, Action{Kind: ActionOpen, Socket: t.socket, V6: t.to.Addr().Is6()})
	}
	p.rounds++
	if len(p.trials) == 0 {
		p.end()
	}
}

func (p *Prober) end() {
	p.done = true
	p.out = append(p.out, Action{Kind: ActionDone})
}

func (t *trial) event(now time.Time, e Event) {
	switch {
	case t.phase == opening && e.Kind == Opened && e.Socket == t.socket:
		if t.phase = pausing; e.Port == 0 {
			t.phase = over
		}
	case t.phase == asking && e.Kind == Asked:
		t.ask.asked(now, e)
	case e.Kind != Received || e.Socket != t.socket:
	case t.phase == exchanging:
		if r, err := ParseResponse(e.Data); err == nil && t.query.answered(now, e, r) {
			t.warm++
			t.mapped, t.since, t.phase = r.Mapped, now, pausing
			if t.warm == warmings {
				t.phase = silent
			}
		}
	case t.phase == silent && now.Sub(t.since) > warmUp: // before that it may be a second answer
		t.phase = over // it was not silent, which may have kept the binding alive
	case t.phase == asking:
		if nonce, err := protocol.ParseReachProbe(e.Data); err == nil && t.ask.probe(nonce, e.From) {
			t.phase, t.valid, t.alive = over, true, true
		}
	}
}

func (p *Prober) proceed(now time.Time, t *trial) {
	switch t.phase {
	case pausing:
		if t.warm > 0 && now.Before(t.since.Add(warmUp)) {
			return
		}
		t.phase, t.query = exchanging, query{socket: t.socket, to: t.to, next: now}
		if _, err := io.ReadFull(p.rand, t.query.id[:]); err != nil {
			t.phase = over
			return
		}
	case silent:
		if now.Before(t.since.Add(p.silence)) {
			return
		}
		t.phase, t.ask = asking, ask{to: t.to, addr: t.mapped}
	}
	switch t.phase {
	case exchanging:
		if a, ok := t.query.due(now); ok {
			p.out = append(p.out, a)
		}
		if t.query.over {
			t.phase = over
		}
	case asking:
		next := func() int { p.asks++; return p.asks }
		if a, ok := t.ask.due(now, next, p.rand, t.server.ID); ok {
			p.out = append(p.out, a)
		}
		if t.ask.over {
			t.phase, t.valid = over, t.ask.silent()
		}
	}
}

// conclude ends a round and plans the next.
func (p *Prober) conclude() {
	alive, valid := false, false
	for _, t := range p.trials {
		alive, valid = alive || t.alive, valid || t.valid
		p.out = append(p.out, Action{Kind: ActionClose, Socket: t.socket})
	}
	p.trials = nil
	switch {
	case !valid:
		if p.bad++; p.bad == badRounds {
			p.end()
			return
		}
	case alive:
		p.bad, p.lo = 0, p.silence
	default:
		p.bad, p.hi = 0, p.silence
	}
	if !p.plan() {
		p.end()
		return
	}
	p.begin()
}

// plan doubles until a silence was not survived, then halves the distance.
func (p *Prober) plan() (more bool) {
	switch {
	case p.lo == longestSilence, p.hi > 0 && p.hi <= shortestSilence, p.lo > 0 && p.hi > 0 && p.hi-p.lo <= fineEnough:
		return false
	case p.lo == 0 && p.hi > 0:
		p.silence = shortestSilence
	case p.lo > 0 && p.hi == 0:
		p.silence = min(2*p.lo, longestSilence)
	case p.lo > 0:
		p.silence = ((p.lo + p.hi) / 2).Round(time.Second)
	}
	return true
}
