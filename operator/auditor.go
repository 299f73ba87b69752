package operator

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"culvert/operator/care"
	"culvert/operator/registry"
	"culvert/operator/sqlite"
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
	// maxSpies bounds in how many domains there are spies; questions go to these domains alone.
	maxSpies = 256
)

// auditor asks super-nodes as their domains' nodes would, and has those isolated that do not serve what they should.
type auditor struct {
	o     *Operator
	spies *spies

	mu    sync.Mutex
	audit *care.Audit
}

func newAuditor(o *Operator) *auditor {
	return &auditor{
		o: o, spies: &spies{o: o, of: make(map[protocol.Domain]spy)},
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
		members := a.o.audited(pmap)
		a.mu.Lock()
		a.audit.SetMembers(now, members)
		due, findings := a.audit.Due(now), a.audit.Findings(now)
		a.mu.Unlock()
		for _, t := range due {
			g.Go(func() error {
				v := care.Busy // where there is nothing to ask for, nothing is said
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
			if err := a.o.isolate(ctx, f.ID, f.Reason); err != nil && ctx.Err() == nil {
				a.o.log.Error("isolate a super-node", "node", f.ID, "error", err)
			}
		}
	})
}

// question runs one task of the audit.
func (a *auditor) question(ctx context.Context, mesh Mesh, pmap *partition.Map, mem partition.Member, t *care.Task) care.Verdict {
	ctx, cancel := context.WithTimeout(ctx, spyTimeout*spyTries)
	defer cancel()
	switch t.Step {
	case care.Ask:
		r, ok, err := a.pickStatic(ctx, mem)
		if err != nil || !ok {
			return care.Busy
		}
		t.Subject = care.Subject{Name: fmt.Sprintf("%s %s", r.Table, r.Owner.Short()), Record: r.Raw(), Signed: true}
		if rand.IntN(4) == 0 { // at times where a node is: there is another's word only
			if s, v, ok := a.compare(ctx, mesh, pmap, mem, r.Owner.Domain()); ok {
				t.Subject = s
				return v
			}
		}
	case care.Hand:
		return a.handOver(ctx, mesh, mem, t.Subject.Record)
	}
	r, err := protocol.ParseRecord(t.Subject.Record)
	if err != nil {
		return care.Busy
	}
	return a.askFor(ctx, mesh, mem, r)
}

// pickStatic draws a record that the operator signed a while ago and that the super-node serves.
func (a *auditor) pickStatic(ctx context.Context, mem partition.Member) (r *protocol.Record, ok bool, err error) {
	now := a.o.now()
	err = a.o.db.View(ctx, func(tx *sqlite.Tx) error {
		ds, err := tx.Domains()
		if err != nil || len(ds) == 0 {
			return err
		}
		ds = slices.DeleteFunc(ds[:min(len(ds), maxSpies)], func(d registry.Domain) bool {
			low, high := protocol.NewID(d.Number, protocol.Hash{}).Position(), protocol.NewID(d.Number, lastHash).Position()
			_, in := mem.Range.Intersect(partition.Range{From: low, To: high})
			return d.Banned || !in
		})
		if len(ds) == 0 {
			return nil
		}
		d := ds[rand.IntN(len(ds))]
		table := [...]protocol.Table{protocol.TableNode, protocol.TableEndDevice}[rand.IntN(2)]
		rows, err := tx.Records(table, protocol.NewID(d.Number, randomHash()), now, 16)
		for _, row := range rows {
			rec, err := protocol.ParseRecord(row.Raw)
			if err != nil {
				return err
			}
			if rec.Owner.Domain() != d.Number || rec.Tombstone || !mem.Range.ContainsKey(rec.Owner) || now.Sub(rec.Issued) < care.Settled {
				continue
			}
			if n, err := tx.Node(rec.Owner); err == nil && !n.Revoked.IsZero() {
				continue
			}
			r, ok = rec, true
			return nil
		}
		return err
	})
	return r, ok, err
}

var lastHash = func() (h protocol.Hash) {
	for i := range h {
		h[i] = 0xff
	}
	return h
}()

func randomHash() (h protocol.Hash) {
	for i := range h {
		h[i] = byte(rand.Uint32())
	}
	return h
}

// audited are the super-nodes of a map that serve a range.
func (o *Operator) audited(pmap *partition.Map) []care.Member {
	var ms []care.Member
	for _, m := range pmap.Members() {
		if m.Peer.ID != o.id && m.Domain != protocol.OperatorDomain && m.Range.Valid() {
			alive, _, _ := o.watcher.state(m.Peer.ID)
			ms = append(ms, care.Member{ID: m.Peer.ID, Alive: alive, Isolated: m.Isolated})
		}
	}
	return ms
}
