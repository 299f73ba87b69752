package sim

import (
	"errors"
	"math/rand/v2"
	"time"

	"culvert/dht"
	"culvert/partition"
	"culvert/protocol"

	"golang.org/x/time/rate"
)

// timeout is of a wave of questions.
const timeout = dht.DefaultTimeout

// late is for how long an answer is waited for, as dht.Client does.
const late = 4 * timeout

// reader does for a machine what dht.Client does for a node, without goroutines: it drives Lookup and StoreOp, follows the map,
// and remembers what it has seen.
type reader struct {
	h      *host
	trust  *protocol.Trust
	rand   *rand.Rand
	scores *dht.Scores
	pmap   *partition.Map
	marks  map[mark]dht.Version
	certs  map[protocol.ID]*protocol.CertifiedNode

	handed map[handedOn]bool
	hands  *rate.Limiter

	onMap      func(*partition.Map)
	refreshing []func()
	refreshed  time.Duration
}

type mark struct {
	table protocol.Table
	owner protocol.ID
}

func newReader(h *host) *reader {
	return &reader{
		h: h, trust: h.s.world.trust(), rand: h.s.source(), scores: dht.NewScores(), marks: make(map[mark]dht.Version),
		certs: make(map[protocol.ID]*protocol.CertifiedNode), refreshed: -time.Hour,
		handed: make(map[handedOn]bool), hands: rate.NewLimiter(2, 8),
	}
}

// forget is a restart: what is only in memory goes.
func (r *reader) forget() {
	r.refreshing = nil
	r.scores = dht.NewScores()
	clear(r.marks)
	clear(r.certs)
}

func (r *reader) setMap(m *partition.Map) {
	if m == nil || r.pmap != nil && m.Epoch() <= r.pmap.Epoch() {
		return
	}
	r.pmap = m
	if r.onMap != nil {
		r.onMap(m)
	}
}

func (r *reader) serving(k protocol.ID) (l []partition.Member) {
	if r.pmap == nil {
		return nil
	}
	all := r.pmap.Members()
	if !k.IsZero() {
		all = r.pmap.Serving(k)
	}
	for _, m := range all {
		if m.Peer.ID != r.h.ident.id {
			l = append(l, m)
		}
	}
	return l
}

func (r *reader) operators() []partition.Member {
	id := r.h.s.world.operator.id
	if r.h.ident.id == id {
		return nil
	}
	return []partition.Member{{Peer: protocol.Peer{ID: id}, Range: partition.Whole()}}
}

// check proves a record as dht.Client does. The signature under the same bytes is looked at once in a run: all readers trust the
// same operator.
func (r *reader) check(now time.Time, rec *protocol.Record) error {
	if r.h.s.proved[string(rec.Raw())] && (rec.Table != protocol.TableNodeInfo || r.certs[rec.Owner] != nil) {
		if rec.Expired(now) {
			return protocol.ErrRecordExpired
		}
		return nil
	}
	var err error
	switch rec.Table {
	case protocol.TableNodeInfo:
		c := r.certs[rec.Owner]
		if c == nil {
			return protocol.ErrUntrusted
		}
		err = protocol.CheckOwned(rec, c, now)
	case protocol.TableOperatorNode:
		err = r.trust.AddOperator(rec.Raw(), r.h.s.world.root.Signing.Public(), now)
	default:
		err = r.trust.CheckStatic(rec, now)
	}
	if err == nil {
		r.h.s.proved[string(rec.Raw())] = true
	}
	return err
}

func place(t dht.Target) protocol.ID {
	if t.Kind == dht.FindMap || t.Kind == dht.FindRevocations || t.Kind == dht.FindOperators {
		return protocol.ID{}
	}
	return t.Key
}

func (r *reader) config(t dht.Target) dht.LookupConfig {
	return dht.LookupConfig{
		Target: t, Members: r.serving(place(t)), Epoch: r.epoch(), Operators: r.operators(), Own: r.h.ident.id.Domain(), Timeout: timeout,
		Rand: r.rand, Scores: r.scores, Check: r.check,
		Seen: func(tb protocol.Table, owner protocol.ID) (dht.Version, bool) {
			v, ok := r.marks[mark{tb, owner}]
			return v, ok
		},
	}
}

func (r *reader) epoch() uint64 {
	if r.pmap == nil {
		return 0
	}
	return r.pmap.Epoch()
}

// lookup asks the mesh; end is told what came of it.
func (r *reader) lookup(cfg dht.LookupConfig, end func(l *dht.Lookup, x *run)) {
	l := dht.NewLookup(cfg)
	x := &run{r: r, m: l, key: place(cfg.Target), target: &cfg.Target, sound: make(map[*host]bool), unproved: make(map[int]bool)}
	x.end = func(x *run) {
		r.handOn(l)
		for _, rec := range l.Newest() {
			m := mark{rec.Table, rec.Owner}
			if v := dht.VersionOf(rec); r.marks[m].Less(v) {
				r.marks[m] = v
			}
		}
		end(l, x)
	}
	x.step(dht.Event{Kind: dht.EventTick})
}

// handOn gives the newest record to those who answered with an older one, as often as dht.Client does.
func (r *reader) handOn(l *dht.Lookup) {
	for _, o := range l.HandOns() {
		k := handedOn{o.Peer.ID, mark{o.Record.Table, o.Record.Owner}, dht.VersionOf(o.Record)}
		if o.Peer.ID == r.h.s.world.operator.id || r.handed[k] || !r.hands.AllowN(r.h.s.time(), 1) {
			continue
		}
		r.handed[k] = true
		nobody := func(protocol.Command, []byte, bool) {}
		put := func(protocol.Command, []byte, bool) {
			r.h.ask(o.Peer.ID, protocol.Put{Key: o.Key, Record: o.Record.Raw()}, late, nobody)
		}
		if c := r.certs[o.Record.Owner]; c != nil && o.None && o.Record.Table == protocol.TableNodeInfo {
			r.h.ask(o.Peer.ID, protocol.Put{Key: o.Record.Owner, Record: c.Record}, late, put)
			continue
		}
		put(0, nil, false)
	}
}

type handedOn struct {
	peer    protocol.ID
	of      mark
	version dht.Version
}

func (r *reader) placed(keys []protocol.ID) (l []dht.Placed) {
	for _, k := range keys {
		l = append(l, dht.Placed{Key: k, Members: r.serving(k)})
	}
	return l
}

// store puts a record at all of its keys.
func (r *reader) store(raw []byte, end func(err error, x *run)) {
	rec := must(raw)
	op := dht.NewStoreOp(dht.StoreConfig{
		Record: raw, Placed: r.placed(rec.Keys()), Epoch: r.epoch(), Operators: r.operators(), Own: r.h.ident.id.Domain(),
		Timeout: timeout, Rand: r.rand, Scores: r.scores,
	})
	x := &run{r: r, m: op, key: rec.Owner, sound: make(map[*host]bool), unproved: make(map[int]bool), end: func(x *run) { end(op.Err(), x) }}
	x.step(dht.Event{Kind: dht.EventTick})
}

func (r *reader) mapEvent(k protocol.ID, keys []protocol.ID) dht.Event {
	return dht.Event{Kind: dht.EventMap, Members: r.serving(k), Placed: r.placed(keys), Epoch: r.epoch()}
}

// refresh asks for a newer map; those who want one at the same time share it, as dht.Client has it.
func (r *reader) refresh(quorum int, done func()) {
	if r.pmap != nil && r.h.s.now-r.refreshed < time.Second {
		done()
		return
	}
	r.refreshing = append(r.refreshing, done)
	if len(r.refreshing) > 1 {
		return
	}
	cfg := r.config(dht.Target{Kind: dht.FindMap, Since: r.epoch()})
	cfg.NoRefresh, cfg.Map, cfg.Quorum = true, r.pmap, quorum
	r.takeMap(cfg, func(err error) {
		if err == nil {
			r.refreshed = r.h.s.now
		}
		waiting := r.refreshing
		r.refreshing = nil
		for _, f := range waiting {
			f()
		}
	})
}

// widely and narrowly are how many are asked for the map, as dht.Client does: when nobody answers by the one held, and else.
const (
	widely   = 4
	narrowly = 2
)

// refreshFrom has one member show the map that it has named.
func (r *reader) refreshFrom(p protocol.Peer, epoch uint64, done func()) {
	if r.epoch() >= epoch {
		done()
		return
	}
	cfg := r.config(dht.Target{Kind: dht.FindMap, Since: r.epoch()})
	cfg.NoRefresh, cfg.Map, cfg.Operators = true, r.pmap, nil
	cfg.Members = []partition.Member{{Peer: p, Domain: p.ID.Domain(), Range: partition.Whole()}}
	r.takeMap(cfg, func(error) { done() })
}

// takeMap asks for what has changed, and for the whole map where nobody can tell.
func (r *reader) takeMap(cfg dht.LookupConfig, done func(err error)) {
	r.lookup(cfg, func(l *dht.Lookup, _ *run) {
		_, err := l.Result()
		if err != nil && cfg.Map != nil {
			cfg.Map, cfg.Target.Since = nil, 0
			r.takeMap(cfg, done)
			return
		}
		r.setMap(l.Map())
		done(err)
	})
}

// follow asks for a newer map now.
func (r *reader) follow() {
	r.refreshed = -time.Hour
	r.refresh(narrowly, func() {})
}

// followTo asks those who answer by the map held, and the operator where they know none of that epoch.
func (r *reader) followTo(epoch uint64) {
	r.refreshed = -time.Hour
	r.refresh(narrowly, func() {
		if ops := r.operators(); r.epoch() < epoch && len(ops) > 0 {
			r.refreshFrom(ops[0].Peer, epoch, func() {})
		}
	})
}

// mapWait is until when to ask again.
func (r *reader) mapWait() time.Duration {
	if r.pmap == nil {
		return mapAlone
	}
	return r.h.s.between(mapEvery, mapEvery*5/4)
}

func unreachable(err error) bool { return errors.Is(err, dht.ErrUnreachable) }
