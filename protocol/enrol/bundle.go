package enrol

import (
	"fmt"
	"net/netip"
	"time"

	"culvert/protocol"
	"culvert/protocol/key"
)

// MaxRevocations is how many revocations one bundle carries; More says that there are further ones.
const MaxRevocations = 1000

// Bundle is what a node needs to trust and to find the mesh: the chain, the map, the revocations.
type Bundle struct {
	RootKey     Bytes32  `json:"root_key"`
	Operators   [][]byte `json:"operators"` // OperatorNode records, in the order in which they are admitted
	Peers       []Peer   `json:"peers"`     // where operators answer messages now
	MapHead     []byte   `json:"map_head,omitempty"`
	SuperNodes  [][]byte `json:"super_nodes"`
	Revocations [][]byte `json:"revocations"` // in order of their numbers, the newest of each node and domain
	Last        uint64   `json:"last"`        // number of the last revocation in this answer
	More        bool     `json:"more,omitempty"`
	Time        int64    `json:"time"` // the operator's clock, ms since 1970
}

// Peer is an operator's current message addresses. They come over TLS proved by the operator's key, and are only hints of
// where to knock: who answers must still prove to be the operator.
type Peer struct {
	ID        protocol.ID      `json:"id"`
	Addresses []netip.AddrPort `json:"addresses"`
}

// Trust verifies the chain beneath root and returns it.
func (b *Bundle) Trust(root protocol.Hash, now time.Time) (*protocol.Trust, error) {
	if key.Public(b.RootKey).Hash() != [32]byte(root) {
		return nil, ErrWrongRoot
	}
	t := protocol.NewTrust(root)
	for _, raw := range b.Operators {
		if err := t.AddOperator(raw, key.Public(b.RootKey), now); err != nil {
			return nil, fmt.Errorf("%w: operator record: %w", ErrBadAnswer, err)
		}
	}
	if len(t.Operators()) == 0 {
		return nil, fmt.Errorf("%w: no operator record", ErrBadAnswer)
	}
	return t, nil
}

// Contacts are the operators that trust admits, each at the addresses given here and in its record.
func (b *Bundle) Contacts(t *protocol.Trust) []protocol.Peer {
	var out []protocol.Peer
	for _, o := range t.Operators() {
		if !o.Retired.IsZero() {
			continue
		}
		seen := make(map[netip.AddrPort]bool)
		add := func(a netip.AddrPort) {
			a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
			if a.IsValid() && a.Port() != 0 && !protocol.StreamsOnly(a) && !seen[a] {
				seen[a] = true
				out = append(out, protocol.Peer{ID: o.ID, Signing: o.Signing, Sealing: o.Sealing, Addr: a})
			}
		}
		for _, p := range b.Peers {
			if p.ID == o.ID {
				for _, a := range p.Addresses {
					add(a)
				}
			}
		}
		for _, a := range o.Addresses {
			add(a.AddrPort)
		}
	}
	return out
}
