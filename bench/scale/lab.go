package main

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"culvert/dht"
	"culvert/partition"
	"culvert/protocol"
	"culvert/protocol/key"
)

// manner is how a super-node behaves towards readers.
type manner byte

const (
	honest manner = iota
	silent        // gone, or a liar that says nothing
	stale         // gives the record before the last one
	denies        // says that there is nothing
)

// lab lets sampled users read with the real dht.Lookup: the members' answers are made here, their loss and delay drawn, the
// order of events is that of a virtual clock. Nothing waits.
type lab struct {
	a        assumptions
	v        *view
	manners  map[protocol.ID]manner // the honest are left out
	operator partition.Member
	signer   *key.Signing
	self     protocol.ID // the signer's
	rand     *rand.Rand
	start    time.Time
	order    int                 // of events so far
	asked    map[protocol.ID]int // how often each was asked; nil where nobody counts
}

// reader is one sampled user: what it remembers of super-nodes stays from lookup to lookup.
type reader struct {
	domain  protocol.Domain
	scores  *dht.Scores
	now     time.Time
	contact map[protocol.ID]time.Time
}

// reading is what one lookup took.
type reading struct {
	Asks, Operator, Refreshes, Opened, Malicious int
	Waves                                        time.Duration
	Found, Stale, Missing, Unreachable           bool
}

func newLab(a assumptions, v *view, r *rand.Rand) (*lab, error) {
	seed := make([]byte, 32)
	for i := range seed {
		seed[i] = byte(i)
	}
	s, err := key.NewSigning(seed)
	if err != nil {
		return nil, err
	}
	return &lab{
		a: a, v: v, manners: make(map[protocol.ID]manner), signer: s, rand: r, start: time.UnixMilli(1_800_000_000_000),
		operator: partition.Member{Peer: protocol.Peer{ID: operatorID, Addr: operatorAddr()}, Range: partition.Whole()},
		self:     protocol.NodeID(1, s.Public()),
	}, nil
}

func (l *lab) newReader(d protocol.Domain) *reader {
	return &reader{domain: d, scores: dht.NewScores(), now: l.start, contact: make(map[protocol.ID]time.Time)}
}

// lookup reads one key. present says whether the honest members hold a record, age how old it is.
func (l *lab) lookup(u *reader, t dht.Target, present bool, age time.Duration) (out reading, err error) {
	good, old, err := l.records(t, u.now, present, age)
	if err != nil {
		return out, err
	}
	members := l.v.serving(t.Key)
	stands := slices.ContainsFunc(members, func(m partition.Member) bool { return m.Peer.ID == operatorID })
	m := dht.NewLookup(dht.LookupConfig{
		Target: t, Members: members, Operators: []partition.Member{l.operator}, Own: u.domain, Rand: l.rand, Scores: u.scores,
		Check: func(time.Time, *protocol.Record) error { return nil },
	})
	began := u.now
	var q queue
	perform := func(acts []dht.Action) {
		for _, a := range acts {
			if a.Kind == dht.ActRefresh {
				out.Refreshes++ // the same members as before: who is gone without a word is on the map for some minutes
				l.push(&q, u.now.Add(l.roundTrip()), dht.Event{Kind: dht.EventMap, Members: members})
				continue
			}
			out.Asks++
			if l.asked != nil {
				l.asked[a.Peer.ID]++
			}
			if last, ok := u.contact[a.Peer.ID]; !ok || u.now.Sub(last) > 10*time.Minute {
				out.Opened++
			}
			u.contact[a.Peer.ID] = u.now
			how := l.manners[a.Peer.ID]
			if a.Peer.ID == operatorID {
				out.Operator++
			} else if how != honest {
				out.Malicious++
			}
			delay, answered := l.delivery()
			if how == silent || !answered {
				l.push(&q, u.now.Add(codeAskLife), dht.Event{Kind: dht.EventFailed, Tag: a.Tag})
				continue
			}
			raw := good
			switch {
			case how == stale:
				raw = old
			case how == denies, a.Peer.ID == operatorID && t.Kind != dht.FindDevices && !stands:
				raw = nil // what moves is not at the operator (DHT-11), unless it stands in for a member here
			}
			l.push(&q, u.now.Add(delay), dht.Event{Kind: dht.EventAnswer, Tag: a.Tag, Command: a.Payload.Command() + 1, Payload: answer(raw)})
		}
	}
	perform(m.Step(u.now, dht.Event{Kind: dht.EventTick}))
	for !m.Done() {
		if len(q) == 0 || m.Deadline().Before(q[0].at) && m.Deadline().After(u.now) {
			u.now = m.Deadline()
			perform(m.Step(u.now, dht.Event{Kind: dht.EventTick}))
			continue
		}
		e := q.pop()
		u.now = e.at
		perform(m.Step(u.now, e.event))
	}
	out.Waves = u.now.Sub(began)
	got, err := m.Result()
	switch {
	case len(got) > 0:
		out.Found = true
		out.Stale = string(got[0].Raw()) != string(good)
	case err == dht.ErrNotFound:
		out.Missing = true
	default:
		out.Unreachable = true
	}
	return out, nil
}

// records are the newest record at t's key and the one before it, of which a liar has a copy.
func (l *lab) records(t dht.Target, now time.Time, present bool, age time.Duration) (good, old []byte, err error) {
	if !present {
		return nil, nil, nil
	}
	sign := func(seq uint64, age time.Duration) ([]byte, error) {
		r := &protocol.Record{
			Table: protocol.TableNodeInfo, Owner: t.Key, Signer: l.self, Epoch: 1, Sequence: seq,
			Issued: now.Add(-age), Expires: now.Add(-age).Add(codeExpiry),
		}
		switch t.Kind {
		case dht.FindDevices:
			r.Table, r.Expires = protocol.TableEndDevice, now.Add(time.Hour)
		case dht.FindTunnelNodes:
			r.Owner, r.Lookups = protocol.NewID(t.Key.Domain(), protocol.Hash{1}), []protocol.Hash{t.Key.Hash()}
		}
		return protocol.SignRecord(r, l.signer)
	}
	if good, err = sign(2, age); err == nil {
		// Withholding the last announcement: this one is an interval older, or about to expire.
		old, err = sign(1, min(age+codeAnnounce, codeExpiry-time.Second))
	}
	return good, old, err
}

func answer(raw []byte) []byte {
	var l protocol.RecordList
	if raw != nil {
		l.Records = [][]byte{raw}
	}
	return l.AppendPayload(nil)
}

// delivery draws when an answer comes: the endpoint asks again after 250 ms, 750 ms, 1750 ms while the question lives.
func (l *lab) delivery() (time.Duration, bool) {
	rtt := l.roundTrip()
	pass := (1 - l.a.Loss) * (1 - l.a.Loss)
	at, wait := time.Duration(0), codeFirstRetry
	for at < codeAskLife {
		if l.rand.Float64() < pass {
			return at + rtt, at+rtt < codeAskLife
		}
		at, wait = at+wait, 2*wait
	}
	return 0, false
}

// roundTrip is log-normal about 30 ms: offices of one country.
func (l *lab) roundTrip() time.Duration {
	return time.Duration(30 * math.Exp(0.6*l.rand.NormFloat64()) * float64(time.Millisecond))
}

type queued struct {
	at    time.Time
	order int
	event dht.Event
}

// queue is what will happen, earliest first; what comes at the same moment comes in the order in which it was caused.
type queue []queued

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].at.Before(q[j].at) || q[i].at.Equal(q[j].at) && q[i].order < q[j].order
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }

// Push implements heap.Interface.
func (q *queue) Push(x any) {
	if e, ok := x.(queued); ok {
		*q = append(*q, e)
	}
}

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	old := *q
	e := old[len(old)-1]
	*q = old[:len(old)-1]
	return e
}

func (l *lab) push(q *queue, at time.Time, e dht.Event) {
	l.order++
	heap.Push(q, queued{at, l.order, e})
}

func (q *queue) pop() queued {
	e, _ := heap.Pop(q).(queued)
	return e
}
