package protocol

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"culvert/protocol/key"
)

// operatorRecord has the root admit k.
func operatorRecord(t *testing.T, root, k *key.Pair, epoch, sequence uint64, change func(*OperatorNodeValue)) []byte {
	t.Helper()
	v := OperatorNodeValue{Signing: k.Signing.Public(), Sealing: k.Sealing.Public()}
	if change != nil {
		change(&v)
	}
	raw, err := Marshal(v)
	must(t, err)
	b, err := SignRecord(&Record{
		Table: TableOperatorNode, Owner: NodeID(OperatorDomain, k.Signing.Public()),
		Signer: NewID(OperatorDomain, root.Signing.Public().Hash()), Epoch: epoch, Sequence: sequence,
		Issued: sampleTime, Expires: sampleTime.Add(time.Hour), Value: raw,
	}, root.Signing)
	must(t, err)
	return b
}

func consent(old, next *key.Pair, epoch uint64) func(*OperatorNodeValue) {
	return func(v *OperatorNodeValue) {
		v.Predecessor = NodeID(OperatorDomain, old.Signing.Public())
		v.PredecessorSignature = old.Signing.Sign(HandoverText(next.Signing.Public(), epoch))
	}
}

func TestOperatorChain(t *testing.T) {
	root, first, second, third, thief := sampleKeys(t, 1), sampleKeys(t, 2), sampleKeys(t, 3), sampleKeys(t, 4), sampleKeys(t, 5)
	trust := NewTrust(root.Signing.Public().Hash())
	add := func(b []byte) error { return trust.AddOperator(b, root.Signing.Public(), sampleTime) }
	must(t, add(operatorRecord(t, root, first, 1, 1, nil)))
	if err := add(operatorRecord(t, root, second, 1, 1, nil)); !errors.Is(err, ErrUntrusted) {
		t.Errorf("a second one of the same epoch without consent: %v", err)
	}
	if err := add(operatorRecord(t, root, second, 1, 1, consent(thief, second, 1))); !errors.Is(err, ErrUntrusted) {
		t.Errorf("with the consent of somebody else: %v", err)
	}
	if err := add(operatorRecord(t, root, second, 1, 1, consent(first, third, 1))); !errors.Is(err, ErrUntrusted) {
		t.Errorf("with a consent to another: %v", err)
	}
	must(t, add(operatorRecord(t, root, second, 1, 1, consent(first, second, 1))))
	must(t, add(operatorRecord(t, root, third, 2, 1, nil))) // the root alone, at a higher epoch
	if err := add(operatorRecord(t, thief, thief, 3, 1, nil)); !errors.Is(err, ErrUntrusted) {
		t.Errorf("signed by another root: %v", err)
	}
	if err := trust.AddOperator(operatorRecord(t, root, thief, 3, 1, nil), thief.Signing.Public(), sampleTime); err == nil {
		t.Error("verified with another root key")
	}
	if err := trust.AddOperator(operatorRecord(t, root, thief, 3, 1, nil), root.Signing.Public(), sampleTime.Add(2*time.Hour)); !errors.Is(err, ErrRecordExpired) {
		t.Errorf("expired: %v", err)
	}
	ops := trust.Operators()
	if len(ops) != 3 || ops[0].ID != NodeID(OperatorDomain, third.Signing.Public()) {
		t.Errorf("%d operators, first %v", len(ops), ops[0].ID.Short())
	}
	// An older record of a known operator changes nothing.
	must(t, add(operatorRecord(t, root, third, 2, 5, func(v *OperatorNodeValue) { v.HTTPS = "new:443" })))
	must(t, add(operatorRecord(t, root, third, 2, 4, func(v *OperatorNodeValue) { v.HTTPS = "old:443" })))
	if o, _ := trust.Operator(ops[0].ID); o.HTTPS != "new:443" {
		t.Errorf("rolled back to %s", o.HTTPS)
	}
}

func TestCertificates(t *testing.T) {
	root, op, node := sampleKeys(t, 1), sampleKeys(t, 2), sampleKeys(t, 3)
	trust := NewTrust(root.Signing.Public().Hash())
	limited := func(v *OperatorNodeValue) { v.Domains = []Domain{7} }
	must(t, trust.AddOperator(operatorRecord(t, root, op, 1, 1, limited), root.Signing.Public(), sampleTime))
	certify := func(change func(*Record, *NodeValue), by *key.Pair) []byte {
		v := NodeValue{Signing: node.Signing.Public(), Sealing: node.Sealing.Public(), Groups: []string{"g"}}
		r := &Record{
			Table: TableNode, Owner: NodeID(7, node.Signing.Public()), Signer: NodeID(OperatorDomain, by.Signing.Public()), Epoch: 1,
			Sequence: 3, Issued: sampleTime, Expires: sampleTime.Add(time.Minute),
		}
		change(r, &v)
		var err error
		r.Value, err = Marshal(v)
		must(t, err)
		b, err := SignRecord(r, by.Signing)
		must(t, err)
		return b
	}
	good := certify(func(*Record, *NodeValue) {}, op)
	c, err := trust.CheckNode(good, sampleTime)
	must(t, err)
	if c.ID != NodeID(7, node.Signing.Public()) || c.Sealing != node.Sealing.Public() || c.Groups[0] != "g" || !bytes.Equal(c.Record, good) {
		t.Errorf("certified %+v", c)
	}
	identity := key.Public{1} // the neutral point: it verifies signatures that nobody made
	for name, b := range map[string][]byte{
		"small order": certify(func(r *Record, v *NodeValue) { v.Signing, r.Owner = identity, NodeID(7, identity) }, op),
		"no point": certify(func(r *Record, v *NodeValue) {
			v.Signing[31] ^= 0x80
			v.Signing[0] ^= 1
			r.Owner = NodeID(7, v.Signing)
		}, op),
		"not its ID":  certify(func(r *Record, v *NodeValue) { r.Owner = sampleID(7, 1) }, op),
		"domain 8":    certify(func(r *Record, v *NodeValue) { r.Owner = NodeID(8, v.Signing) }, op),
		"operator's":  certify(func(r *Record, v *NodeValue) { r.Owner = NodeID(OperatorDomain, v.Signing) }, op),
		"self-signed": certify(func(r *Record, v *NodeValue) {}, node),
		"tombstone":   certify(func(r *Record, v *NodeValue) { r.Tombstone = true }, op),
		"later epoch": certify(func(r *Record, v *NodeValue) { r.Epoch = 2 }, op),
		"table":       certify(func(r *Record, v *NodeValue) { r.Table = TableSuperNode }, op),
	} {
		if _, err := trust.CheckNode(b, sampleTime); err == nil {
			t.Errorf("%s: certified", name)
		}
	}
	if _, err := trust.CheckNode(good, sampleTime.Add(time.Minute)); !errors.Is(err, ErrRecordExpired) {
		t.Errorf("expired: %v", err)
	}
	if err := trust.AddOperator(operatorRecord(t, root, &key.Pair{Signing: op.Signing, Sealing: op.Sealing}, 1, 2,
		func(v *OperatorNodeValue) { v.Signing = identity }), root.Signing.Public(), sampleTime); err == nil {
		t.Error("an operator key of small order was taken")
	}
}

func TestSealedValues(t *testing.T) {
	s := &DomainSecrets{Domain: 7, Keys: []DomainKey{{Epoch: 2, Key: [32]byte{2}}, {Epoch: 1, Key: [32]byte{1}}}, Secret: [32]byte{3}}
	old := &DomainSecrets{Domain: 7, Keys: s.Keys[1:], Secret: s.Secret}
	owner := sampleID(7, 1)
	for _, by := range []*DomainSecrets{s, old} {
		b, err := by.SealValue(sampleRand(), TableNodeInfo, owner, []byte("value"))
		must(t, err)
		if p, err := s.OpenValue(TableNodeInfo, owner, b); err != nil || string(p) != "value" {
			t.Errorf("%q, %v", p, err)
		}
		if _, err := s.OpenValue(TableEndDevice, owner, b); !errors.Is(err, ErrDomainKey) {
			t.Errorf("as another table's: %v", err)
		}
		if _, err := s.OpenValue(TableNodeInfo, sampleID(7, 2), b); !errors.Is(err, ErrDomainKey) {
			t.Errorf("as another owner's: %v", err)
		}
		for i := range b {
			if _, err := s.OpenValue(TableNodeInfo, owner, b[:i]); !errors.Is(err, ErrDomainKey) {
				t.Errorf("%d bytes: %v", i, err)
			}
		}
	}
	b, err := s.SealValue(sampleRand(), TableNodeInfo, owner, nil)
	must(t, err)
	if _, err := old.OpenValue(TableNodeInfo, owner, b); !errors.Is(err, ErrDomainKey) {
		t.Errorf("without the new key: %v", err)
	}
	if _, err := new(DomainSecrets).SealValue(sampleRand(), TableNodeInfo, owner, nil); !errors.Is(err, ErrDomainKey) {
		t.Errorf("without keys: %v", err)
	}
	if s.LocationKey(Hash{1}) == s.LocationKey(Hash{2}) || s.NameKey("Printer") != s.NameKey("printer") || s.NameKey("a") == s.LocationKey(Hash{}) {
		t.Error("lookup keys")
	}
	if out := fmt.Sprintf("%v %+v %#v %v %#v", s, s, s, s.Keys[0], s.Keys[0]); strings.Count(out, "redacted") != 5 {
		t.Errorf("printed as %s", out)
	}
}

func TestIDs(t *testing.T) {
	id := sampleID(0xfedcba98, 3)
	back, err := ParseID(id.String())
	if err != nil || back != id || id.Domain() != 0xfedcba98 || id.Position() != 0xfedcba9803040506 {
		t.Errorf("%v, %v", back, err)
	}
	for _, s := range []string{"", "-", "fedcba98", id.String()[1:], id.String() + "0", strings.Repeat("x", 1000), "fedcba9-" + id.String()[9:]} {
		if _, err := ParseID(s); !errors.Is(err, ErrBadID) {
			t.Errorf("%.20q: %v", s, err)
		}
	}
}
