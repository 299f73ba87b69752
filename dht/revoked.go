package dht

import (
	"sync"

	"culvert/protocol"
)

// Revoked is who is shut out, from verified Revocation records. Safe for concurrent use.
type Revoked struct {
	mu      sync.RWMutex
	nodes   map[protocol.ID]uint64 // to the number of the newest record about it
	domains map[protocol.Domain]ban
}

type ban struct {
	number uint64
	on     bool
}

// NewRevoked makes an empty set.
func NewRevoked() *Revoked {
	return &Revoked{nodes: make(map[protocol.ID]uint64), domains: make(map[protocol.Domain]ban)}
}

// Add takes in a verified Revocation record and returns its value; ok is false for what is none. An older record about the
// same owner changes nothing.
func (s *Revoked) Add(r *protocol.Record) (v protocol.RevocationValue, ok bool) {
	v, err := revocationValue(r)
	if err != nil {
		return v, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d := r.Owner.Domain()
	switch v.Kind {
	case protocol.RevokedNode:
		s.nodes[r.Owner] = max(s.nodes[r.Owner], v.Number)
	case protocol.BannedDomain, protocol.UnbannedAgain:
		if b, known := s.domains[d]; !known || v.Number > b.number {
			s.domains[d] = ban{v.Number, v.Kind == protocol.BannedDomain}
		}
	}
	return v, true
}

// Has reports whether id or its domain is shut out.
func (s *Revoked) Has(id protocol.ID) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.domains[id.Domain()].on {
		return true
	}
	_, ok := s.nodes[id]
	return ok
}

func revocationValue(r *protocol.Record) (v protocol.RevocationValue, err error) {
	if r.Table != protocol.TableRevocation || r.Tombstone {
		return v, protocol.ErrRecord
	}
	if err := protocol.Unmarshal(r.Value, &v); err != nil {
		return v, err
	}
	whole := r.Owner.Hash().IsZero()
	switch v.Kind {
	case protocol.RevokedNode:
		if whole {
			return v, protocol.ErrRecord
		}
	case protocol.BannedDomain, protocol.UnbannedAgain:
		if !whole {
			return v, protocol.ErrRecord
		}
	default:
		return v, protocol.ErrRecord
	}
	if v.Number == 0 || r.Owner.Domain() == protocol.OperatorDomain {
		return v, protocol.ErrRecord
	}
	return v, nil
}
