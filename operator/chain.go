package operator

import (
	"context"
	"fmt"
	"slices"
	"time"

	"culvert/operator/registry"
	"culvert/operator/sqlite"
	"culvert/protocol"
	"culvert/protocol/key"
)

const (
	operatorLife  = 365 * 24 * time.Hour
	operatorRenew = operatorLife / 2 // renewed when less is left
	maxOperators  = 64
)

// NewOperator describes an operator that the root is to admit.
type NewOperator struct {
	Value    protocol.OperatorNodeValue
	Epoch    uint64
	Sequence uint64
	Issued   time.Time
	Expires  time.Time
}

// SignOperator makes an OperatorNode record with the root's key. By itself it admits the first operator, or, at a higher
// epoch than any, one in place of operators that are lost. Within an epoch the value must carry the consent that Consent
// gives (ID-4); protocol.Trust holds every reader to that.
func SignOperator(root *key.Signing, o NewOperator) ([]byte, error) {
	if err := key.CheckPublic(o.Value.Signing); err != nil {
		return nil, fmt.Errorf("operator: %w", err)
	}
	value, err := protocol.Marshal(o.Value)
	if err != nil {
		return nil, err
	}
	return protocol.SignRecord(&protocol.Record{
		Table: protocol.TableOperatorNode, Owner: protocol.NodeID(protocol.OperatorDomain, o.Value.Signing),
		Signer: protocol.NodeID(protocol.OperatorDomain, root.Public()), Epoch: o.Epoch, Sequence: o.Sequence,
		Issued: o.Issued, Expires: o.Expires, Value: value,
	}, root)
}

// Consent adds the old operator's agreement to next, for a handover or a rotation of keys within one epoch.
func Consent(old *key.Signing, epoch uint64, next *protocol.OperatorNodeValue) {
	next.Predecessor = protocol.NodeID(protocol.OperatorDomain, old.Public())
	next.PredecessorSignature = old.Sign(protocol.HandoverText(next.Signing, epoch))
}

// renewChain keeps this operator's own record and certificates in time: made where they are missing or past half their
// life, or at once with force. Without the root key it leaves them as they are.
func (a *Authority) renewChain(tx *sqlite.Tx, force bool) error {
	if a.rootSigner == nil {
		return nil
	}
	now := a.now()
	value := protocol.OperatorNodeValue{Signing: a.keys.Signing.Public(), Sealing: a.keys.Sealing.Public(), HTTPS: a.https}
	n := NewOperator{Epoch: a.epoch, Sequence: 1, Issued: now, Expires: now.Add(operatorLife)}
	old, found, err := a.current(tx, protocol.TableOperatorNode, a.id)
	if err != nil {
		return err
	}
	if found {
		if !force && old.Expires.Sub(now) > operatorRenew {
			return nil
		}
		if err := protocol.Unmarshal(old.Value, &value); err != nil {
			return err
		}
		n.Epoch, n.Sequence = old.Epoch, old.Sequence+1
	}
	value.HTTPS, value.Addresses = a.https, nil
	for _, p := range a.Peers() {
		if len(value.Addresses) < protocol.MaxAddresses {
			value.Addresses = append(value.Addresses, protocol.AddrOf(p))
		}
	}
	n.Value = value
	raw, err := SignOperator(a.rootSigner, n)
	if err != nil {
		return err
	}
	if err := a.admit(tx, raw); err != nil {
		return err
	}
	return a.makeCertificates(tx, n.Expires)
}

// admit keeps an OperatorNode record that the root signed.
func (a *Authority) admit(tx *sqlite.Tx, raw []byte) error {
	r, err := protocol.ParseRecord(raw)
	if err != nil {
		return err
	}
	return tx.PutRecord(registry.Record{Table: r.Table, Owner: r.Owner, Epoch: r.Epoch, Sequence: r.Sequence, Expires: r.Expires, Raw: raw})
}

// AdmitOperator takes a further operator's record into the chain that nodes are given. The rules are those of every reader.
func (a *Authority) AdmitOperator(ctx context.Context, by Actor, raw []byte) error {
	return a.update(ctx, func(tx *sqlite.Tx) error {
		trust, err := a.loadTrust(tx)
		if err != nil {
			return err
		}
		if err := trust.AddOperator(raw, a.rootKey, a.now()); err != nil {
			return fmt.Errorf("admit the operator: %w", err)
		}
		r, err := protocol.ParseRecord(raw)
		if err != nil {
			return err
		}
		if err := a.admit(tx, raw); err != nil {
			return err
		}
		return a.audit(tx, by, "operator.admit", r.Owner.String(), 0, fmt.Sprintf("epoch %d", r.Epoch))
	})
}

// chain is every operator's record, each after the one whose consent it rests on.
func (a *Authority) chain(tx *sqlite.Tx) ([][]byte, error) {
	rows, err := tx.Records(protocol.TableOperatorNode, protocol.ID{}, a.now(), maxOperators)
	if err != nil {
		return nil, err
	}
	type link struct {
		owner, after protocol.ID
		epoch        uint64
		raw          []byte
	}
	var links []link
	for _, row := range rows {
		r, err := protocol.ParseRecord(row.Raw)
		if err != nil {
			return nil, err
		}
		var v protocol.OperatorNodeValue
		if err := protocol.Unmarshal(r.Value, &v); err != nil {
			return nil, err
		}
		links = append(links, link{row.Owner, v.Predecessor, row.Epoch, row.Raw})
	}
	slices.SortStableFunc(links, func(x, y link) int { return int(int64(x.epoch) - int64(y.epoch)) })
	var out [][]byte
	done := map[protocol.ID]bool{{}: true}
	for len(links) > 0 {
		i := slices.IndexFunc(links, func(l link) bool { return done[l.after] })
		if i < 0 {
			i = 0 // its predecessor has expired; readers decide
		}
		out = append(out, links[i].raw)
		done[links[i].owner] = true
		links = slices.Delete(links, i, i+1)
	}
	return out, nil
}

func (a *Authority) loadTrust(tx *sqlite.Tx) (*protocol.Trust, error) {
	chain, err := a.chain(tx)
	if err != nil {
		return nil, err
	}
	t := protocol.NewTrust(a.root)
	for _, raw := range chain {
		if err := t.AddOperator(raw, a.rootKey, a.now()); err != nil {
			return nil, fmt.Errorf("operator chain: %w", err)
		}
	}
	return t, nil
}
