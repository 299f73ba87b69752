package messages

import (
	"errors"
	"fmt"
	"time"

	"culvert/bench/world"
	"culvert/protocol"
	"culvert/protocol/carrier"
	"culvert/protocol/endpoint"
)

// callTimeout ends a call that nobody answers; attempts are repeated before.
func callTimeout() time.Duration { return 2*giveUp + time.Second }

// question is one kind of request: number n of it, and what must come back.
type question interface {
	payload(b []byte, n int) (protocol.Command, []byte)
	check(v *protocol.Verified, n int) error
}

// nodeAsker asks through an endpoint, as a node does, as one of its identities in turn.
type nodeAsker struct {
	sender
	e      *endpoint.Endpoint
	locals []protocol.ID
	peer   protocol.Peer
	q      question

	asked   int
	open    openCalls
	ev      endpoint.Event
	evs     []endpoint.Event
	scratch []byte
}

func newNodeAsker(e *endpoint.Endpoint, locals []protocol.ID, peer protocol.Peer, q question) *nodeAsker {
	return &nodeAsker{e: e, locals: locals, peer: peer, q: q}
}

func (a *nodeAsker) ask(now time.Time) error {
	cmd, p := a.q.payload(a.scratch[:0], a.asked)
	id, err := a.e.Call(now, a.locals[a.asked%len(a.locals)], a.peer, cmd, p, callTimeout(), &a.Outbox)
	if err != nil {
		return fmt.Errorf("ask %s: %w", cmd, err)
	}
	a.scratch = p
	a.open.put(id, a.asked)
	a.asked++
	return nil
}

func (a *nodeAsker) answer(now time.Time, m *carrier.Message) (done int, err error) {
	a.e.Receive(now, m.Addr, m.Buf[:m.N], &a.ev, &a.Outbox)
	for ok := true; ok; ok = a.e.More(now, &a.ev, &a.Outbox) {
		if a.ev.Kind != endpoint.EventCallDone {
			continue // an opening, a hint, or an answer that came twice
		}
		n, asked := a.open.take(a.ev.Call)
		if !asked {
			continue
		}
		if err := a.q.check(&a.ev.Verified, n); err != nil {
			return done, err
		}
		done++
	}
	return done, nil
}

func (a *nodeAsker) overdue(now time.Time, _ time.Duration) (gone int) {
	a.evs = a.e.Tick(now, a.evs[:0], &a.Outbox)
	for i := range a.evs {
		if a.evs[i].Kind != endpoint.EventCallFailed {
			continue
		}
		if _, ok := a.open.take(a.evs[i].Call); ok {
			gone++
		}
	}
	return gone
}

func (a *nodeAsker) abandon() {
	for i := range a.open.places {
		a.e.Cancel(a.open.places[i].id)
	}
	for id := range a.open.others {
		a.e.Cancel(id)
	}
	a.open = openCalls{}
}

// openCalls are the questions under way, by call. The load's own notes should cost next to nothing.
type openCalls struct {
	places [4 * Deep]struct {
		id endpoint.CallID
		n  int
	}
	others map[endpoint.CallID]int // whose place was taken
}

func (o *openCalls) put(id endpoint.CallID, n int) {
	p := &o.places[id%endpoint.CallID(len(o.places))]
	if p.id == 0 {
		p.id, p.n = id, n
		return
	}
	if o.others == nil {
		o.others = make(map[endpoint.CallID]int)
	}
	o.others[id] = n
}

func (o *openCalls) take(id endpoint.CallID) (n int, ok bool) {
	if p := &o.places[id%endpoint.CallID(len(o.places))]; p.id == id && id != 0 {
		p.id = 0
		return p.n, true
	}
	n, ok = o.others[id]
	delete(o.others, id)
	return n, ok
}

// errAnswer is an answer that is not the one to the question.
var errAnswer = errors.New("answer does not fit the question")

func wrong(v *protocol.Verified, err error) error {
	return fmt.Errorf("%w: %s, %d bytes: %w", errAnswer, v.Command, len(v.Payload), err)
}

// ping asks for a sign of life.
type ping struct{}

func (ping) payload(b []byte, _ int) (protocol.Command, []byte) {
	return protocol.CmdPing, protocol.Ping{}.AppendPayload(b)
}

func (ping) check(v *protocol.Verified, _ int) error {
	m, err := protocol.ParsePong(v.Payload)
	if err != nil || v.Command != protocol.CmdPong || m.Time == 0 {
		return wrong(v, err)
	}
	return nil
}

// Where a record names its owner and its first lookup key: the load compares these bytes and leaves the rest to readers.
const (
	recordOwner   = 4
	recordLookups = 108
)

// stride visits a table in an order that is not the one it was written in; it has no factor in common with round numbers.
const stride = 7919

// strided is l in that order, so that asking for one after the other reads memory in order: only the server looks things up.
func strided[T any](l []T) []T {
	o := make([]T, len(l))
	for n := range o {
		o[n] = l[n*stride%len(l)]
	}
	return o
}

// getNode asks for certificates in turn.
type getNode struct{ ids []protocol.ID }

func (q getNode) id(n int) *protocol.ID { return &q.ids[n%len(q.ids)] }

func (q getNode) payload(b []byte, n int) (protocol.Command, []byte) {
	return protocol.CmdGetNode, protocol.GetNode{ID: *q.id(n)}.AppendPayload(b)
}

func (q getNode) check(v *protocol.Verified, n int) error {
	m, err := protocol.ParseNode(v.Payload)
	if err != nil || v.Command != protocol.CmdNode {
		return wrong(v, err)
	}
	if id := q.id(n); len(m.Record) < recordLookups || string(m.Record[recordOwner:recordOwner+len(id)]) != string(id[:]) {
		return wrong(v, nil)
	}
	return nil
}

// getTunnelNodes asks who is at a location, in turn.
type getTunnelNodes struct{ keys []protocol.Hash }

func (q getTunnelNodes) key(n int) *protocol.Hash { return &q.keys[n%len(q.keys)] }

func (q getTunnelNodes) payload(b []byte, n int) (protocol.Command, []byte) {
	return protocol.CmdGetTunnelNodes, protocol.GetTunnelNodes{Location: protocol.NewID(world.Domain, *q.key(n))}.AppendPayload(b)
}

func (q getTunnelNodes) check(v *protocol.Verified, n int) error {
	m, err := protocol.ParseRecordList(v.Payload)
	if err != nil || v.Command != protocol.CmdTunnelNodes || len(m.Records) != perLocation {
		return wrong(v, err)
	}
	k := q.key(n)
	for _, raw := range m.Records {
		if len(raw) < recordLookups+len(k) || string(raw[recordLookups:recordLookups+len(k)]) != string(k[:]) {
			return wrong(v, nil)
		}
	}
	return nil
}
