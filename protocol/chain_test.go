package protocol

import (
	"errors"
	"testing"
	"time"

	"culvert/protocol/key"
)

// retirement is the root's word that k signs nothing after at.
func retirement(t *testing.T, root, k *key.Pair, epoch, sequence uint64, at time.Time) []byte {
	t.Helper()
	v, err := Marshal(OperatorNodeValue{Signing: k.Signing.Public(), Sealing: k.Sealing.Public()})
	must(t, err)
	b, err := SignRecord(&Record{
		Table: TableOperatorNode, Tombstone: true, Owner: NodeID(OperatorDomain, k.Signing.Public()),
		Signer: NewID(OperatorDomain, root.Signing.Public().Hash()), Epoch: epoch, Sequence: sequence,
		Issued: at, Expires: sampleTime.Add(2 * time.Hour), Value: v,
	}, root.Signing)
	must(t, err)
	return b
}

func signedAt(t *testing.T, by *key.Pair, epoch uint64, at time.Time) *Record {
	t.Helper()
	raw, err := SignRecord(&Record{
		Table: TableRevocation, Owner: sampleID(7, 9), Signer: NodeID(OperatorDomain, by.Signing.Public()), Epoch: epoch, Sequence: 1,
		Issued: at, Expires: at.Add(24 * time.Hour),
	}, by.Signing)
	must(t, err)
	r, err := ParseRecord(raw)
	must(t, err)
	return r
}

// A retired operator's earlier word counts, a later one does not, and its own key does not bring it back.
func TestRetiredOperator(t *testing.T) {
	root, first, next := sampleKeys(t, 1), sampleKeys(t, 2), sampleKeys(t, 3)
	trust := NewTrust(root.Signing.Public().Hash())
	add := func(b []byte) error { return trust.AddOperator(b, root.Signing.Public(), sampleTime) }
	must(t, add(operatorRecord(t, root, first, 1, 1, nil)))
	must(t, add(operatorRecord(t, root, next, 1, 1, consent(first, next, 1))))
	before, after := signedAt(t, first, 1, sampleTime.Add(-time.Minute)), signedAt(t, first, 1, sampleTime.Add(time.Minute))
	must(t, trust.CheckStatic(after, sampleTime))
	must(t, add(retirement(t, root, first, 1, 2, sampleTime)))
	must(t, trust.CheckStatic(before, sampleTime))
	if err := trust.CheckStatic(after, sampleTime); !errors.Is(err, ErrUntrusted) {
		t.Errorf("signed after its retirement: %v", err)
	}
	must(t, trust.CheckStatic(signedAt(t, next, 1, sampleTime.Add(time.Minute)), sampleTime))
	must(t, add(operatorRecord(t, root, first, 1, 1, nil))) // the older record, played again
	if err := add(operatorRecord(t, first, first, 1, 9, nil)); !errors.Is(err, ErrUntrusted) {
		t.Errorf("readmitted by its own key: %v", err)
	}
	if err := trust.CheckStatic(after, sampleTime); !errors.Is(err, ErrUntrusted) {
		t.Errorf("it came back: %v", err)
	}
	must(t, add(retirement(t, root, first, 1, 3, time.UnixMilli(0)))) // its key was stolen: nothing it ever signed counts
	if err := trust.CheckStatic(before, sampleTime); !errors.Is(err, ErrUntrusted) {
		t.Errorf("signed by a stolen key: %v", err)
	}
}

// The chain comes in any order after its first, is handed on in an order that every reader admits, and goes on after all who
// are known have expired.
func TestChainOrder(t *testing.T) {
	root, first, second, third := sampleKeys(t, 1), sampleKeys(t, 2), sampleKeys(t, 3), sampleKeys(t, 4)
	trust := NewTrust(root.Signing.Public().Hash())
	rootKey := root.Signing.Public()
	must(t, trust.AddOperator(operatorRecord(t, root, first, 1, 1, nil), rootKey, sampleTime))
	last := operatorRecord(t, root, third, 1, 1, consent(second, third, 1))
	if err := trust.AddOperator(last, rootKey, sampleTime); !errors.Is(err, ErrUntrusted) {
		t.Errorf("before its predecessor: %v", err)
	}
	must(t, trust.Introduce(operatorRecord(t, root, second, 1, 1, consent(first, second, 1)), sampleTime))
	if len(trust.Operators()) != 3 {
		t.Fatalf("%d operators", len(trust.Operators()))
	}
	other := NewTrust(root.Signing.Public().Hash())
	if err := other.Introduce(last, sampleTime); err == nil {
		t.Error("an empty chain took somebody in")
	}
	for _, raw := range trust.Chain() {
		must(t, other.AddOperator(raw, rootKey, sampleTime))
	}
	fourth := sampleKeys(t, 5)
	alone := operatorRecord(t, root, fourth, 1, 1, nil) // expires with the others
	if err := other.AddOperator(alone, rootKey, sampleTime); !errors.Is(err, ErrUntrusted) {
		t.Errorf("the root alone within the epoch: %v", err)
	}
	late := retirement(t, root, fourth, 1, 2, sampleTime)
	if err := other.AddOperator(late, rootKey, sampleTime.Add(90*time.Minute)); err != nil {
		t.Errorf("after all have expired: %v", err)
	}
}

func TestStrangeOperatorIsNoticed(t *testing.T) {
	root, first, second := sampleKeys(t, 1), sampleKeys(t, 2), sampleKeys(t, 3)
	trust := NewTrust(root.Signing.Public().Hash())
	must(t, trust.AddOperator(operatorRecord(t, root, first, 1, 1, nil), root.Signing.Public(), sampleTime))
	if err := trust.CheckStatic(signedAt(t, second, 1, sampleTime), sampleTime); !errors.Is(err, ErrUntrusted) {
		t.Errorf("not in the chain: %v", err)
	}
	select {
	case <-trust.Strange():
	default:
		t.Error("nobody was told")
	}
}
