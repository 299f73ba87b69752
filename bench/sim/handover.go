package sim

import (
	"errors"
	"slices"
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
	if o.again != o.epoch && o.s.now-o.mapped >= seasoning { // a split may have waited for it
		o.again = o.epoch
		o.replan(nil)
	}
	for _, l := range o.care.Due(o.node.clock(), m) {
		o.follow(m, l, func(seen care.Seen) { o.care.Finished(o.node.clock(), l.Peer.ID, seen) })
	}
	for _, st := range o.care.Stalled(o.node.clock(), m) {
		o.stalled(st)
	}
}

// stalled takes its place from one that does not fill it, if somebody else goes on or could.
func (o *operator) stalled(st care.Stall) {
	c := o.known(st.ID)
	if c == nil || !st.Rival && !partition.Replaceable(o.state(), st.ID) {
		return
	}
	c.stalls++
	c.pausedUntil = o.s.now + care.FillPause(c.stalls)
	o.s.say("operator: %s does not fill its range", c.host)
	o.replan(nil)
}

// report asks a super-node how far it is and whom it has lost.
func (o *operator) report(id protocol.ID, then func(r protocol.PartitionTransferred, ok bool)) {
	o.node.ask(id, protocol.TransferPartition{Epoch: o.epoch}, reportTimeout, func(c protocol.Command, payload []byte, ok bool) {
		r, err := protocol.ParsePayload[protocol.PartitionTransferred](payload)
		then(r, ok && err == nil && c == protocol.CmdPartitionTransferred)
	})
}

// follow asks one how far it is, and proves it once it says that it is filled.
func (o *operator) follow(m *partition.Map, l care.Look, end func(care.Seen)) {
	judge := func(r protocol.PartitionTransferred, ok bool) {
		seen := care.Seen{Answered: ok && r.Epoch >= m.Epoch(), Have: r.Have}
		done := func(proven bool) {
			if seen.Proven = proven; proven || !l.Holders {
				end(seen)
				return
			}
			o.holders(m.Parts(l.Fill), l.Member, &care.Held{Answered: true}, func(h *care.Held) {
				seen.Holders = h
				end(seen)
			})
		}
		if !seen.Answered || !r.Filled {
			done(false)
			return
		}
		o.prove(m, l.Member, m.Parts(l.Fill), done)
	}
	if l.Peer.ID == o.node.ident.id { // it need not ask itself
		p := o.node.plan.Progress(o.node.clock())
		judge(protocol.PartitionTransferred{Epoch: p.Epoch, Filled: p.Filled}, true)
		return
	}
	o.report(l.Peer.ID, judge)
}

// holders asks those who serve what mem lacks how much that is, part by part.
func (o *operator) holders(parts []partition.Part, mem partition.Member, sum *care.Held, end func(*care.Held)) {
	if len(parts) == 0 {
		end(sum)
		return
	}
	servers := others(parts[0], mem)
	var counts []uint64
	open := len(servers)
	done := func() {
		if n := len(counts); n > 0 {
			slices.Sort(counts)
			sum.Low += counts[(n-1)/2]
			sum.High += counts[n/2]
		} else if len(servers) > 0 {
			sum.Answered = false
		}
		o.holders(parts[1:], mem, sum, end)
	}
	if open == 0 {
		done()
	}
	for _, s := range servers {
		q := protocol.Digest{Table: protocol.TableNode, From: parts[0].Range.From, To: parts[0].Range.To}
		var n uint64
		var ask func(tables []protocol.Table)
		ask = func(tables []protocol.Table) {
			if len(tables) == 0 {
				counts = append(counts, n)
			}
			if len(tables) == 0 || tables[0] == 0 {
				if open--; open == 0 {
					done()
				}
				return
			}
			q.Table = tables[0]
			o.askSelf(s.ID, q, func(c protocol.Command, payload []byte, ok bool) {
				d, err := protocol.ParsePayload[protocol.Digests](payload)
				if !ok || c != protocol.CmdDigests || err != nil {
					ask([]protocol.Table{0})
					return
				}
				for _, p := range d.Parts {
					n += p.Count
				}
				ask(tables[1:])
			})
		}
		ask([]protocol.Table{protocol.TableNode, protocol.TableEndDevice, protocol.TableNodeInfo})
	}
}

// others are who serves a part besides mem; none where mem has all of the part already.
func others(part partition.Part, mem partition.Member) (servers []protocol.Peer) {
	if mem.Range.Contains(part.Range.From) && mem.Range.Contains(part.Range.To) {
		return nil
	}
	for _, s := range part.Serving {
		if s.Peer.ID != mem.Peer.ID {
			servers = append(servers, s.Peer)
		}
	}
	return servers
}

// prove compares what mem lacks of its range with those who serve it, as package operator does.
func (o *operator) prove(m *partition.Map, mem partition.Member, parts []partition.Part, end func(proven bool)) {
	if len(parts) == 0 {
		end(true)
		return
	}
	servers := others(parts[0], mem)
	few := len(servers) < partition.Replicas
	cfg := dht.ProofConfig{Filler: mem.Peer, Range: parts[0].Range, Epoch: m.Epoch()}
	own := o.node.ident.id
	switch {
	case len(servers) == 0:
		o.prove(m, mem, parts[1:], end)
	case few && mem.Peer.ID != own:
		cfg.Servers, cfg.Static = []protocol.Peer{{ID: own}}, true
		o.runProof(dht.NewProof(cfg), o.s.now+proofTimeout, func(err error) {
			if err != nil {
				end(false)
				return
			}
			o.proveBy(m, mem, parts, servers, end)
		})
	default:
		o.proveBy(m, mem, parts, servers, end)
	}
}

// proveBy compares one part with those who serve it.
func (o *operator) proveBy(m *partition.Map, mem partition.Member, parts []partition.Part, servers []protocol.Peer, end func(proven bool)) {
	few := len(servers) < partition.Replicas
	open, agreed, away, over := len(servers), 0, 0, false
	for _, s := range servers {
		p := dht.NewProof(dht.ProofConfig{Filler: mem.Peer, Servers: []protocol.Peer{s}, Range: parts[0].Range, Epoch: m.Epoch()})
		o.runProof(p, o.s.now+proofTimeout, func(err error) {
			open--
			switch {
			case errors.Is(err, dht.ErrUnreachable):
				away++
			case err == nil:
				agreed++
			}
			long := o.s.time().Sub(must(mem.Record).Issued) >= dht.MaxLife
			switch {
			case over:
			case !few && agreed*2 >= len(servers), open == 0 && few && agreed > 0 && (agreed+away == len(servers) || long):
				over = true
				o.prove(m, mem, parts[1:], end)
			case open == 0:
				over = true
				end(false)
			}
		})
	}
}

func (o *operator) runProof(p *dht.Proof, until time.Duration, end func(error)) {
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
			end(p.Result()) // an error where it has not ended
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
