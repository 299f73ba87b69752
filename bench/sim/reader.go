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

// machine is Lookup or StoreOp.
type machine interface {
	Step(now time.Time, e dht.Event) []dht.Action
	Done() bool
	Deadline() time.Time
}

// run is one machine on its way.
type run struct {
	r       *reader
	m       machine
	key     protocol.ID
	target  *dht.Target    // of a lookup
	sound   map[*host]bool // who answered, with what was asked for
	waves   int
	stopped bool
	end     func(*run)
}

// honest is how many of l that have told no lie since then have answered.
func (x *run) honest(l []*super, since time.Duration) (n int) {
	for _, m := range l {
		if x.sound[m.host] && !m.lying(since) {
			n++
		}
	}
	return n
}

func (x *run) step(e dht.Event) {
	if x.m.Done() {
		return
	}
	x.perform(x.m.Step(x.r.h.clock(), e))
	if x.m.Done() {
		if !x.stopped {
			x.stopped = true
			x.end(x)
		}
		return
	}
	x.r.h.timer(max(x.m.Deadline().Sub(x.r.h.clock()), time.Millisecond), func() {
		if !x.m.Done() && !x.r.h.clock().Before(x.m.Deadline()) {
			x.waves++
			x.step(dht.Event{Kind: dht.EventTick})
		}
	})
}

func (x *run) perform(acts []dht.Action) {
	for _, a := range acts {
		switch a.Kind {
		case dht.ActAsk:
			x.r.h.ask(a.Peer.ID, a.Payload, late, func(c protocol.Command, payload []byte, ok bool) {
				if !ok {
					x.step(dht.Event{Kind: dht.EventFailed, Tag: a.Tag})
					return
				}
				x.prepare(a.Peer.ID, c, payload, func(proved bool) {
					if proved && answers(a.Payload.Command(), c, payload) {
						x.sound[x.r.h.s.find(a.Peer.ID)] = true
					}
					x.step(dht.Event{Kind: dht.EventAnswer, Tag: a.Tag, Command: c, Payload: payload})
				})
			})
		case dht.ActRefresh:
			then := func() { x.step(x.r.mapEvent(x.key, a.Keys)) }
			if a.Peer.ID.IsZero() {
				x.r.refresh(widely, then)
			} else {
				x.r.refreshFrom(a.Peer, a.Epoch, then)
			}
		}
	}
}

// answers reports whether a peer did what it was asked for; of a list it is the last page that counts.
func answers(asked, c protocol.Command, payload []byte) bool {
	switch c {
	case protocol.CmdStored:
		st, err := protocol.ParseStored(payload)
		return err == nil && st.Status == protocol.StatusOK
	case protocol.CmdTunnelNodes, protocol.CmdEndDevices:
		l, err := protocol.ParseRecordList(payload)
		return err == nil && l.Next.IsZero() && c == asked+1
	}
	return c == asked+1
}

// prepare fetches the certificates without which NodeInfo records cannot be proved, from whoever served them.
func (x *run) prepare(from protocol.ID, c protocol.Command, payload []byte, then func(proved bool)) {
	if x.target == nil || c != protocol.CmdNodeInfo && c != protocol.CmdTunnelNodes {
		then(true)
		return
	}
	l, err := protocol.ParseRecordList(payload)
	if err != nil {
		then(false)
		return
	}
	var want []protocol.ID
	for _, raw := range l.Records {
		if rec, err := protocol.ParseRecord(raw); err == nil && x.r.certs[rec.Owner] == nil {
			want = append(want, rec.Owner)
		}
	}
	x.fetch(from, want, then)
}

func (x *run) fetch(from protocol.ID, want []protocol.ID, then func(proved bool)) {
	if len(want) == 0 || x.m.Done() {
		then(true)
		return
	}
	x.r.h.ask(from, protocol.GetNode{ID: want[0]}, late, func(c protocol.Command, payload []byte, ok bool) {
		if !ok {
			then(false)
			return
		}
		if n, err := protocol.ParseNode(payload); err == nil && c == protocol.CmdNode {
			if cert, err := x.r.trust.CheckNode(n.Record, x.r.h.clock()); err == nil && cert.ID == want[0] {
				x.r.certs[want[0]] = cert
			}
		}
		x.fetch(from, want[1:], then)
	})
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
	x := &run{r: r, m: l, key: place(cfg.Target), target: &cfg.Target, sound: make(map[*host]bool)}
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
	x := &run{r: r, m: op, key: rec.Owner, sound: make(map[*host]bool), end: func(x *run) { end(op.Err(), x) }}
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

// mapWait is until when to ask again.
func (r *reader) mapWait() time.Duration {
	if r.pmap == nil {
		return mapAlone
	}
	return r.h.s.between(mapEvery, mapEvery*5/4)
}

func unreachable(err error) bool { return errors.Is(err, dht.ErrUnreachable) }
