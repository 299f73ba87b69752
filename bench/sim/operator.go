package sim

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"culvert/operator/care"
	"culvert/partition"
	"culvert/protocol"
)

// operator signs the map and static records and sees that they arrive: what package operator does around the planner, with its
// intervals, but with its database in memory that no crash takes away.
type operator struct {
	s    *Sim
	node *super

	candidates []*candidate // in the order in which they came
	placed     []partition.Placement
	epoch      uint64
	pmap       *partition.Map
	mapped     time.Duration // when it was signed
	again      uint64        // the last epoch that was planned on from once its members had served for a while
	sequence   map[protocol.ID]uint64
	records    map[protocol.ID][]byte // SuperNode records that are no tombstones
	newest     map[mark][]byte        // what it has signed
	owners     []mark                 // whose, in order
	outbox     []*publication
	waiting    bool
	pause      time.Duration
	care       *care.HandOver
	watch      *care.Watch
	audit      *care.Audit // nil where there is none
	spies      map[protocol.Domain]spy
	whole      bool // instead of the planner: everybody serves everything
}

type candidate struct {
	partition.Candidate
	host     *host
	in       bool
	isolated bool
	alive    bool

	isolatedAt  time.Duration
	reason      string
	stalls      int
	pausedUntil time.Duration
}

// publication is a record on its way to those who keep it.
type publication struct {
	rec       *protocol.Record
	ticket    *ticket
	head      bool // of a map
	confirmed map[*host]bool
	running   bool
}

// seasoning is for how long one must have served to be relied upon at a split.
const seasoning = 10 * time.Second

const (
	pushTimeout = 15 * time.Second
	firstPause  = time.Second
	lastPause   = 30 * time.Second
	staticLife  = 30 * 24 * time.Hour
)

func (s *Sim) newOperator() *operator {
	o := &operator{s: s, sequence: make(map[protocol.ID]uint64), records: make(map[protocol.ID][]byte), newest: make(map[mark][]byte), pause: firstPause, watch: care.NewWatch()}
	s.op = o
	o.node = s.newSuper("operator", s.world.operator)
	o.replan(nil)
	o.loops()
	return o
}

func (o *operator) loops() {
	o.care = care.NewHandOver()
	o.node.timer(watchEvery, o.watchRound)
	o.node.timer(care.HandOverTick, o.handOver)
	if o.audit != nil {
		o.node.timer(auditTick, o.auditRound)
	}
}

// restart is the operator's process coming back.
func (o *operator) restart() {
	o.node.start()
	if _, err := o.node.server.Apply(context.Background(), o.node.clock(), o.signed()); err != nil { // node.db may have lost some
		panic(err)
	}
	o.waiting = false
	for _, p := range o.outbox {
		p.running = false
	}
	o.loops()
	o.push()
}

// signed are the newest records of all owners, in the order in which they were signed first.
func (o *operator) signed() (l [][]byte) {
	for _, m := range o.owners {
		l = append(l, o.newest[m])
	}
	return l
}

// submitted takes an offer.
func (o *operator) submitted(v *protocol.Verified) []protocol.Out {
	h := o.s.find(v.Sender)
	i := slices.IndexFunc(o.candidates, func(c *candidate) bool { return c.host == h })
	if i < 0 {
		o.candidates = append(o.candidates, &candidate{host: h, Candidate: o.candidate(h)})
		i = len(o.candidates) - 1
	}
	if c := o.candidates[i]; !c.in {
		c.in = true
		o.node.timer(0, func() { o.replan(nil) })
	}
	return protocol.Reply(protocol.SuperNodeSubmitted{})
}

// leave takes a super-node out.
func (o *operator) leave(h *host) {
	for _, c := range o.candidates {
		if c.host == h && c.in {
			c.in = false
			o.node.timer(0, func() { o.replan(nil) })
		}
	}
}

// maxSteps bounds how many plans follow one another at once.
const maxSteps = 16

// state is what the planner starts from.
func (o *operator) state() partition.State {
	s := partition.State{Operator: o.candidate(o.node.host), Served: make(map[protocol.ID]partition.Range)}
	for _, c := range o.candidates {
		s.Served[c.ID] = partition.None()
	}
	for _, p := range o.placed {
		if o.node.clock().Sub(must(o.records[p.ID]).Issued) >= seasoning {
			s.Served[p.ID] = p.Range
		}
		if !p.Isolated {
			s.Present = append(s.Present, p)
		}
	}
	for _, c := range o.candidates {
		if c.in && !c.isolated {
			k := c.Candidate
			k.Paused = o.s.now < c.pausedUntil
			s.Supers = append(s.Supers, k)
		}
	}
	for i := range o.s.weights {
		s.Load = append(s.Load, partition.DomainLoad{Domain: domainOf(i), Weight: uint64(o.s.weights[i])})
	}
	return s
}

// replan signs the next map if there is anything to change; filled are those that have been proven to hold what they fill.
func (o *operator) replan(filled map[protocol.ID]bool) {
	s := o.state()
	s.Filled = filled
	var aside []partition.Placement
	for _, c := range o.candidates { // the isolated keep what they had: spies are to find them as they were
		for _, p := range o.placed {
			if c.in && c.isolated && p.ID == c.ID && p.Range.Valid() {
				aside = append(aside, partition.Placement{Candidate: c.Candidate, Range: p.Range, Fill: partition.None(), Isolated: true})
			}
		}
	}
	if o.whole {
		s.Present = nil
		for _, c := range append(s.Supers, s.Operator) {
			if c.ID != s.Operator.ID || len(s.Supers) < partition.Replicas {
				s.Present = append(s.Present, partition.Placement{Candidate: c, Range: partition.Whole(), Fill: partition.None()})
			}
		}
		o.sign(s.Present)
		return
	}
	for range maxSteps {
		next := partition.Next(s, o.s.rand)
		same := slices.EqualFunc(next, s.Present, func(x, y partition.Placement) bool {
			return x.ID == y.ID && x.Range == y.Range && x.Fill == y.Fill
		})
		if s.Present, s.Filled = next, nil; same {
			break
		}
	}
	o.sign(append(s.Present, aside...))
}

func (o *operator) candidate(h *host) partition.Candidate {
	return partition.Candidate{
		ID: h.ident.id, Signing: h.ident.keys.Signing.Public(), Sealing: h.ident.keys.Sealing.Public(),
		Addresses: []netip.AddrPort{address(h.index)},
	}
}

// sign makes the placements the next map: entries that changed, tombstones for those who left, a head that holds them together.
func (o *operator) sign(placed []partition.Placement) {
	same := func(a, b partition.Placement) bool {
		return a.ID == b.ID && a.Range == b.Range && a.Fill == b.Fill && a.Isolated == b.Isolated && slices.Equal(a.Addresses, b.Addresses)
	}
	if o.epoch > 0 && slices.EqualFunc(placed, o.placed, same) {
		return
	}
	o.epoch++
	o.mapped = o.s.now
	o.s.Stats.Epochs++
	now := o.node.clock()
	record := func(t protocol.Table, owner protocol.ID, tomb bool, v any) []byte {
		o.sequence[owner]++
		return o.s.world.static(protocol.Record{
			Table: t, Tombstone: tomb, Owner: owner, Epoch: 1, Sequence: o.sequence[owner], Issued: now, Expires: now.Add(staticLife),
		}, v)
	}
	var out [][]byte
	for _, p := range placed {
		i := slices.IndexFunc(o.placed, func(q partition.Placement) bool { return q.ID == p.ID })
		if i >= 0 && same(p, o.placed[i]) {
			continue
		}
		o.records[p.ID] = record(protocol.TableSuperNode, p.ID, false, p.Value(o.epoch))
		out = append(out, o.records[p.ID])
		o.s.say("map %d: %s serves %s, fills %s", o.epoch, o.s.find(p.ID), words(p.Range), words(p.Fill))
	}
	for _, q := range o.placed {
		if !slices.ContainsFunc(placed, func(p partition.Placement) bool { return p.ID == q.ID }) {
			delete(o.records, q.ID)
			out = append(out, record(protocol.TableSuperNode, q.ID, true, protocol.SuperNodeValue{MapEpoch: o.epoch}))
			o.s.say("map %d: %s is out", o.epoch, o.s.find(q.ID))
		}
	}
	o.placed = placed
	var members [][]byte
	for _, p := range placed {
		members = append(members, o.records[p.ID])
	}
	hv, err := partition.Head(o.epoch, members)
	if err != nil {
		panic(err)
	}
	head := record(protocol.TableMapHead, partition.HeadOwner(o.node.reader.trust.Root()), false, hv)
	out = append(out, head)
	if o.pmap, err = partition.Build(head, members, func(*protocol.Record) error { return nil }); err != nil {
		panic(err)
	}
	for _, raw := range out {
		o.publish(raw, nil)
	}
}

// device registers or changes an end-device.
func (o *operator) device(d protocol.Domain, n int) {
	if !o.node.up {
		return
	}
	owner := protocol.NewID(d, hashOf("device %d", n))
	o.sequence[owner]++
	now := o.node.clock()
	raw := o.s.world.static(protocol.Record{
		Table: protocol.TableEndDevice, Owner: owner, Epoch: 1, Sequence: o.sequence[owner], Issued: now, Expires: now.Add(staticLife),
		Lookups: []protocol.Hash{hashOf("name of device %d", n)},
	}, value(o.sequence[owner]))
	o.publish(raw, o.s.oracle.issued(must(raw)))
}
