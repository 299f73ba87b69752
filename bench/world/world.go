// Package world makes the trust and the members of a mesh for the benchmarks. Keys derive from names, so that every process
// of a run makes the same ones; nobody should use them for anything else.
package world

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"

	"culvert/protocol"
	"culvert/protocol/endpoint"
	"culvert/protocol/key"
)

// Domain is the organisation that everybody belongs to.
const Domain protocol.Domain = 0xbe7c4

// World is the root, one operator, and members by name.
type World struct {
	Trust    *protocol.Trust
	Root     key.Public
	Operator protocol.ID
	Now      time.Time

	operator *key.Pair
}

// Member is a node with its keys and certificate.
type Member struct {
	Keys *key.Pair
	Cert *protocol.CertifiedNode
}

// Pair makes the keys of that name.
func Pair(kind string, n int) (*key.Pair, error) {
	return key.Generate(rand.NewChaCha8(sha256.Sum256(fmt.Appendf(nil, "culvert benchmark %s %d", kind, n))))
}

// New makes a world of which the certificates hold from now on for a day.
func New(now time.Time) (*World, error) {
	root, err := Pair("root", 0)
	if err != nil {
		return nil, err
	}
	op, err := Pair("operator", 0)
	if err != nil {
		return nil, err
	}
	w := &World{operator: op, Root: root.Signing.Public(), Trust: protocol.NewTrust(root.Signing.Public().Hash()), Now: now}
	w.Operator = protocol.NodeID(protocol.OperatorDomain, op.Signing.Public())
	raw, err := sign(root.Signing, protocol.Record{
		Table: protocol.TableOperatorNode, Owner: w.Operator, Signer: w.Trust.RootID(), Epoch: 1, Sequence: 1,
		Issued: now.Add(-time.Hour), Expires: now.Add(24 * time.Hour),
	}, protocol.OperatorNodeValue{Signing: op.Signing.Public(), Sealing: op.Sealing.Public()})
	if err != nil {
		return nil, err
	}
	return w, w.Trust.AddOperator(raw, w.Root, now)
}

func sign(s *key.Signing, r protocol.Record, v any) ([]byte, error) {
	b, err := protocol.Marshal(v)
	if err != nil {
		return nil, err
	}
	r.Value = b
	return protocol.SignRecord(&r, s)
}

// Member makes and certifies number n of a kind of node.
func (w *World) Member(kind string, n int) (*Member, error) {
	p, raw, err := w.Certify(kind, n)
	if err != nil {
		return nil, err
	}
	c, err := w.Trust.CheckNode(raw, w.Now)
	return &Member{Keys: p, Cert: c}, err
}

// Certify makes the keys and the certificate of number n of a kind of node.
func (w *World) Certify(kind string, n int) (*key.Pair, []byte, error) {
	p, err := Pair(kind, n)
	if err != nil {
		return nil, nil, err
	}
	id := protocol.NodeID(Domain, p.Signing.Public())
	raw, err := sign(w.operator.Signing, protocol.Record{
		Table: protocol.TableNode, Owner: id, Signer: w.Operator, Epoch: 1, Sequence: 1,
		Issued: w.Now.Add(-time.Minute), Expires: w.Now.Add(24 * time.Hour),
	}, protocol.NodeValue{Signing: p.Signing.Public(), Sealing: p.Sealing.Public()})
	return p, raw, err
}

// Peer is the member as others talk to it; its address is left open.
func (m *Member) Peer() protocol.Peer {
	return protocol.Peer{ID: m.Cert.ID, Signing: m.Cert.Signing, Sealing: m.Cert.Sealing}
}

// Location is the lookup key of place n.
func Location(n int) protocol.Hash {
	return sha256.Sum256(fmt.Appendf(nil, "culvert benchmark location %d", n))
}

// Info is a member's NodeInfo at a location, sealed like any.
func (w *World) Info(m *Member, place int, rand *rand.ChaCha8) ([]byte, error) {
	return w.InfoOf(m.Keys, m.Cert.ID, place, 1, w.Now, rand)
}

// InfoOf is a node's NodeInfo of that sequence, issued about now.
func (w *World) InfoOf(p *key.Pair, id protocol.ID, place int, sequence uint64, now time.Time, rand *rand.ChaCha8) ([]byte, error) {
	s := protocol.DomainSecrets{Domain: Domain, Keys: []protocol.DomainKey{{Epoch: 1, Key: sha256.Sum256([]byte("domain key"))}}}
	plain, err := protocol.Marshal(protocol.NodeInfoValue{
		Name: fmt.Sprintf("workstation-%d", place), Tunnel: true, Version: "bench",
		Homes: []protocol.ID{w.Operator}, Locations: []protocol.Hash{Location(place)},
	})
	if err != nil {
		return nil, err
	}
	v, err := s.SealValue(rand, protocol.TableNodeInfo, id, plain)
	if err != nil {
		return nil, err
	}
	return protocol.SignRecord(&protocol.Record{
		Table: protocol.TableNodeInfo, Owner: id, Signer: id, Epoch: 1, Sequence: sequence,
		Issued: now.Add(-time.Second), Expires: now.Add(14 * time.Minute),
		Lookups: []protocol.Hash{Location(place)}, Value: v,
	}, p.Signing)
}

// Device is an end-device's record under any owner, as the operator signs it.
func (w *World) Device(owner protocol.ID, sequence uint64) ([]byte, error) {
	return sign(w.operator.Signing, protocol.Record{
		Table: protocol.TableEndDevice, Owner: owner, Signer: w.Operator, Epoch: 1, Sequence: sequence,
		Issued: w.Now.Add(-time.Minute), Expires: w.Now.Add(24 * time.Hour),
	}, bytes.Repeat([]byte{1}, 150)) // as long as a sealed value
}

// Endpoint makes an endpoint for these members whose limits do not stand in a measurement's way. It knows the
// certificates of acquaintances.
func (w *World) Endpoint(sessions bool, seed uint64, members []*Member, acquaintances ...*Member) (*endpoint.Endpoint, error) {
	var s [32]byte
	binary.BigEndian.PutUint64(s[:], seed)
	known := make(map[protocol.ID][]byte)
	for _, m := range acquaintances {
		known[m.Cert.ID] = m.Cert.Record
	}
	many := endpoint.Rate{PerSecond: 1e6, Burst: 1e6}
	e, err := endpoint.New(endpoint.Config{
		Rand: rand.NewChaCha8(s), Sessions: sessions,
		Limits: endpoint.Limits{PublicKeyRate: 1e6, Handshakes: many, Hints: many, GetNodes: many},
		Lookup: func(id protocol.ID) ([]byte, bool) { b, ok := known[id]; return b, ok },
	})
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		err := e.AddIdentity(endpoint.Identity{ID: m.Cert.ID, Keys: m.Keys, Record: m.Cert.Record, Trust: w.Trust})
		if err != nil {
			return nil, err
		}
	}
	return e, nil
}
