package operator

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"culvert/dht"
	"culvert/operator/care"
	"culvert/partition"
	"culvert/protocol"

	"golang.org/x/sync/errgroup"
)

const (
	// spyTimeout bounds one question; it is asked spyTries times.
	spyTimeout = 4 * time.Second
	spyTries   = 3
	spyWorkers = 64
	auditTick  = time.Second
	// aloneFor is how long the isolation of one who serves alone waits for somebody else, at most.
	aloneFor = 5 * time.Minute
	// lasting is for how long a record must still be good for its absence to say anything: clocks differ.
	lasting = dht.MaxSkew + spyTimeout*spyTries
)

// auditor asks super-nodes as their domains' nodes would, and has those isolated that do not serve what they should.
type auditor struct {
	o     *Operator
	spies *spies

	// Of the loop alone: who shares a range with whom by that map, and whose isolation waits since when.
	sharing   map[protocol.ID][]protocol.ID
	sharingOf *partition.Map
	alone     map[protocol.ID]time.Time

	epoch atomic.Uint64 // of the map, as spies know it

	mu    sync.Mutex
	audit *care.Audit

	drawn    sync.Mutex
	domains  []protocol.Domain // in an order that only this operator knows
	listedAt time.Time
}

func newAuditor(o *Operator) *auditor {
	return &auditor{
		o: o, spies: &spies{o: o, of: make(map[protocol.Domain]spy)}, alone: make(map[protocol.ID]time.Time),
		audit: care.NewAudit(rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))),
	}
}

func (a *auditor) score(id protocol.ID) care.Score {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.audit.Score(a.o.now(), id)
}

func (a *auditor) run(ctx context.Context, mesh Mesh) {
	var g errgroup.Group
	defer func() { _ = g.Wait() }() // tasks report to the audit
	g.SetLimit(spyWorkers)
	a.o.whileLeading(ctx, auditTick, func(now time.Time) {
		pmap, err := a.o.mapNow(ctx)
		if err != nil || pmap == nil {
			return
		}
		members := a.audited(pmap)
		a.mu.Lock()
		a.audit.SetMembers(now, members)
		due, findings := a.audit.Due(now), a.audit.Findings(now)
		a.mu.Unlock()
		a.epoch.Store(pmap.Epoch())
		for _, d := range a.spies.announceDue(now) {
			g.Go(func() error {
				if err := a.announce(ctx, mesh, pmap, d); err != nil && ctx.Err() == nil {
					a.o.log.Debug("a spy does not announce itself", "domain", d, "error", err)
				}
				return nil
			})
		}
		for _, t := range due {
			g.Go(func() error {
				v := care.Nothing
				if mem, ok := pmap.Member(t.Member); ok {
					v = a.question(ctx, mesh, pmap, mem, &t)
				}
				a.mu.Lock()
				defer a.mu.Unlock()
				a.audit.Finished(a.o.now(), t, v)
				return nil
			})
		}
		for _, f := range findings {
			if !a.othersServe(pmap, f, now) {
				continue
			}
			if err := a.o.isolate(ctx, f.ID, f.Reason); err != nil && ctx.Err() == nil {
				a.o.log.Error("isolate a super-node", "node", f.ID, "error", err)
			}
		}
	})
}

// othersServe reports whether somebody else serves all that the one found does. If nobody does it goes on for a while: the operator is
// about to fill that range, and would have to serve it without what only this one has.
func (a *auditor) othersServe(pmap *partition.Map, f care.Finding, now time.Time) bool {
	mem, ok := pmap.Member(f.ID)
	alone := false
	for _, part := range pmap.Parts(mem.Range) {
		alone = alone || !slices.ContainsFunc(part.Serving, func(m partition.Member) bool { return m.Peer.ID != f.ID })
	}
	since, waits := a.alone[f.ID]
	switch {
	case !ok || !alone:
		delete(a.alone, f.ID)
		return true
	case !waits:
		a.alone[f.ID] = now
		a.o.log.Warn("a super-node is to be isolated and nobody else serves its range yet", "node", f.ID, "reason", f.Reason)
		return false
	case now.Sub(since) < aloneFor:
		return false
	}
	delete(a.alone, f.ID)
	return true
}

// question runs one task of the audit.
func (a *auditor) question(ctx context.Context, mesh Mesh, pmap *partition.Map, mem partition.Member, t *care.Task) care.Verdict {
	ctx, cancel := context.WithTimeout(ctx, spyTimeout*spyTries)
	defer cancel()
	switch t.Step {
	case care.Ask:
		r, ok, err := a.pickStatic(ctx, mem)
		if err != nil || !ok {
			return care.Nothing
		}
		t.Subject = care.Subject{Name: fmt.Sprintf("%s %s", r.Table, r.Owner.Short()), Record: r.Raw(), Signed: true}
		switch rand.IntN(4) {
		case 0: // where the spy itself is
			if own, certain := a.spies.own(r.Owner.Domain(), mem.Peer.ID, a.o.now()); own != nil {
				if _, in := questionFor(mem.Range, own); in {
					t.Subject = care.Subject{Name: fmt.Sprintf("%s %s", own.Table, own.Owner.Short()), Record: own.Raw(), Signed: certain}
				}
			}
		case 1: // where a node is: there is another's word only
			if s, v, ok := a.compare(ctx, mesh, pmap, mem, r.Owner.Domain()); ok {
				t.Subject = s
				return v
			}
		}
	}
	r, err := protocol.ParseRecord(t.Subject.Record)
	if err != nil || r.Expires.Sub(a.o.now()) < lasting {
		return care.Nothing
	}
	if t.Step == care.Hand {
		return a.handOver(ctx, mesh, mem, t.Subject.Record)
	}
	return a.askFor(ctx, mesh, mem, r)
}

// audited are the super-nodes of a map that serve a range.
func (a *auditor) audited(pmap *partition.Map) []care.Member {
	is := func(m partition.Member) bool {
		return m.Peer.ID != a.o.id && m.Domain != protocol.OperatorDomain && m.Range.Valid()
	}
	if a.sharingOf != pmap {
		a.sharing, a.sharingOf = make(map[protocol.ID][]protocol.ID), pmap
		for _, m := range pmap.Members() {
			for _, o := range pmap.Sharing(m.Range) {
				if is(m) && is(o) && o.Peer.ID != m.Peer.ID && !o.Isolated {
					a.sharing[m.Peer.ID] = append(a.sharing[m.Peer.ID], o.Peer.ID)
				}
			}
		}
	}
	var ms []care.Member
	for _, m := range pmap.Members() {
		if is(m) {
			alive, _, _ := a.o.watcher.state(m.Peer.ID)
			ms = append(ms, care.Member{ID: m.Peer.ID, Alive: alive, Isolated: m.Isolated, Peers: a.sharing[m.Peer.ID]})
		}
	}
	return ms
}
