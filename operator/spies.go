package operator

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"culvert/operator/sqlite"
	"culvert/protocol"
	"culvert/protocol/key"
)

// spy is a node of a domain that only the operator knows to be its own. Its keys follow from the operator's, so that it is the
// same after a restart.
type spy struct {
	keys   *key.Pair
	record []byte
	until  time.Time
	told   *told
}

// spies are made when they are first needed.
type spies struct {
	o  *Operator
	mu sync.Mutex
	of map[protocol.Domain]spy
}

func (s *spies) get(ctx context.Context, d protocol.Domain) (spy, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.o.now()
	if p, ok := s.of[d]; ok && now.Before(p.until) {
		p.told.used = now
		return p, nil
	}
	p, err := s.o.newSpy(ctx, d, now)
	if err != nil {
		return p, err
	}
	if p.told = s.of[d].told; p.told == nil {
		p.told = &told{due: now.Add(rand.N(firstAnnounce)), used: now}
	}
	s.of[d] = p
	return p, nil
}

func (o *Operator) newSpy(ctx context.Context, d protocol.Domain, now time.Time) (p spy, err error) {
	if p.keys, err = o.spyKeys(d); err != nil {
		return p, err
	}
	value, err := protocol.Marshal(protocol.NodeValue{Signing: p.keys.Signing.Public(), Sealing: p.keys.Sealing.Public()})
	if err != nil {
		return p, err
	}
	id := protocol.NodeID(d, p.keys.Signing.Public())
	return p, o.update(ctx, func(tx *sqlite.Tx) error {
		old, found, err := o.current(tx, protocol.TableNode, id)
		if err != nil {
			return err
		}
		if found && old.Signer == o.id && old.Expires.Sub(now) > nodeLife/2 {
			p.record, p.until = old.Raw(), old.Expires.Add(-nodeLife/2)
			return nil
		}
		// It is published like any node's: a super-node that looked for it finds nothing odd.
		p.record, err = o.sign(tx, &protocol.Record{Table: protocol.TableNode, Owner: id, Value: value}, nodeLife)
		p.until = now.Add(nodeLife / 2)
		return err
	})
}

// spyKeys derives them from a signature that only the operator can make.
func (o *Operator) spyKeys(d protocol.Domain) (*key.Pair, error) { return spyKeysOf(o.keys.Signing, d) }

func spyKeysOf(k *key.Signing, d protocol.Domain) (*key.Pair, error) {
	seed := sha256.Sum256(k.Sign(fmt.Appendf(nil, "culvert 1 spy\x00%08x", uint32(d))))
	signing, err := key.NewSigning(seed[:])
	if err != nil {
		return nil, err
	}
	seed = sha256.Sum256(seed[:])
	sealing, err := key.NewSealing(seed[:])
	return &key.Pair{Signing: signing, Sealing: sealing}, err
}
