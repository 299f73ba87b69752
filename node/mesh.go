package node

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"culvert/dht"
	"culvert/partition"
	"culvert/protocol"
	"culvert/protocol/enrol"
	"culvert/protocol/key"
)

// mesh is what this node knows of one operator's mesh, shared by its memberships there: whom to trust, who serves what, who
// is no longer welcome. All of it is signed by the operator; nothing here belongs to a single domain.
type mesh struct {
	trust   *protocol.Trust
	log     *slog.Logger
	revoked *dht.Revoked
	scores  *dht.Scores

	pmap atomic.Pointer[partition.Map]

	mu        sync.RWMutex
	rootKey   key.Public
	operators []protocol.Peer                // where operators answer messages
	onRevoked []func(now time.Time)          // told when revoked grew
	onMap     map[any]func(m *partition.Map) // told of a new map, by who wants to know
}

func newMesh(root protocol.Hash, log *slog.Logger) *mesh {
	return &mesh{
		trust: protocol.NewTrust(root), log: log, revoked: dht.NewRevoked(), scores: dht.NewScores(),
		onMap: make(map[any]func(*partition.Map)),
	}
}

// learn takes in a bundle that came over verified TLS, or from this node's own disk.
func (s *mesh) learn(b *enrol.Bundle, now time.Time) error {
	root := key.Public(b.RootKey)
	if root.Hash() != [32]byte(s.trust.Root()) {
		return enrol.ErrWrongRoot
	}
	for _, raw := range b.Operators {
		if err := s.trust.AddOperator(raw, root, now); err != nil {
			s.log.Warn("operator record not taken in", "error", err)
		}
	}
	if len(s.trust.Operators()) == 0 {
		return fmt.Errorf("%w: no operator record is valid now", enrol.ErrBadAnswer)
	}
	s.mu.Lock()
	s.rootKey = root
	s.operators = b.Contacts(s.trust)
	s.mu.Unlock()
	if len(b.MapHead) > 0 {
		if err := s.takeMap(b.MapHead, b.SuperNodes, now); err != nil {
			s.log.Warn("partition map of the bundle not taken in", "error", err)
		}
	}
	s.takeRevocations(b.Revocations, now)
	return nil
}

// takeMap builds and installs a map, unless a newer one is held.
func (s *mesh) takeMap(head []byte, records [][]byte, now time.Time) error {
	m, err := partition.Build(head, records, func(r *protocol.Record) error { return s.trust.CheckStatic(r, now) })
	if err != nil {
		return err
	}
	s.installMap(m)
	return nil
}

// installMap takes in a verified map, unless a newer one is held.
func (s *mesh) installMap(m *partition.Map) {
	for {
		old := s.pmap.Load()
		if old != nil && old.Epoch() >= m.Epoch() {
			return
		}
		if s.pmap.CompareAndSwap(old, m) {
			break
		}
	}
	s.mu.RLock()
	told := slices.Collect(maps.Values(s.onMap))
	s.mu.RUnlock()
	for _, f := range told {
		f(m)
	}
}

// follow has f told of every new map, in place of what the same follower said before; nil ends that.
func (s *mesh) follow(who any, f func(*partition.Map)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f == nil {
		delete(s.onMap, who)
		return
	}
	s.onMap[who] = f
}

// takeRevocations takes in records after checking their signatures. One that does not verify, of an operator that is long
// gone perhaps, must not keep out the others.
func (s *mesh) takeRevocations(records [][]byte, now time.Time) {
	for _, raw := range records {
		r, err := protocol.ParseRecord(raw)
		if err == nil {
			err = s.trust.CheckStatic(r, now)
		}
		if err != nil {
			s.log.Warn("revocation not taken in", "error", err)
			continue
		}
		s.takeRevocation(r, now)
	}
}

// takeRevocation takes in one revocation whose signature has been checked.
func (s *mesh) takeRevocation(r *protocol.Record, now time.Time) {
	before := s.revoked.Has(r.Owner)
	if _, ok := s.revoked.Add(r); !ok || before == s.revoked.Has(r.Owner) {
		return
	}
	s.mu.RLock()
	told := s.onRevoked
	s.mu.RUnlock()
	for _, f := range told {
		f(now)
	}
}

// isRevoked reports whether a node, or its whole domain, is no longer welcome.
func (s *mesh) isRevoked(id protocol.ID) bool { return s.revoked.Has(id) }

// hasSuperNodes reports whether the map has anybody but operators in it.
func (s *mesh) hasSuperNodes() bool {
	m := s.pmap.Load()
	return m != nil && slices.ContainsFunc(m.Members(), func(mem partition.Member) bool { return mem.Domain != protocol.OperatorDomain })
}

// contacts are the operators' message addresses.
func (s *mesh) contacts() []protocol.Peer {
	s.mu.RLock()
	l := slices.Clone(s.operators)
	s.mu.RUnlock()
	// What the chain itself says comes after what the operator last told: an operator may have been added since.
	for _, o := range s.trust.Operators() {
		if !o.Retired.IsZero() {
			continue
		}
		for _, a := range o.Addresses {
			p := protocol.Peer{ID: o.ID, Signing: o.Signing, Sealing: o.Sealing, Addr: a.AddrPort}
			if a.IsValid() && !protocol.StreamsOnly(a.AddrPort) && !slices.Contains(l, p) {
				l = append(l, p)
			}
		}
	}
	return l
}

// member is a super-node of the current map.
func (s *mesh) member(id protocol.ID) (protocol.Peer, bool) {
	if m := s.pmap.Load(); m != nil {
		if mem, ok := m.Member(id); ok {
			return mem.Peer, true
		}
	}
	for _, p := range s.contacts() {
		if p.ID == id {
			return p, true
		}
	}
	return protocol.Peer{}, false
}

// bundle is what to keep on disk so that the next start needs no operator.
func (s *mesh) bundle(now time.Time) enrol.Bundle {
	s.mu.RLock()
	defer s.mu.RUnlock()
	b := enrol.Bundle{RootKey: enrol.Bytes32(s.rootKey), Operators: s.trust.Chain(), Time: now.UnixMilli()}
	for _, o := range s.trust.Operators() {
		p := enrol.Peer{ID: o.ID}
		for _, c := range s.operators {
			if c.ID == p.ID {
				p.Addresses = append(p.Addresses, c.Addr)
			}
		}
		b.Peers = append(b.Peers, p)
	}
	if m := s.pmap.Load(); m != nil {
		b.MapHead = m.Head()
		for _, mem := range m.Members() {
			b.SuperNodes = append(b.SuperNodes, mem.Record)
		}
	}
	return b
}
