package sim

import (
	"errors"
	"slices"
	"time"

	"culvert/dht"
	"culvert/protocol"
)

// agent is an ordinary node: it announces itself, moves, leaves, comes back, and looks others up.
type agent struct {
	*host
	reader   *reader
	domain   protocol.Domain
	sequence uint64
	location int // -1 while it is away
	lookups  []protocol.Hash
	left     []protocol.Hash
	leftAt   time.Duration
	storing  bool
	again    bool
	given    map[mark]dht.Version // the newest of each owner that it was given
	next     int                  // counts announcements that are due, so that one replaces another
}

const (
	announceEvery = 5 * time.Minute
	announceRetry = 5 * time.Second
	provisional   = 30 * time.Second
	recordLife    = 10 * time.Minute
)

func (s *Sim) newAgent(name string, id *identity) *agent {
	a := &agent{host: s.newHost(name, id), domain: id.id.Domain(), location: -1, given: make(map[mark]dht.Version)}
	a.reader = newReader(a.host)
	s.agents = append(s.agents, a)
	a.mapLoop()
	return a
}

func (a *agent) mapLoop() {
	a.reader.follow()
	a.timer(a.reader.mapWait(), a.mapLoop)
}

// restart is a stop without a farewell, and a start. Its own database has its sequence.
func (a *agent) restart() {
	a.life++
	clear(a.calls)
	a.reader.forget()
	clear(a.given)
	a.storing, a.again = false, false
	a.mapLoop()
	if a.location >= 0 {
		a.announceIn(0)
	}
}

func locationKey(n int) protocol.Hash { return hashOf("location %d", n) }

// move makes it be somewhere else, or away.
func (a *agent) move(to int) {
	a.location = to
	a.s.say("%s moves to %d", a, to)
	a.announceIn(0)
}

func (a *agent) announceIn(d time.Duration) {
	a.next++
	n := a.next
	a.timer(d, func() {
		if n == a.next {
			a.announce()
		}
	})
}

// keys are the lookup keys of where it is, and for one record's life those of where it was.
func (a *agent) keys() []protocol.Hash {
	var l []protocol.Hash
	if a.location >= 0 {
		l = append(l, locationKey(a.location))
	}
	if a.s.now-a.leftAt > recordLife {
		a.left = nil
	}
	for _, k := range a.lookups {
		if !slices.Contains(l, k) && !slices.Contains(a.left, k) {
			a.left, a.leftAt = append(a.left, k), a.s.now
		}
	}
	a.lookups = slices.Clone(l)
	for _, k := range a.left {
		if len(l) < protocol.MaxLookups && !slices.Contains(l, k) {
			l = append(l, k)
		}
	}
	return l
}

// announce signs where it is and stores it; one store at a time, as the loop of package node does.
func (a *agent) announce() {
	if a.storing {
		a.again = true
		return
	}
	gone := a.location < 0
	now := a.clock()
	a.sequence = max(a.sequence+1, uint64(now.UnixMilli()))
	r := protocol.Record{
		Table: protocol.TableNodeInfo, Tombstone: gone, Owner: a.ident.id, Signer: a.ident.id, Epoch: 1, Sequence: a.sequence,
		Issued: now, Expires: now.Add(recordLife), Lookups: a.keys(),
	}
	if !gone {
		r.Value = value(a.sequence)
	}
	raw := sign(a.ident.keys.Signing, r, r.Value)
	rec := must(raw)
	a.storing, a.again = true, false
	t := a.s.oracle.issued(rec)
	a.s.Stats.Stores++
	a.reader.store(raw, func(err error, x *run) {
		a.storing = false
		wait := announceEvery
		if err != nil {
			a.s.Stats.StoresFailed++
			if a.s.log != nil {
				a.s.say("%s: announcement %d: %v", a, rec.Sequence, err)
			}
			if wait = announceRetry; errors.Is(err, dht.ErrProvisional) {
				wait = a.s.between(provisional, provisional*3/2)
			}
		} else {
			a.s.Stats.Acked++
			a.s.oracle.acknowledged(t, x.sound)
		}
		if a.again {
			wait = 0
		}
		if wait > 0 && gone && err == nil {
			return
		}
		a.announceIn(wait)
	})
}

// find looks somebody or something up.
func (a *agent) find(t dht.Target, then func(l *dht.Lookup, x *run)) {
	began := a.s.now
	exp := a.s.oracle.before(a, t)
	a.s.Stats.Lookups++
	a.reader.lookup(a.reader.config(t), func(l *dht.Lookup, x *run) {
		a.s.oracle.answered(a, t, began, exp, l, x)
		if then != nil {
			then(l, x)
		}
	})
}
