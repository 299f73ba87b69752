package operator

import (
	"errors"
	"testing"
	"time"

	"culvert/operator/sqlite"
	"culvert/protocol"
	"culvert/protocol/key"
)

func operatorValue(p *key.Pair) protocol.OperatorNodeValue {
	return protocol.OperatorNodeValue{Signing: p.Signing.Public(), Sealing: p.Sealing.Public(), HTTPS: "op2.example.net:443"}
}

func newOp(o *Operator, epoch uint64, v protocol.OperatorNodeValue) NewOperator {
	return NewOperator{Value: v, Epoch: epoch, Sequence: 1, Issued: o.now(), Expires: o.now().Add(operatorLife)}
}

// TestHandover is ID-4: a handover needs the old operator and the root, the root alone installs one at a higher epoch, and an
// operator's key alone never.
func TestHandover(t *testing.T) {
	o, c := newOperator(t)
	root := o.rootSigner
	next, thief := newKeys(t), newKeys(t)
	admit := func(r *key.Signing, n NewOperator) error {
		t.Helper()
		raw, err := SignOperator(r, n)
		if err != nil {
			t.Fatal(err)
		}
		return o.update(t.Context(), func(tx *sqlite.Tx) error { return o.takeIn(tx, raw) })
	}
	if err := admit(root, newOp(o, 1, operatorValue(next))); !errors.Is(err, protocol.ErrUntrusted) {
		t.Errorf("the root alone within the epoch: %v", err)
	}
	stolen := operatorValue(thief)
	Consent(o.keys.Signing, 1, &stolen)
	if err := admit(o.keys.Signing, newOp(o, 1, stolen)); !errors.Is(err, protocol.ErrUntrusted) {
		t.Errorf("the operator's key alone: %v", err)
	}
	forged := operatorValue(next)
	Consent(thief.Signing, 1, &forged)
	if err := admit(root, newOp(o, 1, forged)); !errors.Is(err, protocol.ErrUntrusted) {
		t.Errorf("a stranger's consent: %v", err)
	}
	agreed := operatorValue(next)
	Consent(o.keys.Signing, 1, &agreed)
	if err := admit(root, newOp(o, 2, agreed)); err != nil {
		t.Errorf("higher epoch: %v", err)
	}
	third := operatorValue(newKeys(t))
	Consent(next.Signing, 2, &third)
	c.add(time.Hour)
	if err := admit(root, newOp(o, 2, third)); err != nil {
		t.Errorf("old operator and root: %v", err)
	}
	b, err := o.Bundle(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	trust, err := b.Trust(o.root, o.now())
	if err != nil {
		t.Fatal(err)
	}
	if len(b.Operators) != 3 || len(trust.Operators()) != 3 || trust.Operators()[0].Epoch != 2 {
		t.Errorf("chain of %d", len(b.Operators))
	}
}

func TestSmallOrderOperatorKeyIsRefused(t *testing.T) {
	o, _ := newOperator(t)
	v := operatorValue(newKeys(t))
	v.Signing = key.Public{1}
	if _, err := SignOperator(o.rootSigner, newOp(o, 2, v)); !errors.Is(err, key.ErrSmallOrder) {
		t.Error(err)
	}
}
