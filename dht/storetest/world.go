// Package storetest holds every dht.Store to the same promises, and makes the signed records that tests of the DHT need.
package storetest

import (
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"culvert/partition"
	"culvert/protocol"
	"culvert/protocol/key"
)

// Start is when the tests' clock begins.
var Start = time.UnixMilli(1_800_000_000_000)

// World is a mesh's trust: root, one operator, and nodes made from seeds.
type World struct {
	T        testing.TB
	Root     *key.Pair
	Operator *key.Pair
	Trust    *protocol.Trust
	OpID     protocol.ID
	OpRecord []byte
}

// Node is one member of a domain with its keys and certificate.
type Node struct {
	ID     protocol.ID
	Keys   *key.Pair
	Record []byte
	Cert   *protocol.CertifiedNode
}

// Pair makes keys from a seed.
func Pair(t testing.TB, seed string) *key.Pair {
	t.Helper()
	a, b := sha256.Sum256([]byte(seed+" signing")), sha256.Sum256([]byte(seed+" sealing"))
	p, err := key.Generate(&source{append(a[:], b[:]...)})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

type source struct{ b []byte }

func (s *source) Read(p []byte) (int, error) {
	n := copy(p, s.b)
	s.b = s.b[n:]
	return n, nil
}

// NewWorld makes the same world every time.
func NewWorld(t testing.TB) *World {
	t.Helper()
	w := &World{T: t, Root: Pair(t, "root"), Operator: Pair(t, "operator")}
	w.Trust = protocol.NewTrust(w.Root.Signing.Public().Hash())
	w.OpID = protocol.NodeID(protocol.OperatorDomain, w.Operator.Signing.Public())
	w.OpRecord = w.Sign(w.Root.Signing, protocol.Record{
		Table: protocol.TableOperatorNode, Owner: w.OpID, Signer: w.Trust.RootID(), Epoch: 1, Sequence: 1,
		Issued: Start, Expires: Start.Add(10 * 365 * 24 * time.Hour),
	}, protocol.OperatorNodeValue{Signing: w.Operator.Signing.Public(), Sealing: w.Operator.Sealing.Public()})
	if err := w.Trust.AddOperator(w.OpRecord, w.Root.Signing.Public(), Start); err != nil {
		t.Fatal(err)
	}
	return w
}

// Sign marshals v (raw bytes as they are, nil for none) into r and signs it.
func (w *World) Sign(s *key.Signing, r protocol.Record, v any) []byte {
	w.T.Helper()
	switch v := v.(type) {
	case nil:
	case []byte:
		r.Value = v
	default:
		b, err := protocol.Marshal(v)
		if err != nil {
			w.T.Fatal(err)
		}
		r.Value = b
	}
	raw, err := protocol.SignRecord(&r, s)
	if err != nil {
		w.T.Fatal(err)
	}
	return raw
}

// Static signs a record as the operator; zero times become a year from Start.
func (w *World) Static(r protocol.Record, v any) []byte {
	w.T.Helper()
	r.Signer = w.OpID
	if r.Issued.IsZero() {
		r.Issued = Start
	}
	if r.Expires.IsZero() {
		r.Expires = Start.Add(365 * 24 * time.Hour)
	}
	if r.Epoch == 0 {
		r.Epoch = 1
	}
	return w.Sign(w.Operator.Signing, r, v)
}

// Node makes and certifies a node of domain d.
func (w *World) Node(d protocol.Domain, seed string) *Node {
	w.T.Helper()
	n := &Node{Keys: Pair(w.T, seed)}
	n.ID = protocol.NodeID(d, n.Keys.Signing.Public())
	n.Record = w.Static(protocol.Record{Table: protocol.TableNode, Owner: n.ID, Sequence: 1},
		protocol.NodeValue{Signing: n.Keys.Signing.Public(), Sealing: n.Keys.Sealing.Public()})
	c, err := w.Trust.CheckNode(n.Record, Start)
	if err != nil {
		w.T.Fatal(err)
	}
	n.Cert = c
	return n
}

// Info is n's NodeInfo at a time, with lookup keys.
func (w *World) Info(n *Node, sequence uint64, issued time.Time, lookups ...protocol.Hash) []byte {
	w.T.Helper()
	return w.Sign(n.Keys.Signing, protocol.Record{
		Table: protocol.TableNodeInfo, Owner: n.ID, Signer: n.ID, Epoch: 1, Sequence: sequence,
		Issued: issued, Expires: issued.Add(10 * time.Minute), Lookups: lookups,
	}, binary.BigEndian.AppendUint64(make([]byte, 100), sequence))
}

// Withdrawal is n's tombstone.
func (w *World) Withdrawal(n *Node, sequence uint64, issued time.Time) []byte {
	w.T.Helper()
	return w.Sign(n.Keys.Signing, protocol.Record{
		Table: protocol.TableNodeInfo, Tombstone: true, Owner: n.ID, Signer: n.ID, Epoch: 1, Sequence: sequence,
		Issued: issued, Expires: issued.Add(10 * time.Minute),
	}, nil)
}

// Device is an EndDevice record of domain d.
func (w *World) Device(d protocol.Domain, name string, sequence uint64) []byte {
	w.T.Helper()
	return w.Static(protocol.Record{
		Table: protocol.TableEndDevice, Owner: protocol.NewID(d, Key(name)), Sequence: sequence, Lookups: []protocol.Hash{Key("name " + name)},
	}, []byte(name))
}

// Revocation is number n of the operator's list.
func (w *World) Revocation(owner protocol.ID, number uint64, kind protocol.RevocationKind) []byte {
	w.T.Helper()
	return w.Static(protocol.Record{Table: protocol.TableRevocation, Owner: owner, Sequence: number},
		protocol.RevocationValue{Number: number, Kind: kind})
}

// Place is one entry of a map to be signed.
type Place struct {
	Node        *Node
	Range, Fill partition.Range
}

// Map signs a map of these nodes over the whole range, with their SuperNode records. The nodes' addresses are 192.0.2.0+i.
func (w *World) Map(epoch uint64, nodes ...*Node) (*partition.Map, [][]byte, []byte) {
	w.T.Helper()
	var places []Place
	for _, n := range nodes {
		places = append(places, Place{n, partition.Whole(), partition.None()})
	}
	return w.Layout(epoch, places...)
}

// Layout signs a map like Map, of given ranges.
func (w *World) Layout(epoch uint64, places ...Place) (*partition.Map, [][]byte, []byte) {
	w.T.Helper()
	var recs [][]byte
	for i, l := range places {
		n := l.Node
		p := partition.Placement{Range: l.Range, Fill: l.Fill, Candidate: partition.Candidate{
			ID: n.ID, Signing: n.Keys.Signing.Public(), Sealing: n.Keys.Sealing.Public(),
			Addresses: []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 7700)},
		}}
		recs = append(recs, w.Static(protocol.Record{Table: protocol.TableSuperNode, Owner: n.ID, Sequence: epoch}, p.Value(epoch)))
	}
	hv, err := partition.Head(epoch, recs)
	if err != nil {
		w.T.Fatal(err)
	}
	head := w.Static(protocol.Record{Table: protocol.TableMapHead, Owner: partition.HeadOwner(w.Trust.Root()), Sequence: epoch}, hv)
	m, err := partition.Build(head, recs, func(r *protocol.Record) error { return w.Trust.CheckStatic(r, Start) })
	if err != nil {
		w.T.Fatal(err)
	}
	return m, recs, head
}

// OperatorNode is the operator as one talks to it.
func (w *World) OperatorNode() *Node {
	o, _ := w.Trust.Operator(w.OpID)
	return &Node{ID: w.OpID, Keys: w.Operator, Record: w.OpRecord, Cert: o.OperatorAsNode()}
}

// Key is a lookup key from text.
func Key(s string) protocol.Hash { return sha256.Sum256([]byte(s)) }

// Parse reads a record that must be one.
func Parse(t testing.TB, raw []byte) *protocol.Record {
	t.Helper()
	r, err := protocol.ParseRecord(raw)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
