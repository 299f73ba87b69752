package sim

import (
	"time"

	"culvert/dht"
	"culvert/protocol"
)

// machine is Lookup or StoreOp.
type machine interface {
	Step(now time.Time, e dht.Event) []dht.Action
	Done() bool
	Deadline() time.Time
}

// run is one machine on its way.
type run struct {
	r      *reader
	m      machine
	key    protocol.ID
	target *dht.Target    // of a lookup
	sound  map[*host]bool // who answered, with what was asked for
	// unproved are the questions to whose answers a certificate is missing.
	unproved map[int]bool
	waves    int
	stopped  bool
	end      func(*run)
}

// honest is how many of l that have told no lie since then have answered.
func (x *run) honest(l []*super, since time.Duration) (n int) {
	for _, m := range l {
		if x.sound[m.host] && !m.lying(since) {
			n++
		}
	}
	return n
}

func (x *run) step(e dht.Event) {
	if x.m.Done() {
		return
	}
	x.perform(x.m.Step(x.r.h.clock(), e))
	if x.m.Done() {
		if !x.stopped {
			x.stopped = true
			x.end(x)
		}
		return
	}
	x.r.h.timer(max(x.m.Deadline().Sub(x.r.h.clock()), time.Millisecond), func() {
		if !x.m.Done() && !x.r.h.clock().Before(x.m.Deadline()) {
			x.waves++
			x.step(dht.Event{Kind: dht.EventTick})
		}
	})
}

func (x *run) perform(acts []dht.Action) {
	for _, a := range acts {
		switch a.Kind {
		case dht.ActAsk:
			x.r.h.ask(a.Peer.ID, a.Payload, late, func(c protocol.Command, payload []byte, ok bool) {
				if !ok {
					x.step(dht.Event{Kind: dht.EventFailed, Tag: a.Tag})
					return
				}
				x.prepare(a.Peer.ID, c, payload, func(proved bool) {
					x.unproved[a.Tag] = x.unproved[a.Tag] || !proved // on any page of its list
					if !x.unproved[a.Tag] && answers(a.Payload.Command(), c, payload) {
						x.sound[x.r.h.s.find(a.Peer.ID)] = true
					}
					x.step(dht.Event{Kind: dht.EventAnswer, Tag: a.Tag, Command: c, Payload: payload, Unproved: !proved})
				})
			})
		case dht.ActRefresh:
			then := func() { x.step(x.r.mapEvent(x.key, a.Keys)) }
			if a.Peer.ID.IsZero() {
				x.r.refresh(widely, then)
			} else {
				x.r.refreshFrom(a.Peer, a.Epoch, then)
			}
		}
	}
}

// answers reports whether a peer did what it was asked for; of a list it is the last page that counts.
func answers(asked, c protocol.Command, payload []byte) bool {
	switch c {
	case protocol.CmdStored:
		st, err := protocol.ParseStored(payload)
		return err == nil && st.Status == protocol.StatusOK
	case protocol.CmdTunnelNodes, protocol.CmdEndDevices:
		l, err := protocol.ParseRecordList(payload)
		return err == nil && l.Next.IsZero() && c == asked+1
	}
	return c == asked+1
}

// prepare fetches the certificates without which NodeInfo records cannot be proved, from whoever served them.
func (x *run) prepare(from protocol.ID, c protocol.Command, payload []byte, then func(proved bool)) {
	if x.target == nil || c != protocol.CmdNodeInfo && c != protocol.CmdTunnelNodes {
		then(true)
		return
	}
	l, err := protocol.ParseRecordList(payload)
	if err != nil {
		then(false)
		return
	}
	var want []protocol.ID
	for _, raw := range l.Records {
		rec, err := protocol.ParseRecord(raw)
		if err != nil || rec.Owner != x.target.Key && !rec.HasKey(x.target.Key) {
			then(true) // the machine says what it thinks of this
			return
		}
		if x.r.certs[rec.Owner] == nil {
			want = append(want, rec.Owner)
		}
	}
	x.fetch(from, want, then)
}

// fetch asks for all of want at once; proved is false where one of the questions had no answer.
func (x *run) fetch(from protocol.ID, want []protocol.ID, then func(proved bool)) {
	if len(want) == 0 || x.m.Done() {
		then(true)
		return
	}
	open, proved := len(want), true
	for _, id := range want {
		x.r.h.ask(from, protocol.GetNode{ID: id}, timeout, func(c protocol.Command, payload []byte, ok bool) {
			proved = proved && ok && c != protocol.CmdBusy
			if n, err := protocol.ParseNode(payload); ok && err == nil && c == protocol.CmdNode {
				if cert, err := x.r.trust.CheckNode(n.Record, x.r.h.clock()); err == nil && cert.ID == id {
					x.r.certs[id] = cert
				}
			}
			if open--; open == 0 {
				then(proved)
			}
		})
	}
}
