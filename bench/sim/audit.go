package sim

import (
	"slices"
	"time"

	"culvert/operator/care"
	"culvert/partition"
	"culvert/protocol"
)

const (
	auditTick  = time.Second
	spyTimeout = 4 * time.Second
	spyTries   = 3
)

// spy is the operator's node among the nodes of a domain.
type spy struct{ *host }

// startAudit has spies of these domains ask from now on.
func (o *operator) startAudit(domains int) {
	o.audit = care.NewAudit(o.s.source())
	o.spies = make(map[protocol.Domain]spy)
	for i := range domains {
		id := o.s.world.node(domainOf(i), "spy")
		o.spies[domainOf(i)] = spy{o.s.newHost("spy of "+domainOf(i).String(), id)}
		o.publish(id.record, o.s.oracle.issued(must(id.record)))
	}
	o.node.timer(auditTick, o.auditRound)
}

// auditRound does what package operator's auditor does: the questions that are due are asked, and who is found wanting isolated.
func (o *operator) auditRound() {
	o.node.timer(auditTick, o.auditRound)
	now := o.node.clock()
	var ms []care.Member
	for _, m := range o.pmap.Members() {
		if c := o.known(m.Peer.ID); c != nil && m.Range.Valid() {
			cm := care.Member{ID: m.Peer.ID, Alive: c.alive, Isolated: m.Isolated}
			for _, id := range o.sharing(m.Peer.ID) {
				if o.known(id) != nil {
					cm.Peers = append(cm.Peers, id)
				}
			}
			ms = append(ms, cm)
		}
	}
	o.audit.SetMembers(now, ms)
	for _, t := range o.audit.Due(now) {
		o.question(t, func(t care.Task, v care.Verdict) { o.audit.Finished(o.node.clock(), t, v) })
	}
	for _, f := range o.audit.Findings(now) {
		c := o.known(f.ID)
		c.isolated, c.isolatedAt, c.reason = true, o.s.now, f.Reason
		o.s.say("operator: isolates %s: %s", c.host, f.Reason)
		o.replan(nil)
	}
}

func (o *operator) known(id protocol.ID) *candidate {
	if i := slices.IndexFunc(o.candidates, func(c *candidate) bool { return c.ID == id }); i >= 0 {
		return o.candidates[i]
	}
	return nil
}

// question runs one task of the audit.
func (o *operator) question(t care.Task, end func(care.Task, care.Verdict)) {
	mem, ok := o.pmap.Member(t.Member)
	if !ok {
		end(t, care.Nothing)
		return
	}
	switch t.Step {
	case care.Ask:
		r := o.pickStatic(mem)
		if r == nil {
			end(t, care.Nothing)
			return
		}
		t.Subject = care.Subject{Name: r.Table.String(), Record: r.Raw(), Signed: true}
		static := func() { o.askFor(mem, r, func(v care.Verdict) { end(t, v) }) }
		if o.s.rand.IntN(4) != 0 {
			static()
			return
		}
		o.compare(mem, r.Owner.Domain(), static, func(s care.Subject, v care.Verdict) { // there is another's word only
			t.Subject = s
			end(t, v)
		})
	case care.Hand:
		o.handRecord(mem, must(t.Subject.Record), func(v care.Verdict) { end(t, v) })
	default:
		o.askFor(mem, must(t.Subject.Record), func(v care.Verdict) { end(t, v) })
	}
}

// pickStatic draws a record that the operator signed a while ago and that mem serves.
func (o *operator) pickStatic(mem partition.Member) *protocol.Record {
	var l []*protocol.Record
	for _, m := range o.owners {
		if m.table != protocol.TableNode && m.table != protocol.TableEndDevice || !mem.Range.ContainsKey(m.owner) {
			continue
		}
		if _, ok := o.spies[m.owner.Domain()]; !ok {
			continue
		}
		if r := must(o.newest[m]); o.s.time().Sub(r.Issued) >= care.Settled {
			l = append(l, r)
		}
	}
	if len(l) == 0 {
		return nil
	}
	return l[o.s.rand.IntN(len(l))]
}

// askAs asks in the name of a spy, a few times: a lost datagram is nobody's fault.
func (o *operator) askAs(d protocol.Domain, to protocol.ID, p protocol.Payload, end func(c protocol.Command, payload []byte, ok bool)) {
	tries := 0
	var again func()
	again = func() {
		o.spies[d].ask(to, p, spyTimeout, func(c protocol.Command, payload []byte, ok bool) {
			if tries++; !ok && tries < spyTries {
				again()
				return
			}
			end(c, payload, ok)
		})
	}
	again()
}

// askFor asks for r and judges the answer.
func (o *operator) askFor(mem partition.Member, r *protocol.Record, end func(care.Verdict)) {
	o.fetch(mem, r.Table, r.Owner, func(got *protocol.Record, v care.Verdict) {
		switch {
		case v != care.Sound:
		case got == nil:
			v = care.Missing
		case r.Supersedes(got):
			v = care.Stale
		}
		end(v)
	})
}

// fetch asks for one record; nil is what the super-node says that it does not have.
func (o *operator) fetch(mem partition.Member, t protocol.Table, owner protocol.ID, end func(*protocol.Record, care.Verdict)) {
	var p protocol.Payload = protocol.GetNode{ID: owner}
	switch t {
	case protocol.TableEndDevice:
		p = protocol.GetEndDevices{Key: owner}
	case protocol.TableNodeInfo:
		p = protocol.GetNodeInfo{ID: owner}
	}
	o.askAs(owner.Domain(), mem.Peer.ID, p, func(c protocol.Command, payload []byte, ok bool) {
		switch {
		case !ok:
			end(nil, care.Unanswered)
			return
		case c == protocol.CmdBusy:
			end(nil, care.Busy)
			return
		case c == protocol.CmdWrongRange:
			end(nil, o.denied(mem.Peer.ID, owner))
			return
		case c != p.Command()+1:
			end(nil, care.Unsound)
			return
		}
		raw, err := onlyRecord(t, payload)
		if err != nil {
			end(nil, care.Unsound)
			return
		}
		if len(raw) == 0 {
			end(nil, care.Sound)
			return
		}
		r, err := protocol.ParseRecord(raw)
		if err != nil || r.Table != t || r.Owner != owner || o.proves(r) != nil {
			end(nil, care.Unsound)
			return
		}
		end(r, care.Sound)
	})
}

// denied judges WrongRange: it counts where the super-node must know that it serves the key, and have what is there.
func (o *operator) denied(id, key protocol.ID) care.Verdict {
	mem, ok := o.pmap.Member(id)
	if !ok || !mem.Range.ContainsKey(key) || o.s.time().Sub(must(mem.Record).Issued) < care.Settled {
		return care.Nothing
	}
	return care.Denied
}

func onlyRecord(t protocol.Table, payload []byte) ([]byte, error) {
	if t == protocol.TableNode {
		n, err := protocol.ParseNode(payload)
		return n.Record, err
	}
	l, err := protocol.ParseRecordList(payload)
	if err != nil || len(l.Records) == 0 {
		return nil, err
	}
	return l.Records[0], nil
}

func (o *operator) proves(r *protocol.Record) error {
	trust, now := o.node.reader.trust, o.node.clock()
	if r.Table != protocol.TableNodeInfo {
		return trust.CheckStatic(r, now)
	}
	n, err := trust.CheckNode(o.newest[mark{protocol.TableNode, r.Owner}], now)
	if err != nil {
		return err
	}
	return protocol.CheckOwned(r, n, now)
}

// compare asks two that share a range where a node of the domain is; instead goes on where that says nothing about mem.
func (o *operator) compare(mem partition.Member, d protocol.Domain, instead func(), end func(care.Subject, care.Verdict)) {
	var owners []protocol.ID
	for _, m := range o.owners {
		if m.table == protocol.TableNode && m.owner.Domain() == d && mem.Range.ContainsKey(m.owner) {
			owners = append(owners, m.owner)
		}
	}
	if len(owners) == 0 {
		instead()
		return
	}
	owner := owners[o.s.rand.IntN(len(owners))]
	others := slices.DeleteFunc(slices.Clone(o.pmap.Serving(owner)), func(m partition.Member) bool {
		return m.Peer.ID == mem.Peer.ID || m.Peer.ID == o.node.ident.id
	})
	if len(others) == 0 {
		instead()
		return
	}
	o.fetch(others[o.s.rand.IntN(len(others))], protocol.TableNodeInfo, owner, func(r *protocol.Record, v care.Verdict) {
		if v != care.Sound || r == nil || r.Tombstone || o.s.time().Sub(r.Issued) < care.Settled {
			instead()
			return
		}
		o.askFor(mem, r, func(v care.Verdict) { end(care.Subject{Name: r.Table.String(), Record: r.Raw()}, v) })
	})
}

// handRecord stores a record there as any node of the domain might.
func (o *operator) handRecord(mem partition.Member, r *protocol.Record, end func(care.Verdict)) {
	if r.Expired(o.node.clock()) {
		end(care.Nothing)
		return
	}
	o.askAs(r.Owner.Domain(), mem.Peer.ID, protocol.Put{Key: r.Owner, Record: r.Raw()}, func(c protocol.Command, payload []byte, ok bool) {
		switch {
		case !ok:
			end(care.Unanswered)
			return
		case c == protocol.CmdBusy:
			end(care.Busy)
			return
		case c == protocol.CmdWrongRange:
			end(o.denied(mem.Peer.ID, r.Owner))
			return
		case c != protocol.CmdStored:
			end(care.Unsound)
			return
		}
		st, err := protocol.ParseStored(payload)
		if err != nil {
			end(care.Unsound)
			return
		}
		switch st.Status {
		case protocol.StatusOK, protocol.StatusSuperseded:
			end(care.Sound)
		case protocol.StatusInternal, protocol.StatusLimit, protocol.StatusQuota:
			end(care.Busy)
		case protocol.StatusExpired, protocol.StatusRevoked:
			end(care.Nothing)
		default:
			end(care.Refused)
		}
	})
}
