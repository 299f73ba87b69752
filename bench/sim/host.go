package sim

import (
	"fmt"
	"time"

	"culvert/protocol"
)

// host is one machine: its clock, its place in the network, and the questions that it has asked.
type host struct {
	s     *Sim
	index int
	name  string
	ident *identity
	skew  time.Duration // by how much its clock, as corrected, is off
	up    bool
	life  int // counts its starts; what was begun in an earlier life is void
	disk  *disk

	calls    map[uint64]*call
	lastCall uint64
	// handle answers what others ask; nil where nobody does.
	handle func(now time.Time, v *protocol.Verified) []protocol.Out
}

type call struct {
	to   *host
	done func(c protocol.Command, payload []byte, ok bool)
}

const (
	firstRetry = 250 * time.Millisecond // as package endpoint sends again
	lastRetry  = 8 * time.Second
	replyLimit = 1148
)

func (s *Sim) newHost(name string, id *identity) *host {
	h := &host{s: s, index: len(s.hosts), name: name, ident: id, up: true, calls: make(map[uint64]*call)}
	s.hosts = append(s.hosts, h)
	s.byID[id.id] = h
	s.net.side = append(s.net.side, 0)
	return h
}

// String is the machine's name in the trace.
func (h *host) String() string { return h.name }

// clock is what the machine believes the time to be.
func (h *host) clock() time.Time { return h.s.time().Add(h.skew) }

// timer runs do after d, unless the machine has crashed by then.
func (h *host) timer(d time.Duration, do func()) {
	life := h.life
	h.s.after(d, func() {
		if h.up && h.life == life {
			do()
		}
	})
}

// find is the machine of that ID.
func (s *Sim) find(id protocol.ID) *host { return s.byID[id] }

// ask asks another machine, again and again until timeout; done hears of it once.
func (h *host) ask(to protocol.ID, p protocol.Payload, timeout time.Duration, done func(c protocol.Command, payload []byte, ok bool)) {
	peer := h.s.find(to)
	payload, err := protocol.AppendPayload(nil, p)
	if err != nil || peer == nil {
		panic(fmt.Sprintf("%s cannot ask %s: %v", h, to.Short(), err))
	}
	h.lastCall++
	id := h.lastCall
	h.calls[id] = &call{to: peer, done: done}
	m := message{from: h, to: peer, call: id, command: p.Command(), payload: payload}
	var again func(wait time.Duration)
	again = func(wait time.Duration) {
		if h.calls[id] == nil {
			return
		}
		h.s.net.send(m)
		h.timer(wait, func() { again(min(2*wait, lastRetry)) })
	}
	h.timer(timeout, func() {
		if c := h.calls[id]; c != nil {
			delete(h.calls, id)
			c.done(0, nil, false)
		}
	})
	again(firstRetry)
}

// receive takes a message in.
func (h *host) receive(m message) {
	s := h.s
	s.mark('r', m.from.index, m.to.index, uint64(m.command))
	if s.log != nil {
		s.say("%s → %s %s", m.from, h, describe(m))
	}
	if m.reply {
		c := h.calls[m.call]
		if c == nil || c.to != m.from {
			return
		}
		delete(h.calls, m.call)
		c.done(m.command, m.payload, true)
		return
	}
	if h.handle == nil {
		return
	}
	now := h.clock()
	v := protocol.Local(m.from.ident.cert, h.ident.id, m.command, m.payload, now)
	v.Session, v.ReplyLimit = 1, replyLimit
	h.emit(m, h.handle(now, v))
}

// emit sends what a handler wants sent, once all is on disk that it may rest on.
func (h *host) emit(m message, outs []protocol.Out) {
	send := func() {
		for _, o := range outs {
			if o.Reply {
				if m.call != 0 {
					h.s.net.send(message{from: h, to: m.from, call: m.call, reply: true, command: o.Command, payload: o.Payload})
				}
				continue
			}
			if to := h.s.find(o.To); to != nil && to != h {
				h.s.net.send(message{from: h, to: to, command: o.Command, payload: o.Payload})
			}
		}
	}
	if len(outs) == 0 {
		return
	}
	if h.disk == nil || h.disk.durable() {
		send()
		return
	}
	h.timer(h.disk.syncAt-h.s.now, send)
}

// crash stops the machine; what it had not synced is gone.
func (h *host) crash() {
	h.up = false
	h.life++
	clear(h.calls)
	if h.disk != nil {
		h.disk.crash()
	}
	h.s.Stats.Crashes++
	h.s.mark('c', h.index, 0, 0)
	h.s.say("%s crashes", h)
}
