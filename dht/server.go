package dht

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"culvert/partition"
	"culvert/protocol"
	"culvert/protocol/key"
)

const (
	// MaxLife is how long a NodeInfo may live.
	MaxLife = 15 * time.Minute
	// MaxSkew is by how much an owner's clock may be ahead.
	MaxSkew = 2 * time.Minute

	commitWait = 10 * time.Second
)

// Config of a Server.
type Config struct {
	Self    protocol.ID // under which the map knows this node
	Store   Store
	Trust   *protocol.Trust
	RootKey key.Public // verifies OperatorNode records; its hash is Trust.Root
	// Operator makes it answer for the whole key space, whether the map names it or not.
	Operator bool
	Limits   Limits

	// Callbacks run on the goroutine that stored the record, after its commit; nil ones are left out. OnRevocation and OnMap hear
	// from NewServer what the store holds.
	OnRevocation func(r *protocol.Record, v protocol.RevocationValue)
	OnMap        func(*partition.Map)
	OnOperator   func(*protocol.Record)
	OnConflict   func(*protocol.Record)
	// OnTransfer hears that a map of this epoch exists, newer than the one held.
	OnTransfer func(epoch uint64)
}

// Server answers for a super-node or the operator. It is a protocol.Role; safe for concurrent use.
type Server struct {
	cfg   Config
	count counters
	rates *rates
	// reserved is what Puts under way are about to take of quotas.
	reserved reservations
	certs    *certificates
	ready    atomic.Bool
	pmap     atomic.Pointer[partition.Map]
	duty     atomic.Pointer[duty] // never nil
	banned   *Revoked

	holdsBack atomic.Bool
	progress  atomic.Pointer[Progress]

	mapMu sync.Mutex // one change of the map at a time
}

var _ protocol.Role = (*Server)(nil)

// NewServer takes up what the store holds: operators, revocations and the map. It is silent to everybody but fellow members
// until SetReady.
func NewServer(cfg Config, now time.Time) (*Server, error) {
	if cfg.Store == nil || cfg.Trust == nil {
		return nil, errors.New("dht: server needs a store and a trust chain")
	}
	cfg.Limits.fill()
	s := &Server{cfg: cfg, rates: newRates(cfg.Limits), certs: newCertificates(), banned: NewRevoked()}
	s.duty.Store(&duty{})
	if err := s.loadOperators(now); err != nil {
		return nil, err
	}
	err := s.every(protocol.TableRevocation, now, func(r *protocol.Record) {
		// The rest of the node must not forget over a restart what the server remembers.
		if v, ok := s.banned.Add(r); ok && cfg.OnRevocation != nil {
			cfg.OnRevocation(r, v)
		}
	})
	if err != nil {
		return nil, err
	}
	return s, s.rebuildMap(now)
}

// loadOperators takes in the chain in whatever order it needs: an operator may rest on another's consent.
func (s *Server) loadOperators(now time.Time) error {
	var rest []*protocol.Record
	err := s.every(protocol.TableOperatorNode, now, func(r *protocol.Record) { rest = append(rest, r) })
	for n := -1; err == nil && n != len(rest); {
		n = len(rest)
		left := rest[:0]
		for _, r := range rest {
			if s.cfg.Trust.AddOperator(r.Raw(), s.cfg.RootKey, now) != nil {
				left = append(left, r)
			}
		}
		rest = left
	}
	return err
}

// every reads a whole table that is on every super-node.
func (s *Server) every(t protocol.Table, now time.Time, f func(*protocol.Record)) error {
	q := Query{Table: t, By: ByPosition, To: math.MaxUint64, Now: now}
	var items [64]Item
	for {
		n, err := s.cfg.Store.Select(q, items[:])
		if err != nil {
			return fmt.Errorf("dht: read %s: %w", t, err)
		}
		for _, it := range items[:n] {
			if r, err := protocol.ParseRecord(it.Raw); err == nil {
				f(r)
			}
		}
		if n < len(items) {
			return nil
		}
		q.After = items[n-1].Owner
	}
}

// Handlers implements protocol.Role.
func (s *Server) Handlers() map[protocol.Command]protocol.Handler {
	return map[protocol.Command]protocol.Handler{
		protocol.CmdGetNode:           s.admitted(s.getNode),
		protocol.CmdGetNodeInfo:       s.admitted(s.getNodeInfo),
		protocol.CmdGetTunnelNodes:    s.admitted(s.getTunnelNodes),
		protocol.CmdGetEndDevices:     s.admitted(s.getEndDevices),
		protocol.CmdGetRevocations:    s.admitted(s.getRevocations),
		protocol.CmdGetSuperNodes:     s.admitted(s.getSuperNodes),
		protocol.CmdGetOperatorNodes:  s.admitted(s.getOperatorNodes),
		protocol.CmdPut:               s.put,
		protocol.CmdDigest:            s.admitted(s.digest),
		protocol.CmdRepair:            s.admitted(s.repair),
		protocol.CmdTransferPartition: s.admitted(s.transfer),
	}
}

// admitted keeps answers, strangers and the revoked from a handler.
func (s *Server) admitted(h protocol.Handler) protocol.Handler {
	return func(now time.Time, v *protocol.Verified) []protocol.Out {
		if !s.admits(v) {
			return nil
		}
		return h(now, v)
	}
}

// admits counts what it does not admit.
func (s *Server) admits(v *protocol.Verified) bool {
	switch {
	case v.Reply:
		s.drop(dropReply)
	case v.Node == nil || v.Node.ID != v.Sender:
		s.drop(dropUncertified)
	case s.Revoked(v.Sender) && !v.Command.AnsweredToRevoked():
		s.drop(dropRevoked)
	default:
		return true
	}
	return false
}

func (s *Server) drop(r reason) []protocol.Out {
	s.count.add(r)
	return nil
}

// Stats are what was dropped, refused and stored, by reason.
func (s *Server) Stats() map[string]uint64 { return s.count.snapshot() }

// SetReady opens or closes the server to ordinary nodes: a new super-node is closed until its first repair has finished.
func (s *Server) SetReady(ready bool) { s.ready.Store(ready) }

// Ready reports whether ordinary nodes are answered. An operator that is no member, with whom nobody repairs, answers from
// what it has signed: it is asked when all else has failed.
func (s *Server) Ready() bool {
	if s.ready.Load() || !s.cfg.Operator {
		return s.ready.Load()
	}
	m := s.Map()
	if m == nil {
		return true
	}
	_, member := m.Member(s.cfg.Self)
	return !member
}

// Map is the newest complete map, nil before the first.
func (s *Server) Map() *partition.Map { return s.pmap.Load() }

// Revoked reports whether the node, or its whole domain, is shut out.
func (s *Server) Revoked(id protocol.ID) bool { return s.banned.Has(id) }

// RevokedSet is the set behind Revoked.
func (s *Server) RevokedSet() *Revoked { return s.banned }

func (s *Server) isOperator(id protocol.ID) bool {
	o, ok := s.cfg.Trust.Operator(id)
	return ok && o.Retired.IsZero()
}

// replicates reports whether id may see records of every domain, and pass them on: operators and members of the map, and for a
// while those who have left it, whose last stores are on their way.
func (s *Server) replicates(id protocol.ID) bool {
	if id.Domain() == protocol.OperatorDomain { // once retired it is shown nothing, whatever map it was on
		return s.isOperator(id)
	}
	m := s.Map()
	if m == nil {
		return false
	}
	_, ok := m.Member(id)
	for _, e := range s.duty.Load().earlier {
		if !ok {
			_, ok = e.Member(id)
		}
	}
	return ok
}

func (s *Server) epoch() uint64 {
	if m := s.Map(); m != nil {
		return m.Epoch()
	}
	return 0
}

// outside is silence, and in a session WrongRange with the epoch that says why.
func (s *Server) outside(v *protocol.Verified, r reason) []protocol.Out {
	s.count.add(r)
	if v.Session == 0 {
		return nil
	}
	return protocol.Reply(protocol.WrongRange{Epoch: s.epoch()})
}

// rebuildMap makes the newest complete map of the records held the current one.
func (s *Server) rebuildMap(now time.Time) error {
	s.mapMu.Lock()
	defer s.mapMu.Unlock()
	var heads, members [][]byte
	err := errors.Join(
		s.every(protocol.TableMapHead, now, func(r *protocol.Record) { heads = append(heads, r.Raw()) }),
		s.every(protocol.TableSuperNode, now, func(r *protocol.Record) { members = append(members, r.Raw()) }))
	for _, h := range heads {
		m, berr := partition.Update(s.Map(), h, members, func(r *protocol.Record) error { return s.cfg.Trust.CheckStatic(r, now) })
		if berr != nil || s.Map() != nil && m.Epoch() <= s.epoch() {
			continue // incomplete: the missing records are on their way, each of them brings us here again
		}
		s.takeOverLocked(m)
	}
	return err
}

// Install makes a whole map current that was proven elsewhere and whose records have been applied. Records that have left it
// may still be held, because their withdrawals have not come yet: the map cannot be told from what is held then.
func (s *Server) Install(m *partition.Map) {
	s.mapMu.Lock()
	defer s.mapMu.Unlock()
	if s.Map() != nil && m.Epoch() <= s.epoch() {
		return
	}
	s.takeOverLocked(m)
}

func (s *Server) commitContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), commitWait)
}
