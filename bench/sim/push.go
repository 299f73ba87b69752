package sim

import (
	"context"
	"slices"

	"culvert/partition"
	"culvert/protocol"
)

// publish signs off a record: held here at once, elsewhere as soon as may be.
func (o *operator) publish(raw []byte, t *ticket) {
	if _, err := o.node.server.Apply(context.Background(), o.node.clock(), [][]byte{raw}); err != nil {
		panic(err)
	}
	rec := must(raw)
	m := mark{rec.Table, rec.Owner}
	if o.newest[m] == nil {
		o.owners = append(o.owners, m)
	}
	o.newest[m] = raw
	// What it replaces need not arrive any more.
	o.outbox = slices.DeleteFunc(o.outbox, func(p *publication) bool { return p.rec.Table == rec.Table && p.rec.Owner == rec.Owner })
	o.outbox = append(o.outbox, &publication{rec: rec, ticket: t, head: rec.Table == protocol.TableMapHead, confirmed: make(map[*host]bool)})
	o.pause = firstPause
	o.node.timer(0, o.push)
}

// push sends all that is in the outbox, a map's head once its entries are out, and again with growing pauses while something is
// left.
func (o *operator) push() {
	entries := false
	for _, p := range slices.Clone(o.outbox) {
		if p.rec.Table == protocol.TableSuperNode {
			entries = true
		}
		if !p.running && !(p.head && entries) {
			o.pushOne(p)
		}
	}
	if len(o.outbox) > 0 && !o.waiting {
		o.waiting = true
		o.node.timer(o.pause, func() {
			o.waiting = false
			o.push()
		})
		o.pause = min(2*o.pause, lastPause)
	}
}

// pushOne asks all who keep the record to take it; it stays in the outbox until W have.
func (o *operator) pushOne(p *publication) {
	m := o.pmap
	if m == nil {
		return
	}
	open := 1
	p.running = true
	done := func() {
		open--
		i := slices.Index(o.outbox, p)
		if i >= 0 && m.Confirmed(p.rec, func(id protocol.ID) bool { return p.confirmed[o.s.find(id)] }) >= max(1, min(2, len(m.Members()))) {
			o.outbox = slices.Delete(o.outbox, i, i+1)
			if p.ticket != nil {
				o.s.oracle.acknowledged(p.ticket, p.confirmed)
			}
			if p.head {
				o.notify()
			}
			o.push()
		}
		p.running = open > 0
	}
	for _, mem := range m.Members() {
		k, keeps := keyAt(p.rec, mem)
		if !keeps {
			continue
		}
		h := o.s.find(mem.Peer.ID)
		if h == o.node.host {
			p.confirmed[h] = true
			continue
		}
		open++
		o.node.ask(mem.Peer.ID, protocol.Put{Key: k, Record: p.rec.Raw()}, pushTimeout, func(c protocol.Command, payload []byte, ok bool) {
			if st, err := protocol.ParseStored(payload); ok && c == protocol.CmdStored && err == nil && st.Status == protocol.StatusOK {
				p.confirmed[h] = true
			}
			done()
		})
	}
	done()
}

// keyAt is under which of its keys mem keeps r.
func keyAt(r *protocol.Record, mem partition.Member) (protocol.ID, bool) {
	if r.Table.Everywhere() {
		return r.Owner, true
	}
	for _, k := range r.Keys() {
		if mem.Keeps(k) {
			return k, true
		}
	}
	return protocol.ID{}, false
}
