package sim

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"culvert/dht"
	"culvert/partition"
	"culvert/protocol"
)

// oracle sees everything and holds every answer to what must hold (see the package doc).
type oracle struct {
	s          *Sim
	of         map[mark]*history
	at         map[mark][]mark // by table and lookup key: owners that ever had a record there, in order
	genuine    map[string]bool
	signed     time.Duration // when the last of them was
	violations []string
}

// history is every record that an owner has signed, in order.
type history struct{ tickets []*ticket }

// ticket is one signed record and what became of it.
type ticket struct {
	rec    *protocol.Record
	issued time.Duration
	acked  time.Duration // −1: not (yet)
	clean  bool          // stored at W in ranges of R members of whom none lied meanwhile
	at     []*super      // by whom
}

const (
	maxViolations = 20
	settleTime    = interval + 10*time.Second // a repair interval, and how long a repair itself may take
	margin        = 5 * time.Second           // of clocks
)

func newOracle(s *Sim) *oracle {
	return &oracle{s: s, of: make(map[mark]*history), at: make(map[mark][]mark), genuine: make(map[string]bool)}
}

func (o *oracle) violated(format string, a ...any) {
	line := fmt.Sprintf("at %v: ", o.s.now) + fmt.Sprintf(format, a...)
	if len(o.violations) < maxViolations {
		o.violations = append(o.violations, line)
	}
	o.s.say("VIOLATION %s", line)
}

func (o *oracle) issued(rec *protocol.Record) *ticket {
	m := mark{rec.Table, rec.Owner}
	h := o.of[m]
	if h == nil {
		h = &history{}
		o.of[m] = h
	}
	t := &ticket{rec: rec, issued: o.s.now, acked: -1, clean: true}
	h.tickets = append(h.tickets, t)
	o.genuine[string(rec.Raw())], o.signed = true, o.s.now
	for _, k := range rec.Keys() {
		km := mark{rec.Table, k}
		known := false
		for _, x := range o.at[km] {
			known = known || x == m
		}
		if !known {
			o.at[km] = append(o.at[km], m)
		}
	}
	return t
}

func (o *oracle) acknowledged(t *ticket, by map[*host]bool) {
	t.acked = o.s.now
	for _, k := range t.rec.Keys() {
		l := o.serving(k)
		have := 0
		for _, n := range l {
			if by[n.host] {
				have++
				t.at = append(t.at, n)
			}
		}
		t.clean = t.clean && o.quorate(k, t.issued) && have >= min(2, len(l))
	}
	if o.s.log != nil {
		o.s.say("acknowledged %s of %s, %d (clean: %v)", t.rec.Table, o.s.nameOf(t.rec.Owner), t.rec.Sequence, t.clean)
	}
}

// serving are the machines that serve k by the operator's newest map.
func (o *oracle) serving(k protocol.ID) (l []*super) {
	for _, p := range o.s.op.placed {
		if p.Range.ContainsKey(k) {
			l = append(l, o.s.super(p.ID))
		}
	}
	return l
}

// quorate reports whether K + W > R has held at k since then: few enough members, all of them honest.
func (o *oracle) quorate(k protocol.ID, since time.Duration) bool {
	l := o.serving(k)
	for _, n := range l {
		if n.lying(since) {
			return false
		}
	}
	return len(l) <= partition.Replicas
}

// kept reports whether none of those who stored t has been lost since: who has left the map for good takes his copy along.
func (o *oracle) kept(t *ticket) bool {
	for _, n := range t.at {
		if i := slices.IndexFunc(o.s.op.placed, func(p partition.Placement) bool { return p.ID == n.ident.id }); i < 0 || n.gone || n.wiped > t.acked {
			return false
		}
	}
	return true
}

// calm is since when the members of k have been up and in one piece.
func (o *oracle) calm(k protocol.ID) time.Duration {
	t := o.s.net.whole
	for _, n := range o.serving(k) {
		if !n.up || o.s.net.apart() {
			return o.s.now
		}
		t = max(t, n.since)
	}
	return t
}

// expectation is what an answer to a lookup that begins now is held to.
type expectation struct {
	began time.Duration
	owner []wanted
}

type wanted struct {
	of     mark
	acked  *ticket // newest acknowledged
	settle *ticket // newest that every member has by now
	given  dht.Version
}

func (o *oracle) before(a *agent, t dht.Target) *expectation {
	e := &expectation{began: o.s.now}
	tb := tableOf(t.Kind)
	for _, m := range o.at[mark{tb, t.Key}] {
		w := wanted{of: m, given: a.given[m]}
		calm := o.calm(t.Key)
		for _, x := range o.of[m].tickets {
			if x.acked < 0 {
				continue
			}
			w.acked = x
			if max(x.acked, calm)+settleTime <= o.s.now {
				w.settle = x
			}
		}
		e.owner = append(e.owner, w)
	}
	return e
}

func tableOf(k dht.TargetKind) protocol.Table {
	switch k {
	case dht.FindNode:
		return protocol.TableNode
	case dht.FindDevices:
		return protocol.TableEndDevice
	}
	return protocol.TableNodeInfo
}

// answered judges what came of a lookup.
func (o *oracle) answered(a *agent, t dht.Target, began time.Duration, e *expectation, l *dht.Lookup, x *run) {
	s := o.s
	recs, err := l.Result()
	s.Stats.Waves += x.waves
	switch {
	case err == nil:
		s.Stats.Found++
	case errors.Is(err, dht.ErrNotFound):
		s.Stats.NotFound++
	default:
		s.Stats.Unreachable++
	}
	s.mark('l', a.index, len(recs), uint64(len(x.sound)))
	what := fmt.Sprintf("%s looked for %s (since %v)", a, s.targetName(t), began)
	if s.log != nil {
		s.say("%s: %d records, %d answers, %d time-outs, %v", what, len(recs), len(x.sound), x.waves, err)
	}
	if unreachable(err) {
		return
	}
	honest := x.honest(o.serving(t.Key), began)
	clean := o.quorate(t.Key, began) && honest >= min(2, len(o.serving(t.Key)))
	got := make(map[mark]*protocol.Record)
	for _, r := range l.Newest() { // a withdrawal is an answer as good as any other
		got[mark{r.Table, r.Owner}] = r
		if !o.genuine[string(r.Raw())] {
			o.violated("%s and believed what was never signed, of %s", what, s.nameOf(r.Owner))
		}
	}
	for _, w := range e.owner {
		r := got[w.of]
		// need is what the answer may not be older than.
		var need *ticket
		if honest > 0 {
			need = w.settle
		}
		if w.acked != nil && w.acked.clean && clean && o.kept(w.acked) {
			need = w.acked
		}
		if r != nil {
			v := dht.VersionOf(r)
			if v.Less(w.given) {
				o.violated("%s and was given %d of %s after %d", what, v.Sequence, s.nameOf(w.of.owner), w.given.Sequence)
			}
			if a.given[w.of].Less(v) {
				a.given[w.of] = v
			}
			if need != nil && v.Less(dht.VersionOf(need.rec)) {
				o.violated("%s and was given %d of %s; %d was stored at %v", what, v.Sequence, s.nameOf(w.of.owner), need.rec.Sequence, need.acked)
			}
			continue
		}
		missing := o.missing(t, w, need, errors.Is(err, dht.ErrNotFound) && len(got) == 0)
		// Who has seen a newer one, that the operator alone took, leaves out what members have.
		if missing != nil && !dht.VersionOf(missing.rec).Less(a.reader.marks[w.of]) {
			o.violated("%s and found nothing of %s; %d was acknowledged at %v", what, s.nameOf(w.of.owner), missing.rec.Sequence, missing.acked)
		}
	}
}

// missing is the record that should have been found, if any: acknowledged, alive all the while, at this key, and not withdrawn
// or moved away since.
func (o *oracle) missing(t dht.Target, w wanted, need *ticket, unanimous bool) *ticket {
	x := need
	if unanimous { // all members have said that there is nothing
		x = w.acked
	}
	if x == nil {
		return nil
	}
	for _, y := range o.of[w.of].tickets {
		if !y.rec.Supersedes(x.rec) && y != x {
			continue
		}
		if y.rec.Tombstone || !y.rec.HasKey(t.Key) {
			return nil
		}
		if !o.s.time().Add(margin).Before(y.rec.Expires) && y == x {
			return nil
		}
	}
	return x
}
