package dht

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"culvert/partition"
	"culvert/protocol"
)

const (
	// maxPages bounds what one peer may make a reader fetch, and maxListed how many records a reader keeps of one peer's list. A
	// map may have as many more as its signed head says.
	maxPages  = 256
	maxListed = 4096
	// mostReading is for how many waves pages of a list that come in time keep the reader from asking elsewhere than at the members.
	mostReading = 8
)

// LookupConfig is what a Lookup needs to know.
type LookupConfig struct {
	Target  Target
	Members []partition.Member // who serves the key
	Epoch   uint64             // of the map that says so
	// Operators are asked last of all, when everything else has failed.
	Operators []partition.Member
	Own       protocol.Domain
	Timeout   time.Duration // of a wave; 0 is DefaultTimeout
	Fresh     time.Duration // age from which a NodeInfo counts as stale; 0 is DefaultFresh
	Rand      *rand.Rand
	Scores    *Scores
	// Check proves a record: signer, and whatever else the reader holds against it. Shape, key and expiry are checked before.
	Check func(now time.Time, r *protocol.Record) error
	// Seen is the reader's high-water mark of an owner; nil for none.
	Seen   func(t protocol.Table, owner protocol.ID) (Version, bool)
	Quorum int // of answers; 0 is K
	// Map is the one to which FindMap's answers say what has changed; nil where they are to be whole.
	Map *partition.Map
	// NoRefresh: the map is not asked anew (this is that question).
	NoRefresh bool
}

// Lookup is one reading of the DHT, as a step machine: no I/O, clock, goroutines or randomness of its own.
//
// K = 2 members are asked. A single record is found when K members agree on the newest version; a list when K members gave a
// sound one, of which the newest record of each owner is taken. On silence, an unsound, stale or older answer, twice as many
// more are asked; one more, where a good answer to a question for a single record is there. In place of a member that is busy
// another is asked at once. After the second wave one fresh answer is enough. When all have been asked without one, the map is asked
// anew once, then the operators, both later where members are giving pages of a list; then a stale but valid record, or a list from
// which owners are missing because their certificates did not come, is better than none. "Not found" is only what every member says;
// anything less is ErrUnreachable.
type Lookup struct {
	cfg  LookupConfig
	w    waves
	got  map[int]*answer // by tag
	from time.Time       // of the first question
	step struct{ operators bool }
	moves
	useless struct{ busy, outside, unsound int } // answers
	// lags: a member held an older record than this reader has seen. It may be given the newer a moment later, where the first who
	// was has died.
	lags bool

	done    bool
	err     error
	records []*protocol.Record
	newest  []*protocol.Record
	pmap    *partition.Map
}

type answer struct {
	raws     [][]byte // as they came, of a map
	records  []*protocol.Record
	after    protocol.ID
	since    uint64
	pages    int
	more     int  // how many records, and pages, a map may have beyond what any list may
	complete bool // every page is here and sound
	fresh    bool // holds a record that is valid and not stale
	empty    bool // complete, without any record
	older    bool // held a record older than this reader has seen
	partial  bool // records are missing from it of which no certificate came: no whole list, but better than none
	pmap     *partition.Map
}

// NewLookup starts with EventTick.
func NewLookup(cfg LookupConfig) *Lookup {
	if cfg.Fresh <= 0 {
		cfg.Fresh = DefaultFresh
	}
	return &Lookup{cfg: cfg, w: newWaves(cfg.Timeout), got: make(map[int]*answer), moves: moves{epoch: cfg.Epoch}}
}

// Done reports whether the machine has ended.
func (l *Lookup) Done() bool { return l.done }

// Deadline is when to step next though nothing happens.
func (l *Lookup) Deadline() time.Time { return l.w.deadline }

// Result is what was found, in order of owner.
func (l *Lookup) Result() ([]*protocol.Record, error) { return l.records, l.err }

// Newest are the records that the reader has seen by this, for his high-water mark: the result's and withdrawals.
func (l *Lookup) Newest() []*protocol.Record { return l.newest }

// Map is what FindMap found; nil where nobody has a newer one.
func (l *Lookup) Map() *partition.Map { return l.pmap }

// Step takes one event.
func (l *Lookup) Step(now time.Time, e Event) []Action {
	if l.done {
		return nil
	}
	var acts []Action
	switch e.Kind {
	case EventTick:
		if l.w.count == 0 && len(l.w.queue) == 0 {
			l.from = now
			l.w.enqueue(now, l.cfg.Scores, l.cfg.Own, l.cfg.Rand, l.cfg.Members)
		}
	case EventAnswer:
		acts = l.answered(now, e)
	case EventFailed:
		if a, ok := l.w.close(e.Tag); ok && !a.blamed {
			l.bad(a.member.Peer.ID, now)
		}
	case EventMap:
		acts = l.mapChanged(now, e)
	}
	return append(acts, l.proceed(now)...)
}

// answered takes a page; it asks the same peer for the next.
func (l *Lookup) answered(now time.Time, e Event) []Action {
	a, ok := l.w.close(e.Tag)
	if !ok {
		return nil
	}
	if !l.cfg.NoRefresh {
		if acts, ok := l.outside(now, e, a, l.cfg.Scores); ok {
			l.useless.outside++
			return acts
		}
	}
	id := a.member.Peer.ID
	if e.Command == protocol.CmdBusy {
		delete(l.got, e.Tag) // half a list is none
		l.useless.busy++
		l.w.refused(now, a, e.Payload, l.cfg.Scores, l.cfg.Rand)
		return l.instead(now)
	}
	g := l.got[e.Tag]
	if g == nil {
		g = &answer{since: l.cfg.Target.Since}
		l.got[e.Tag] = g
		l.cfg.Scores.Good(id, now.Sub(a.since))
	}
	g.partial = g.partial || e.Unproved
	list, err := l.cfg.Target.parse(e.Command, e.Payload)
	if err != nil || !l.take(now, g, list) {
		l.lags = l.lags || g.older
		if g.older || g.partial {
			l.away = append(l.away, a.member)
		}
		*g = answer{older: g.older} // nothing of a liar's list is used
		l.useless.unsound++
		l.bad(id, now)
		return nil
	}
	if g.complete {
		if g.empty = len(g.records) == 0 && g.pmap == nil && !g.partial; !g.empty && !g.fresh && g.pmap == nil {
			l.bad(id, now)
		}
		if g.partial {
			l.bad(id, now)                    // it left a question without an answer
			l.away = append(l.away, a.member) // what came is known by then, so that the second time asks for the rest
		}
		return nil
	}
	a.open, a.paged, a.since = true, true, now
	next := l.cfg.Target
	next.Since = g.since
	return []Action{{Kind: ActAsk, Tag: e.Tag, Peer: a.member.Peer, Payload: next.ask(g.after)}}
}

// instead asks another member in place of one that is busy.
func (l *Lookup) instead(now time.Time) []Action {
	if !l.w.mayReplace(now) {
		return nil
	}
	return l.w.send(now, 1, l.payload)
}

// patience is for how long to wait for who is busy: with a good answer in hand for a second one no longer than for the silent.
func (l *Lookup) patience() time.Duration {
	if l.anyFresh() {
		return l.w.timeout
	}
	return busyWait
}

func (l *Lookup) bad(id protocol.ID, now time.Time) { l.cfg.Scores.bad(id, now, l.cfg.Rand) }

// proceed ends the lookup or goes on to the next wave.
func (l *Lookup) proceed(now time.Time) []Action {
	best := l.best()
	if l.enough(best) {
		return l.finish(now, best)
	}
	if l.w.waiting(now) || now.Before(l.pause) {
		return nil
	}
	l.w.expire(now, func(id protocol.ID) { l.bad(id, now) })
	if l.w.count >= 2 && l.anyFresh() {
		return l.finish(now, best)
	}
	for {
		if len(l.w.queue) == 0 && l.w.comeBack(now, l.patience()) {
			return nil
		}
		switch {
		case len(l.w.queue) > 0:
			if l.cfg.Target.single() && l.cfg.Quorum <= readQuorum && l.anyFresh() {
				l.w.size = 1 // only the second word is missing: when one member dies, the others must not get twice its load
			}
			return l.w.next(now, l.payload)
		case l.anyFresh() || l.allEmpty():
			return l.finish(now, best)
		case now.Sub(l.from) < mostReading*l.w.timeout && l.reads(now):
			return nil
		case l.pending:
			l.w.deadline = now.Add(time.Hour) // the driver bounds the question for the map, which is on its way
			return nil
		case !l.general && !l.cfg.NoRefresh:
			l.w.deadline = now.Add(time.Hour)
			return l.ask()
		case !l.again && len(l.away) > 0:
			wait := l.w.timeout / 2
			if l.lags {
				wait = l.w.timeout
			}
			if l.w.queue = l.secondTry(now, wait, l.cfg.Members); len(l.w.queue) > 0 {
				l.w.deadline = l.pause
				return nil
			}
		case !l.step.operators:
			l.step.operators = true
			l.w.queue = l.w.unasked(l.cfg.Operators)
		case l.reads(now):
			return nil
		default:
			return l.finish(now, best)
		}
	}
}

// reads reports whether somebody is giving a list, and waits for his next page.
func (l *Lookup) reads(now time.Time) bool {
	until := l.w.reading(now)
	if until.IsZero() {
		return false
	}
	l.w.deadline = until
	return true
}

// best is the newest sound record of each owner.
func (l *Lookup) best() map[protocol.ID]*protocol.Record {
	best := make(map[protocol.ID]*protocol.Record)
	for _, g := range l.got {
		if !g.complete {
			continue
		}
		for _, r := range g.records {
			// Two of the same version and other bytes: the lower bytes, so that every order of arrival decides alike.
			if o := best[r.Owner]; o == nil || r.Supersedes(o) || r.Conflicts(o) && bytes.Compare(r.Raw(), o.Raw()) < 0 {
				best[r.Owner] = r
			}
		}
	}
	return best
}

func (l *Lookup) enough(best map[protocol.ID]*protocol.Record) bool {
	n := 0
	for _, g := range l.got {
		if !g.complete || g.partial || !g.fresh && !(g.empty && l.cfg.Target.mayBeEmpty()) {
			continue
		}
		if l.cfg.Target.single() && VersionOf(g.records[0]) != VersionOf(best[l.cfg.Target.Key]) {
			continue
		}
		n++
	}
	return n >= max(l.cfg.Quorum, readQuorum)
}

func (l *Lookup) anyFresh() bool {
	for _, g := range l.got {
		if g.complete && !g.partial && (g.fresh || g.empty && l.cfg.Target.mayBeEmpty()) {
			return true
		}
	}
	return false
}

// allEmpty reports whether every member that serves the key has said that there is nothing.
func (l *Lookup) allEmpty() bool {
	said := make(map[protocol.ID]bool)
	for tag, g := range l.got {
		if g.complete && g.empty {
			said[l.w.asks[tag].member.Peer.ID] = true
		}
	}
	for _, m := range l.cfg.Members {
		if !said[m.Peer.ID] {
			return false
		}
	}
	return len(l.cfg.Members) > 0
}

func (l *Lookup) finish(now time.Time, best map[protocol.ID]*protocol.Record) []Action {
	l.done = true
	for tag, g := range l.got {
		if g.pmap != nil && (l.pmap == nil || g.pmap.Epoch() > l.pmap.Epoch()) {
			l.pmap = g.pmap
		}
		for _, r := range g.records {
			// Of an answer that was never completed nothing is among the best.
			if o := best[r.Owner]; o != nil && l.cfg.Target.single() && VersionOf(r).Less(VersionOf(o)) {
				l.bad(l.w.asks[tag].member.Peer.ID, now)
			}
		}
	}
	withdrawn, sound := false, 0
	for _, g := range l.got {
		if g.complete {
			sound++
		}
	}
	for _, r := range best {
		l.newest = append(l.newest, r)
	}
	slices.SortFunc(l.newest, func(a, b *protocol.Record) int { return a.Owner.Compare(b.Owner) })
	for _, r := range l.newest {
		if withdrawn = withdrawn || r.Tombstone; !r.Tombstone {
			l.records = append(l.records, r)
		}
	}
	switch {
	case len(l.records) > 0 || l.anyFresh() && l.cfg.Target.mayBeEmpty():
	// A withdrawal is an answer about its owner; that nobody else is there takes as many as any list.
	case withdrawn && (l.cfg.Target.single() || sound >= min(readQuorum, len(l.cfg.Members))) || l.allEmpty():
		l.err = ErrNotFound
	default:
		u := &l.useless
		l.err = fmt.Errorf("%w: %d of %d asked; %d busy, %d not serving, %d not to be believed", ErrUnreachable, sound, len(l.w.asks), u.busy, u.outside, u.unsound)
	}
	return nil
}
