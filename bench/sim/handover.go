package sim

import (
	"time"

	"culvert/dht"
	"culvert/operator/care"
	"culvert/partition"
	"culvert/protocol"
)

const (
	watchEvery    = 30 * time.Second
	probeWait     = 5 * time.Second
	reportTimeout = 3 * time.Second
	proofTimeout  = 30 * time.Second
)

// handOver has the next map signed where somebody has been proven to hold what he fills, and looks at the others.
func (o *operator) handOver() {
	o.node.timer(care.HandOverTick, o.handOver)
	m := o.pmap
	if proven, news := o.care.Proven(m); news {
		filled := make(map[protocol.ID]bool)
		for id := range proven {
			filled[id] = true
		}
		o.replan(filled)
		o.care.Told(m, proven)
	}
	for _, mem := range o.care.Due(o.node.clock(), m) {
		o.follow(m, mem, func(proven bool) { o.care.Finished(o.node.clock(), mem.Peer.ID, proven) })
	}
}

// report asks a super-node how far it is and whom it has lost.
func (o *operator) report(id protocol.ID, then func(r protocol.PartitionTransferred, ok bool)) {
	o.node.ask(id, protocol.TransferPartition{Epoch: o.epoch}, reportTimeout, func(c protocol.Command, payload []byte, ok bool) {
		r, err := protocol.ParsePayload[protocol.PartitionTransferred](payload)
		then(r, ok && err == nil && c == protocol.CmdPartitionTransferred)
	})
}

// follow asks one how far it is, and proves it once it says that it is filled.
func (o *operator) follow(m *partition.Map, mem partition.Member, end func(proven bool)) {
	own := mem.Peer.ID == o.node.ident.id
	judge := func(r protocol.PartitionTransferred, ok bool) {
		if !ok || !r.Filled || r.Epoch < m.Epoch() {
			end(false)
			return
		}
		o.prove(m, mem, m.Parts(mem.Fill), end)
	}
	if own { // it need not ask itself
		p := o.node.plan.Progress(o.node.clock())
		judge(protocol.PartitionTransferred{Epoch: p.Epoch, Filled: p.Filled}, true)
		return
	}
	o.report(mem.Peer.ID, judge)
}

// prove compares what mem lacks of its range with those who serve it: half of each part's servers have to hold the same.
func (o *operator) prove(m *partition.Map, mem partition.Member, parts []partition.Part, end func(proven bool)) {
	if len(parts) == 0 {
		end(true)
		return
	}
	part := parts[0]
	var servers []protocol.Peer
	for _, s := range part.Serving {
		if s.Peer.ID != mem.Peer.ID {
			servers = append(servers, s.Peer)
		}
	}
	if mem.Range.Contains(part.Range.From) && mem.Range.Contains(part.Range.To) || len(servers) == 0 {
		o.prove(m, mem, parts[1:], end)
		return
	}
	open, agreed, over := len(servers), 0, false
	for _, s := range servers {
		p := dht.NewProof(dht.ProofConfig{Filler: mem.Peer, Servers: []protocol.Peer{s}, Range: part.Range, Epoch: m.Epoch()})
		o.runProof(p, o.s.now+proofTimeout, func(ok bool) {
			open--
			if ok {
				agreed++
			}
			switch {
			case over:
			case agreed*2 >= len(servers):
				over = true
				o.prove(m, mem, parts[1:], end)
			case open == 0:
				over = true
				end(false)
			}
		})
	}
}

func (o *operator) runProof(p *dht.Proof, until time.Duration, end func(ok bool)) {
	over := false
	var step func(e dht.Event)
	step = func(e dht.Event) {
		if over {
			return
		}
		for _, a := range p.Step(o.node.clock(), e) {
			o.askSelf(a.Peer.ID, a.Payload, func(c protocol.Command, payload []byte, ok bool) {
				if !ok {
					step(dht.Event{Kind: dht.EventFailed, Tag: a.Tag})
					return
				}
				step(dht.Event{Kind: dht.EventAnswer, Tag: a.Tag, Command: c, Payload: payload})
			})
		}
		if over {
			return // a question was answered at once, and that was the last
		}
		if p.Done() || o.s.now >= until {
			over = true
			end(p.Done() && p.Result() == nil)
			return
		}
		wait := min(p.Deadline().Sub(o.node.clock()), until-o.s.now)
		o.node.timer(max(wait, time.Millisecond), func() { step(dht.Event{Kind: dht.EventTick}) })
	}
	step(dht.Event{Kind: dht.EventTick})
}

// askSelf asks a member, which may be the operator's own node.
func (o *operator) askSelf(id protocol.ID, p protocol.Payload, done func(c protocol.Command, payload []byte, ok bool)) {
	if id != o.node.ident.id {
		o.node.ask(id, p, reportTimeout, done)
		return
	}
	payload, err := protocol.AppendPayload(nil, p)
	if err != nil {
		panic(err)
	}
	v := protocol.Local(o.node.ident.cert, id, p.Command(), payload, o.node.clock())
	outs := o.node.handlers[p.Command()](o.node.clock(), v)
	o.node.timer(0, func() {
		if len(outs) == 0 {
			done(0, nil, false)
			return
		}
		done(outs[0].Command, outs[0].Payload, true)
	})
}

// watchRound asks every super-node for a sign of life and takes off the map who is gone.
func (o *operator) watchRound() {
	o.node.timer(watchEvery, o.watchRound)
	var sights []care.Sight
	var asked []*candidate
	for _, c := range o.candidates {
		if c.in {
			asked = append(asked, c)
			sights = append(sights, care.Sight{ID: c.ID, Peers: o.sharing(c.ID)})
		}
	}
	open := len(asked)
	done := func() {
		if open--; open > 0 {
			return
		}
		for i, c := range asked {
			c.alive = sights[i].Answered
		}
		gone := o.watch.Round(sights)
		for _, g := range gone {
			for _, c := range o.candidates {
				if c.ID == g.ID {
					c.in = false
					o.s.say("operator: %s did not answer %d times; %d of %d have lost it too", c.host, g.Misses, g.Agreed, g.Asked)
				}
			}
		}
		if len(gone) > 0 {
			o.replan(nil)
		}
	}
	for i, c := range asked {
		o.node.ask(c.ID, protocol.Ping{}, probeWait, func(_ protocol.Command, _ []byte, ok bool) {
			if sights[i].Answered = ok; !ok {
				done()
				return
			}
			o.report(c.ID, func(r protocol.PartitionTransferred, ok bool) {
				if ok {
					sights[i].Silent = r.Silent
				}
				done()
			})
		})
	}
}

func (o *operator) sharing(id protocol.ID) (l []protocol.ID) {
	mem, ok := o.pmap.Member(id)
	if !ok {
		return nil
	}
	for _, other := range o.pmap.Sharing(mem.Range) {
		if other.Peer.ID != id && other.Peer.ID != o.node.ident.id && !other.Isolated {
			l = append(l, other.Peer.ID)
		}
	}
	return l
}

// notify tells the members of a new map.
func (o *operator) notify() {
	for _, p := range o.placed {
		if p.ID != o.node.ident.id {
			o.report(p.ID, func(protocol.PartitionTransferred, bool) {})
		}
	}
}
