package operator

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"culvert/operator/care"
	"culvert/operator/sqlite"
	"culvert/partition"
	"culvert/protocol"
)

// askAs asks in the name of a spy of the record's domain, a few times: a lost datagram is nobody's fault.
func (a *auditor) askAs(ctx context.Context, mesh Mesh, d protocol.Domain, to protocol.Peer, p protocol.Payload) (*protocol.Verified, error) {
	s, err := a.spies.get(ctx, d)
	if err != nil {
		return nil, err
	}
	if rand.IntN(asideOf) == 0 { // who only ever asks for records is no agent
		asides := [...]protocol.Payload{protocol.GetSuperNodes{Epoch: a.epoch.Load()}, protocol.GetRevocations{}, protocol.Ping{}}
		cctx, cancel := context.WithTimeout(ctx, spyTimeout)
		_, _ = mesh.AskAs(cctx, s.keys, s.record, to, asides[rand.IntN(len(asides))]) // what it says is of no interest
		cancel()
	}
	for range spyTries {
		var v *protocol.Verified
		cctx, cancel := context.WithTimeout(ctx, spyTimeout)
		v, err = mesh.AskAs(cctx, s.keys, s.record, to, p)
		cancel()
		if err == nil || ctx.Err() != nil {
			return v, err
		}
	}
	return nil, err
}

// askFor asks for r and judges the answer.
func (a *auditor) askFor(ctx context.Context, mesh Mesh, mem partition.Member, r *protocol.Record) care.Verdict {
	q, ok := questionFor(mem.Range, r)
	if !ok {
		return care.Nothing
	}
	got, v := a.fetch(ctx, mesh, mem, r.Table, r.Owner, q)
	switch {
	case v != care.Sound:
		return v
	case got == nil:
		return care.Missing
	case r.Supersedes(got):
		return care.Stale
	}
	return care.Sound
}

// question is one of the ways in which agents ask for a record.
type question struct {
	protocol.Payload
	key  protocol.ID
	many bool // others may be in the answer too
}

// questionFor draws one of those whose answer lies in rng.
func questionFor(rng partition.Range, r *protocol.Record) (question, bool) {
	d := r.Owner.Domain()
	var l []question
	add := func(q question) {
		if rng.ContainsKey(q.key) {
			l = append(l, q)
		}
	}
	switch r.Table {
	case protocol.TableEndDevice:
		add(question{protocol.GetEndDevices{Key: r.Owner}, r.Owner, false})
		for _, h := range r.Lookups {
			k := protocol.NewID(d, h)
			add(question{protocol.GetEndDevices{Key: k}, k, true})
		}
		if all := domainSpan(d); rng.Contains(all.From) && rng.Contains(all.To) { // in a part of a domain, a part of its devices
			k := protocol.NewID(d, protocol.Hash{})
			add(question{protocol.GetEndDevices{Key: k, After: before(r.Owner)}, k, true})
		}
	case protocol.TableNodeInfo:
		add(question{protocol.GetNodeInfo{ID: r.Owner}, r.Owner, false})
		for _, h := range r.Lookups {
			k := protocol.NewID(d, h)
			add(question{protocol.GetTunnelNodes{Location: k, After: before(r.Owner)}, k, true})
		}
	default:
		add(question{protocol.GetNode{ID: r.Owner}, r.Owner, false})
	}
	if len(l) == 0 {
		return question{}, false
	}
	return l[rand.IntN(len(l))], true
}

// before is the ID next below id.
func before(id protocol.ID) protocol.ID {
	for i := len(id) - 1; i >= 0; i-- {
		if id[i]--; id[i] != 0xff {
			break
		}
	}
	return id
}

// fetch asks for one record; nil is what the super-node says that it does not have.
func (a *auditor) fetch(ctx context.Context, mesh Mesh, mem partition.Member, t protocol.Table, owner protocol.ID, q question) (*protocol.Record, care.Verdict) {
	v, err := a.askAs(ctx, mesh, owner.Domain(), mem.Peer, q.Payload)
	if err != nil {
		return nil, care.Unanswered
	}
	switch v.Command {
	case protocol.CmdBusy:
		return nil, care.Busy
	case protocol.CmdWrongRange:
		return nil, a.denied(ctx, mem.Peer.ID, q.key)
	case q.Payload.Command() + 1:
	default:
		return nil, care.Unsound
	}
	var raws [][]byte
	if t == protocol.TableNode {
		n, err := protocol.ParseNode(v.Payload)
		if err != nil {
			return nil, care.Unsound
		}
		if len(n.Record) > 0 {
			raws = append(raws, n.Record)
		}
	} else {
		l, err := protocol.ParseRecordList(v.Payload)
		if err != nil {
			return nil, care.Unsound
		}
		raws = l.Records
	}
	for _, raw := range raws {
		r, err := protocol.ParseRecord(raw)
		if err != nil || r.Table != t || r.Owner.Domain() != owner.Domain() || r.Owner != owner && !q.many {
			return nil, care.Unsound
		}
		if r.Owner != owner {
			continue
		}
		switch err := a.proves(ctx, r); {
		case errors.Is(err, protocol.ErrRecordExpired): // its clock is behind, or the answer was on its way: as if there were none
			return nil, care.Sound
		case err != nil:
			return nil, care.Unsound
		}
		return r, care.Sound
	}
	return nil, care.Sound
}

// denied judges WrongRange. It counts where the newest map has had the super-node serve the key for so long that it must know, whatever
// map it claims to go by, and that it must have what those hold who served before.
func (a *auditor) denied(ctx context.Context, id, key protocol.ID) care.Verdict {
	pmap, err := a.o.mapNow(ctx)
	if err != nil || pmap == nil {
		return care.Nothing
	}
	mem, ok := pmap.Member(id)
	if !ok || !mem.Range.ContainsKey(key) {
		return care.Nothing
	}
	r, err := protocol.ParseRecord(mem.Record)
	if err != nil || a.o.now().Sub(r.Issued) < care.Settled {
		return care.Nothing
	}
	return care.Denied
}

// proves reports whether r was signed by who may write it.
func (a *auditor) proves(ctx context.Context, r *protocol.Record) error {
	now := a.o.now()
	switch r.Table {
	case protocol.TableNode:
		if r.Tombstone {
			return a.o.trust.CheckStatic(r, now)
		}
		_, err := a.o.trust.CheckNode(r.Raw(), now)
		return err
	case protocol.TableNodeInfo:
		var cert *protocol.Record
		err := a.o.db.View(ctx, func(tx *sqlite.Tx) (err error) {
			var found bool
			if cert, found, err = a.o.current(tx, protocol.TableNode, r.Owner); err == nil && !found {
				err = sqlite.ErrNotFound
			}
			return err
		})
		if err != nil {
			return err
		}
		n, err := a.o.trust.CheckNode(cert.Raw(), now)
		if err != nil {
			return err
		}
		return protocol.CheckOwned(r, n, now)
	}
	return a.o.trust.CheckStatic(r, now)
}

// compare asks two that share a range where a node of the domain is. ok is false where that says nothing about mem.
func (a *auditor) compare(ctx context.Context, mesh Mesh, pmap *partition.Map, mem partition.Member, d protocol.Domain) (s care.Subject, v care.Verdict, ok bool) {
	now := a.o.now()
	start, ok := drawStart(mem.Range, d)
	if !ok {
		return s, 0, false
	}
	var owner protocol.ID
	err := a.o.db.View(ctx, func(tx *sqlite.Tx) error {
		ns, err := tx.Nodes(d, start, 1)
		if err == nil && len(ns) > 0 && ns[0].Revoked.IsZero() && ns[0].Expires.Sub(now) >= lasting {
			owner = ns[0].ID
		}
		return err
	})
	if err != nil || owner.IsZero() || !mem.Range.ContainsKey(owner) {
		return s, 0, false
	}
	others := slices.DeleteFunc(slices.Clone(pmap.Serving(owner)), func(m partition.Member) bool {
		return m.Peer.ID == mem.Peer.ID || m.Peer.ID == a.o.id
	})
	if len(others) == 0 {
		return s, 0, false
	}
	other, v := a.fetch(ctx, mesh, others[rand.IntN(len(others))], protocol.TableNodeInfo, owner, question{protocol.GetNodeInfo{ID: owner}, owner, false})
	if v != care.Sound || other == nil || now.Sub(other.Issued) < care.Settled || other.Expires.Sub(now) < lasting || other.Tombstone {
		return s, 0, false
	}
	s = care.Subject{Name: fmt.Sprintf("%s %s", other.Table, owner.Short()), Record: other.Raw()}
	return s, a.askFor(ctx, mesh, mem, other), true
}

// handOver stores a record there as any node of the domain might.
func (a *auditor) handOver(ctx context.Context, mesh Mesh, mem partition.Member, raw []byte) care.Verdict {
	r, err := protocol.ParseRecord(raw)
	if err != nil {
		return care.Nothing
	}
	q, ok := questionFor(mem.Range, r)
	if !ok {
		return care.Nothing
	}
	key := q.key
	if key.Hash().IsZero() { // a list of all is nothing that one stores under
		key = r.Owner
	}
	v, err := a.askAs(ctx, mesh, r.Owner.Domain(), mem.Peer, protocol.Put{Key: key, Record: raw})
	if err != nil {
		return care.Unanswered
	}
	switch v.Command {
	case protocol.CmdBusy:
		return care.Busy
	case protocol.CmdWrongRange:
		return a.denied(ctx, mem.Peer.ID, key)
	case protocol.CmdStored:
	default:
		return care.Unsound
	}
	st, err := protocol.ParseStored(v.Payload)
	if err != nil {
		return care.Unsound
	}
	switch st.Status {
	case protocol.StatusOK:
		return care.Sound
	case protocol.StatusSuperseded:
		return care.Newer
	case protocol.StatusInternal, protocol.StatusLimit, protocol.StatusQuota:
		return care.Busy
	case protocol.StatusExpired, protocol.StatusRevoked:
		return care.Nothing
	}
	return care.Refused
}
