package messages

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"

	"culvert/protocol"
	"culvert/protocol/endpoint"
	"culvert/protocol/key"
)

// domain is the organisation that everybody here belongs to.
const domain protocol.Domain = 0xbe7c4

// world is a mesh's trust. Its keys derive from names, so that both processes make the same ones.
type world struct {
	operator *key.Pair
	trust    *protocol.Trust
	root     key.Public
	opID     protocol.ID
	now      time.Time
}

// node is one member with its keys and certificate.
type node struct {
	keys   *key.Pair
	id     protocol.ID
	record []byte
}

// pair makes the keys of that name.
func pair(kind string, n int) (*key.Pair, error) {
	return key.Generate(rand.NewChaCha8(sha256.Sum256(fmt.Appendf(nil, "culvert benchmark %s %d", kind, n))))
}

func newWorld(now time.Time) (*world, error) {
	root, err := pair("root", 0)
	if err != nil {
		return nil, err
	}
	op, err := pair("operator", 0)
	if err != nil {
		return nil, err
	}
	w := &world{operator: op, root: root.Signing.Public(), trust: protocol.NewTrust(root.Signing.Public().Hash()), now: now}
	w.opID = protocol.NodeID(protocol.OperatorDomain, op.Signing.Public())
	raw, err := sign(root.Signing, protocol.Record{
		Table: protocol.TableOperatorNode, Owner: w.opID, Signer: w.trust.RootID(), Epoch: 1, Sequence: 1,
		Issued: now.Add(-time.Hour), Expires: now.Add(24 * time.Hour),
	}, protocol.OperatorNodeValue{Signing: op.Signing.Public(), Sealing: op.Sealing.Public()})
	if err != nil {
		return nil, err
	}
	return w, w.trust.AddOperator(raw, w.root, now)
}

func sign(s *key.Signing, r protocol.Record, v any) ([]byte, error) {
	b, err := protocol.Marshal(v)
	if err != nil {
		return nil, err
	}
	r.Value = b
	return protocol.SignRecord(&r, s)
}

// member makes and certifies a node.
func (w *world) member(kind string, n int) (*node, error) {
	p, err := pair(kind, n)
	if err != nil {
		return nil, err
	}
	m := &node{keys: p, id: protocol.NodeID(domain, p.Signing.Public())}
	m.record, err = sign(w.operator.Signing, protocol.Record{
		Table: protocol.TableNode, Owner: m.id, Signer: w.opID, Epoch: 1, Sequence: 1,
		Issued: w.now.Add(-time.Minute), Expires: w.now.Add(24 * time.Hour),
	}, protocol.NodeValue{Signing: p.Signing.Public(), Sealing: p.Sealing.Public()})
	return m, err
}

// location is the lookup key of place n.
func location(n int) protocol.Hash {
	return sha256.Sum256(fmt.Appendf(nil, "culvert benchmark location %d", n))
}

// info is a node's NodeInfo at a location, sealed like any.
func (w *world) info(m *node, n int, rand *rand.ChaCha8) ([]byte, error) {
	s := protocol.DomainSecrets{Domain: domain, Keys: []protocol.DomainKey{{Epoch: 1, Key: sha256.Sum256([]byte("domain key"))}}}
	plain, err := protocol.Marshal(protocol.NodeInfoValue{
		Name: fmt.Sprintf("workstation-%d", n), Tunnel: true, Version: "bench",
		Homes: []protocol.ID{w.opID}, Locations: []protocol.Hash{location(n)},
	})
	if err != nil {
		return nil, err
	}
	v, err := s.SealValue(rand, protocol.TableNodeInfo, m.id, plain)
	if err != nil {
		return nil, err
	}
	return protocol.SignRecord(&protocol.Record{
		Table: protocol.TableNodeInfo, Owner: m.id, Signer: m.id, Epoch: 1, Sequence: 1,
		Issued: w.now.Add(-time.Second), Expires: w.now.Add(14 * time.Minute),
		Lookups: []protocol.Hash{location(n)}, Value: v,
	}, m.keys.Signing)
}

func (w *world) identity(m *node) endpoint.Identity {
	return endpoint.Identity{ID: m.id, Keys: m.keys, Record: m.record, Trust: w.trust}
}

// newEndpoint makes an endpoint whose limits do not stand in a measurement's way.
func (w *world) newEndpoint(sessions bool, seed uint64, members ...*node) (*endpoint.Endpoint, error) {
	var s [32]byte
	binary.BigEndian.PutUint64(s[:], seed)
	many := endpoint.Rate{PerSecond: 1e6, Burst: 1e6}
	e, err := endpoint.New(endpoint.Config{
		Rand: rand.NewChaCha8(s), Sessions: sessions,
		Limits: endpoint.Limits{PublicKeyRate: 1e6, Handshakes: many, Hints: many, GetNodes: many},
	})
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		if err := e.AddIdentity(w.identity(m)); err != nil {
			return nil, err
		}
	}
	return e, nil
}
