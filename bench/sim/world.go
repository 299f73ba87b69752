package sim

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"culvert/protocol"
	"culvert/protocol/key"
)

// world is the keys that all runs of a process share: root, operator and as many nodes as anybody wanted. They are made from
// names, so that they are the same in every process.
type world struct {
	root     *key.Pair
	operator *identity
	opRecord []byte

	mu    sync.Mutex
	nodes map[string]*identity
}

// identity is a node's keys and certificate.
type identity struct {
	id     protocol.ID
	keys   *key.Pair
	record []byte
	cert   *protocol.CertifiedNode
}

var theWorld = sync.OnceValue(func() *world {
	w := &world{root: pair("root"), nodes: make(map[string]*identity)}
	op := pair("operator")
	w.operator = &identity{id: protocol.NodeID(protocol.OperatorDomain, op.Signing.Public()), keys: op}
	root := protocol.NewTrust(w.root.Signing.Public().Hash()).RootID()
	w.opRecord = sign(w.root.Signing, protocol.Record{
		Table: protocol.TableOperatorNode, Owner: w.operator.id, Signer: root, Epoch: 1, Sequence: 1,
		Issued: Start, Expires: Start.Add(10 * 365 * 24 * time.Hour),
	}, protocol.OperatorNodeValue{
		Signing: op.Signing.Public(), Sealing: op.Sealing.Public(), Addresses: []protocol.Addr{protocol.AddrOf(address(0))},
	})
	t := w.trust()
	o, _ := t.Operator(w.operator.id)
	w.operator.cert, w.operator.record = o.OperatorAsNode(), w.opRecord
	return w
})

// trust is a chain of its own, as every machine has one.
func (w *world) trust() *protocol.Trust {
	t := protocol.NewTrust(w.root.Signing.Public().Hash())
	if err := t.AddOperator(w.opRecord, w.root.Signing.Public(), Start); err != nil {
		panic(err)
	}
	return t
}

// node is the node of that name in domain d.
func (w *world) node(d protocol.Domain, name string) *identity {
	w.mu.Lock()
	defer w.mu.Unlock()
	k := fmt.Sprint(d, " ", name)
	if n := w.nodes[k]; n != nil {
		return n
	}
	n := &identity{keys: pair(k)}
	n.id = protocol.NodeID(d, n.keys.Signing.Public())
	n.record = w.static(protocol.Record{Table: protocol.TableNode, Owner: n.id, Epoch: 1, Sequence: 1, Issued: Start, Expires: Start.Add(30 * 24 * time.Hour)},
		protocol.NodeValue{Signing: n.keys.Signing.Public(), Sealing: n.keys.Sealing.Public()})
	var err error
	if n.cert, err = w.trust().CheckNode(n.record, Start); err != nil {
		panic(err)
	}
	w.nodes[k] = n
	return n
}

// static signs as the operator.
func (w *world) static(r protocol.Record, v any) []byte {
	r.Signer = w.operator.id
	return sign(w.operator.keys.Signing, r, v)
}

// sign marshals v (bytes as they are, nil for none) into r and signs it. What cannot be signed is a mistake of this package.
func sign(s *key.Signing, r protocol.Record, v any) []byte {
	switch v := v.(type) {
	case nil:
	case []byte:
		r.Value = v
	default:
		b, err := protocol.Marshal(v)
		if err != nil {
			panic(err)
		}
		r.Value = b
	}
	raw, err := protocol.SignRecord(&r, s)
	if err != nil {
		panic(err)
	}
	return raw
}

func pair(name string) *key.Pair {
	a, b := sha256.Sum256([]byte(name+" signing")), sha256.Sum256([]byte(name+" sealing"))
	p, err := key.Generate(&bytesReader{append(a[:], b[:]...)})
	if err != nil {
		panic(err)
	}
	return p
}

type bytesReader struct{ b []byte }

func (r *bytesReader) Read(p []byte) (int, error) {
	n := copy(p, r.b)
	r.b = r.b[n:]
	return n, nil
}

// address is where machine i can be reached.
func address(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(20 + i%200), byte(i / 200), 2, 1}), 7700)
}

func hashOf(format string, a ...any) protocol.Hash {
	return sha256.Sum256(fmt.Appendf(nil, format, a...))
}

func must(raw []byte) *protocol.Record {
	r, err := protocol.ParseRecord(raw)
	if err != nil {
		panic(err)
	}
	return r
}

func value(n uint64) []byte { return binary.BigEndian.AppendUint64(make([]byte, 92), n) }
