package messages

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"time"

	"culvert/bench/world"
	"culvert/dht"
	"culvert/dht/sqlite"
	"culvert/protocol"
	"culvert/protocol/carrier"
	"culvert/protocol/endpoint"
)

// perLocation is how many tunnel-nodes are found at one location.
const perLocation = 2

// nodeArg says what the culvert part holds and where.
type nodeArg struct {
	Records int // of each of Node and NodeInfo
	Dir     string
}

// nodeAt is where the culvert part is served: with segments, and without.
type nodeAt struct{ One, Many netip.AddrPort }

// Node is the part that is a culvert node: it answers Ping, and lookups as a super-node does.
func Node(ctx context.Context, arg json.RawMessage, ready func(any) error) (err error) {
	var a nodeArg
	if err := json.Unmarshal(arg, &a); err != nil {
		return err
	}
	w, err := world.New(time.Now())
	if err != nil {
		return err
	}
	store, err := sqlite.Open(ctx, filepath.Join(a.Dir, "node.db"), sqlite.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := fill(ctx, w, store, a.Records); err != nil {
		return err
	}
	n, err := newServer(w, store)
	if err != nil {
		return err
	}
	var s serving
	defer func() { err = errors.Join(err, s.close()) }()
	var at nodeAt
	if at.One, err = s.add(true, n.loop); err != nil {
		return err
	}
	if at.Many, err = s.add(false, n.loop); err != nil {
		return err
	}
	if err := ready(at); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// fill stores n Node records and as many NodeInfos.
func fill(ctx context.Context, w *world.World, store dht.Store, n int) error {
	r := rand.NewChaCha8([32]byte{1})
	var l []*protocol.Record
	for i := range n {
		m, err := w.Member("record", i)
		if err != nil {
			return err
		}
		info, err := w.Info(m, i/perLocation, r)
		if err != nil {
			return err
		}
		for _, raw := range [][]byte{m.Cert.Record, info} {
			rec, err := protocol.ParseRecord(raw)
			if err != nil {
				return err
			}
			l = append(l, rec)
		}
		if len(l) >= 1000 || i == n-1 {
			if _, err := store.Put(ctx, l); err != nil {
				return fmt.Errorf("fill the store: %w", err)
			}
			l = nil
		}
	}
	return nil
}

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
	s.dht, err = dht.NewServer(dht.Config{Self: m.Cert.ID, Store: store, Trust: w.Trust, RootKey: w.Root, Operator: true}, w.Now)
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
func (s *server) loop(conn *carrier.UDP) error {
	ms := buffers(batch)
	var (
		ev  endpoint.Event
		out sender
	)
	ev.Verified.Scratch = new(protocol.Scratch)
	for {
		n, err := conn.ReadBatch(ms)
		if err != nil {
			return endOf(err)
		}
		now := time.Now()
		for i := range ms[:n] {
			s.e.Receive(now, ms[i].Addr, ms[i].Buf[:ms[i].N], &ev, &out.Outbox)
			for ok := true; ok; ok = s.e.More(now, &ev, &out.Outbox) {
				if ev.Kind != endpoint.EventRequest {
					continue
				}
				if err := s.handle(now, &ev.Verified, &out.Outbox); err != nil {
					return err
				}
			}
		}
		if err := out.flush(conn); err != nil {
			return endOf(err)
		}
	}
}

func (s *server) handle(now time.Time, v *protocol.Verified, out *endpoint.Outbox) error {
	h := s.handlers[v.Command]
	if h == nil {
		return fmt.Errorf("no handler for %s", v.Command)
	}
	if v.Command != protocol.CmdPing && !s.dht.Cached(v) {
		return fmt.Errorf("%s is not answered from memory: the store is not warm", v.Command)
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
