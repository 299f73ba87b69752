package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"culvert/partition"
	"culvert/protocol"
	"culvert/protocol/carrier"
	"culvert/protocol/endpoint"
	"culvert/protocol/enrol"
	"culvert/protocol/key"
)

// Extension is a role that brings its own identity and state: the operator. Package node knows no more of it.
type Extension struct {
	Keys   *key.Pair
	Record []byte // its OperatorNode record
	// Former is the key that it had before, nil for none: nodes that do not know of the present one still ask for that.
	Former       *key.Pair
	FormerRecord []byte
	Trust        *protocol.Trust
	RootKey      key.Public
	// Handlers are slow ones: they run in the pool.
	Handlers map[protocol.Command]protocol.Handler
	// Secrets are a domain's, for reading what its nodes announce.
	Secrets func(protocol.Domain) (*protocol.DomainSecrets, error)
	// Run drives it until ctx is done.
	Run func(ctx context.Context, m *OperatorMesh) error
}

// plugIn makes the extension this process's serving identity: the operator serves the whole key space.
func (n *Node) plugIn(x *Extension) error {
	s := n.meshOf(x.Trust.Root())
	b := enrol.Bundle{RootKey: enrol.Bytes32(x.RootKey), Operators: x.Trust.Chain()}
	if err := s.learn(&b, n.now()); err != nil {
		return err
	}
	id := protocol.NodeID(protocol.OperatorDomain, x.Keys.Signing.Public())
	if err := n.ep.AddIdentity(endpoint.Identity{ID: id, Keys: x.Keys, Record: x.Record, Trust: s.trust, Revoked: s.isRevoked}); err != nil {
		return err
	}
	cert := func() *protocol.CertifiedNode {
		if o, ok := s.trust.Operator(id); ok {
			return o.OperatorAsNode()
		}
		return nil
	}
	if err := n.serve(s, id, x.Keys, cert, true); err != nil {
		return err
	}
	sv := n.serving.Load()
	if x.Former != nil {
		sv.former = protocol.NodeID(protocol.OperatorDomain, x.Former.Signing.Public())
		if err := n.ep.AddIdentity(endpoint.Identity{ID: sv.former, Keys: x.Former, Record: x.FormerRecord, Trust: s.trust, Revoked: s.isRevoked}); err != nil {
			return err
		}
	}
	for c, h := range x.Handlers {
		sv.routes[c] = route{handler: h, inline: never}
	}
	return nil
}

// OperatorMesh is what the operator needs of the node that it runs in.
type OperatorMesh struct {
	n *Node

	mu     sync.Mutex
	spying []*spies // each with a socket of its own
	spyOf  map[disguise]*spies
}

// Publish stores a record here and at the super-nodes of its keys, and returns how many members of the map have it (see
// partition.Map.Confirmed), this node included while it is one.
func (o *OperatorMesh) Publish(ctx context.Context, record []byte) (confirmed int, err error) {
	s := o.n.serving.Load()
	if _, err := s.server.Apply(ctx, o.n.meshNow(), [][]byte{record}); err != nil {
		return 0, err
	}
	r, err := protocol.ParseRecord(record)
	if err != nil {
		return 0, err
	}
	m := s.server.Map()
	if m == nil {
		return 0, nil
	}
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		has  = make(map[protocol.ID]bool)
		errs []error
	)
	for _, mem := range m.Members() {
		k, serves := keyAt(r, mem)
		if !serves {
			continue
		}
		if mem.Peer.ID == s.id {
			mu.Lock()
			has[s.id] = true
			mu.Unlock()
			continue
		}
		wg.Go(func() {
			err := o.put(ctx, s, mem.Peer, k, record)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, fmt.Errorf("super-node %s: %w", mem.Peer.ID.Short(), err))
				return
			}
			has[mem.Peer.ID] = true
		})
	}
	wg.Wait()
	return m.Confirmed(r, func(id protocol.ID) bool { return has[id] }), errors.Join(errs...)
}

// Fill stores records that the operator has signed before: node.db may have been lost.
func (o *OperatorMesh) Fill(ctx context.Context, records iter.Seq2[[]byte, error]) error {
	const batch = 256
	s := o.n.serving.Load()
	var l [][]byte
	flush := func() error {
		_, err := s.server.Apply(ctx, o.n.meshNow(), l)
		l = l[:0]
		return err
	}
	for raw, err := range records {
		if err != nil {
			return err
		}
		if l = append(l, raw); len(l) == batch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// keyAt is a key of the record that the member serves.
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

func (o *OperatorMesh) put(ctx context.Context, s *serving, to protocol.Peer, k protocol.ID, record []byte) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	c := &caller{o.n, s.id}
	v, err := c.Call(ctx, to, protocol.Put{Key: k, Record: record, Forwarded: true})
	if err != nil {
		return err
	}
	if v.Command != protocol.CmdStored {
		return fmt.Errorf("answered %s", v.Command)
	}
	st, err := protocol.ParseStored(v.Payload)
	if err == nil && st.Status != protocol.StatusOK && st.Status != protocol.StatusSuperseded {
		err = errors.New(st.Status.String())
	}
	return err
}

// Probe asks a candidate from a fresh socket, as a stranger would: by a signed Ping over UDP and by connecting to its TCP port.
func (o *OperatorMesh) Probe(ctx context.Context, peer protocol.Peer, addr netip.AddrPort) error {
	peer.Addr = addr
	if protocol.StreamsOnly(addr) {
		return o.probeStream(ctx, peer)
	}
	if err := o.probeUDP(ctx, peer); err != nil {
		return fmt.Errorf("UDP %s: %w", addr, err)
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return fmt.Errorf("TCP %s: %w", addr, err)
	}
	return c.Close()
}

const probeTimeout = 3 * time.Second

// prober is an endpoint that knows nobody, with the operator's identity.
func (o *OperatorMesh) prober() (*endpoint.Endpoint, protocol.ID, error) {
	x := o.n.cfg.Extension
	id := protocol.NodeID(protocol.OperatorDomain, x.Keys.Signing.Public())
	ep, err := endpoint.New(endpoint.Config{Rand: rand.Reader})
	if err == nil {
		err = ep.AddIdentity(endpoint.Identity{ID: id, Keys: x.Keys, Record: x.Record, Trust: x.Trust})
	}
	return ep, id, err
}

func (o *OperatorMesh) probeUDP(ctx context.Context, peer protocol.Peer) error {
	now := o.n.now
	local := netip.IPv4Unspecified()
	if b := o.n.bound().Addr(); b.IsLoopback() {
		local = b
	} else if peer.Addr.Addr().Is6() {
		local = netip.IPv6Unspecified()
	}
	conn, err := carrier.ListenUDP(netip.AddrPortFrom(local, 0))
	if err != nil {
		return err
	}
	defer conn.Close()
	ep, id, err := o.prober()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	var out writer
	payload, err := protocol.AppendPayload(nil, protocol.Ping{})
	if err != nil {
		return err
	}
	// The certificate is the candidate's own affair: SubmitSuperNode has proved it, so its keys are given here.
	for attempt := range 3 {
		if _, err := ep.Call(now(), id, peer, protocol.CmdPing, payload, probeTimeout, &out.Outbox); err != nil {
			return err
		}
		out.flush(conn)
		if ok := o.awaitPong(ctx, ep, conn, time.Duration(attempt+1)*300*time.Millisecond); ok {
			return nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return endpoint.ErrTimeout
}

// awaitPong reads until the endpoint says that the call is done.
func (o *OperatorMesh) awaitPong(ctx context.Context, ep *endpoint.Endpoint, conn *carrier.UDP, wait time.Duration) bool {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	conn.Socket().SetReadDeadline(time.Now().Add(wait))
	ms := []carrier.Message{{Buf: make([]byte, readBuffer)}}
	var ev endpoint.Event
	var out writer
	for {
		k, err := conn.ReadBatch(ms)
		if err != nil {
			return false
		}
		for _, m := range ms[:k] {
			now := o.n.now()
			ep.Receive(now, m.Addr, m.Buf[:m.N], &ev, &out.Outbox)
			for ok := true; ok; ok = ep.More(now, &ev, &out.Outbox) {
				if ev.Kind == endpoint.EventCallDone {
					return true
				}
			}
		}
		out.flush(conn)
	}
}

// NodeLocations are the location IDs that a node has announced.
func (o *OperatorMesh) NodeLocations(ctx context.Context, id protocol.ID) ([]protocol.Hash, error) {
	raw, err := o.n.store.Get(protocol.TableNodeInfo, id, o.n.meshNow())
	if err != nil {
		return nil, err
	}
	secrets, err := o.n.cfg.Extension.Secrets(id.Domain())
	if err != nil {
		return nil, err
	}
	info, err := openNodeInfo(secrets, raw)
	if err != nil {
		return nil, err
	}
	return info.Locations, nil
}

// Notify tells all super-nodes that there is a map of this epoch, and those that were in the last one and have left it: they
// are to serve no more.
func (o *OperatorMesh) Notify(ctx context.Context, epoch uint64) {
	s := o.n.serving.Load()
	m := s.server.Map()
	if m == nil {
		return
	}
	members := slices.Clone(m.Members())
	if before := s.notified.Swap(m); before != nil {
		for _, mem := range before.Members() {
			if _, stays := m.Member(mem.Peer.ID); !stays {
				members = append(members, mem)
			}
		}
	}
	for _, mem := range members {
		if mem.Peer.ID == s.id {
			continue
		}
		o.n.tasks.start(func(ctx context.Context) {
			ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
			defer cancel()
			c := &caller{o.n, s.id}
			if _, err := c.Call(ctx, mem.Peer, protocol.TransferPartition{Epoch: epoch}); err != nil {
				o.n.log.Debug("super-node not told of the map", "node", mem.Peer.ID.Short(), "error", err)
			}
		})
	}
}
