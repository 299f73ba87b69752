package messages

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"culvert/bench/world"
	"culvert/dht"
	"culvert/dht/memstore"
	"culvert/protocol"
	"culvert/protocol/carrier"
	"culvert/protocol/endpoint"
)

// nodeAt is where the culvert part is served: with segments, and without.
type nodeAt struct{ One, Many netip.AddrPort }

// Node is the part that is a culvert node without records: it answers Ping.
func Node(ctx context.Context, _ json.RawMessage, ready func(any) error) (err error) {
	w, err := world.New(time.Now())
	if err != nil {
		return err
	}
	n, err := newServer(w, memstore.New())
	if err != nil {
		return err
	}
	var s serving
	defer func() { err = errors.Join(err, s.close()) }()
	var at nodeAt
	if at.One, err = s.add(segments, n.loop); err != nil {
		return err
	}
	if at.Many, err = s.add(single, n.loop); err != nil {
		return err
	}
	if err := ready(at); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// writeBatch is how many answers a node's loop collects before it writes them.
const writeBatch = 16

// server is a node's loop around the packages of culvert.
type server struct {
	e        *endpoint.Endpoint
	dht      *dht.Server
	handlers [protocol.CmdEnd]protocol.Handler
}

func newServer(w *world.World, store dht.Store) (*server, error) {
	m, err := w.Member("server", 0)
	if err != nil {
		return nil, err
	}
	s := &server{}
	if s.e, err = w.Endpoint(true, 1, []*world.Member{m}); err != nil {
		return nil, err
	}
	s.dht, err = dht.NewServer(dht.Config{
		Self: m.Cert.ID, Store: store, Trust: w.Trust, RootKey: w.Root, Operator: true, Limits: unlimited,
	}, w.Now)
	if err != nil {
		return nil, err
	}
	s.dht.SetReady(true)
	s.handlers[protocol.CmdPing] = pong
	for c, h := range s.dht.Handlers() {
		s.handlers[c] = h
	}
	return s, nil
}

// pong answers as a node does.
func pong(now time.Time, v *protocol.Verified) []protocol.Out {
	m := protocol.Pong{Time: now.UnixMilli(), Observed: protocol.AddrOf(v.From)}
	return v.Answer(protocol.CmdPong, m.AppendPayload(v.Room(protocol.MaxPong)))
}

// loop is the socket loop of a node: datagrams in batches, handlers that answer from memory inline, answers in batches.
func (s *server) loop(conn conn) error {
	ms := buffers(batch)
	var (
		evs [batch]endpoint.Event
		vs  []*protocol.Verified
		out sender
	)
	scratch := new(protocol.Scratch)
	for i := range evs {
		evs[i].Verified.Scratch = scratch
	}
	l := newLanes(s, conn)
	defer l.close()
	for {
		n, err := conn.ReadBatch(ms)
		if err != nil {
			return endOf(err)
		}
		now := time.Now()
		vs = vs[:0]
		for i := range ms[:n] {
			s.e.Receive(now, ms[i].Addr, ms[i].Buf[:ms[i].N], &evs[i], &out.Outbox)
			if evs[i].Kind == endpoint.EventRequest {
				vs = append(vs, &evs[i].Verified)
			}
		}
		for i := range evs[:n] {
			ev := &evs[i]
			if i%writeBatch == 0 {
				s.dht.Prefetch(vs[min(i, len(vs)):min(i+writeBatch, len(vs))])
			}
			for ok := true; ok; ok = s.e.More(now, ev, &out.Outbox) {
				if ev.Kind != endpoint.EventRequest {
					continue
				}
				if err := s.handle(now, &ev.Verified, &out.Outbox, l); err != nil {
					return err
				}
			}
			if out.Len() >= writeBatch {
				if err := out.flush(conn); err != nil {
					return endOf(err)
				}
			}
		}
		if err := out.flush(conn); err != nil {
			return endOf(err)
		}
	}
}

func (s *server) handle(now time.Time, v *protocol.Verified, out *endpoint.Outbox, l *lanes) error {
	h := s.handlers[v.Command]
	if h == nil {
		return fmt.Errorf("no handler for %s", v.Command)
	}
	if v.Command != protocol.CmdPing && !s.dht.Cached(v) {
		return l.take(v)
	}
	for _, o := range h(now, v) {
		if err := s.e.Reply(now, v, o.Command, o.Payload, out); err != nil {
			return fmt.Errorf("answer %s: %w", v.Command, err)
		}
	}
	return nil
}

// sender is an endpoint's outbox on its way to a socket.
type sender struct {
	endpoint.Outbox
	ms []carrier.Message
}

func (s *sender) flush(c carrier.Conn) error {
	if s.Len() == 0 {
		return nil
	}
	s.ms = s.ms[:0]
	for _, p := range s.Packets() {
		s.ms = append(s.ms, carrier.Message{Addr: p.Addr, Buf: p.Data, N: len(p.Data)})
	}
	_, err := c.WriteBatch(s.ms)
	s.Reset()
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}
