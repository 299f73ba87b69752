package operator

import (
	"fmt"
	"net/netip"
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

// retire makes the tombstone of an operator's record: what it issues after at is refused.
func retire(root *key.Signing, old *protocol.Record, sequence uint64, at, now time.Time) ([]byte, error) {
	return protocol.SignRecord(&protocol.Record{
		Table: old.Table, Tombstone: true, Owner: old.Owner, Signer: protocol.NodeID(protocol.OperatorDomain, root.Public()),
		Epoch: old.Epoch, Sequence: sequence, Issued: at, Expires: now.Add(operatorLife), Value: old.Value,
	}, root)
}

// renewChain keeps the records of this operator's epoch and its own certificates in time: made where they are missing or past
// half their life, its own at once with force. Without the root key it leaves them as they are. Those of the retired are
// renewed, too: others may rest on their consent.
func (a *Authority) renewChain(tx *sqlite.Tx, force bool) error {
	if a.rootSigner == nil || !a.leads() {
		return nil
	}
	now := a.now()
	rows, err := tx.Records(protocol.TableOperatorNode, protocol.ID{}, now, maxOperators)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if row.Owner == a.id || row.Epoch != a.epoch || row.Expires.Sub(now) > operatorRenew {
			continue
		}
		r, err := protocol.ParseRecord(row.Raw)
		if err != nil {
			return err
		}
		if r.Sequence, r.Expires = a.next(r.Sequence), now.Add(operatorLife); !r.Tombstone {
			r.Issued = now
		}
		raw, err := protocol.SignRecord(r, a.rootSigner)
		if err != nil {
			return err
		}
		if err := admit(tx, raw); err != nil {
			return err
		}
	}
	return a.renewOwn(tx, force, now)
}

func (a *Authority) renewOwn(tx *sqlite.Tx, force bool, now time.Time) error {
	value := protocol.OperatorNodeValue{Signing: a.keys.Signing.Public(), Sealing: a.keys.Sealing.Public(), HTTPS: a.https}
	n := NewOperator{Epoch: a.epoch, Sequence: a.next(0), Issued: now, Expires: now.Add(operatorLife)}
	old, found, err := a.current(tx, protocol.TableOperatorNode, a.id)
	if err != nil {
		return err
	}
	if found {
		if old.Tombstone || !force && old.Expires.Sub(now) > operatorRenew {
			return nil
		}
		if err := protocol.Unmarshal(old.Value, &value); err != nil {
			return err
		}
		n.Epoch, n.Sequence = old.Epoch, a.next(old.Sequence)
	}
	value.HTTPS, value.Addresses = a.https, addresses(a.Peers())
	n.Value = value
	raw, err := SignOperator(a.rootSigner, n)
	if err != nil {
		return err
	}
	if err := admit(tx, raw); err != nil {
		return err
	}
	return a.makeCertificates(tx, n.Expires)
}

func addresses(peers []netip.AddrPort) (out []protocol.Addr) {
	for _, p := range peers[:min(len(peers), protocol.MaxAddresses)] {
		out = append(out, protocol.AddrOf(p))
	}
	return out
}

// admit keeps an OperatorNode record that the root signed.
func admit(tx *sqlite.Tx, raw []byte) error {
	r, err := protocol.ParseRecord(raw)
	if err != nil {
		return err
	}
	return tx.PutRecord(registry.Record{Table: r.Table, Owner: r.Owner, Epoch: r.Epoch, Sequence: r.Sequence, Expires: r.Expires, Raw: raw})
}

// takeIn adds a record to the chain that nodes are given. The rules are those of every reader.
func (a *Authority) takeIn(tx *sqlite.Tx, raw []byte) error {
	trust, err := a.loadTrust(tx)
	if err != nil {
		return err
	}
	if err := trust.AddOperator(raw, a.rootKey, a.now()); err != nil {
		return fmt.Errorf("operator chain: %w", err)
	}
	return admit(tx, raw)
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
