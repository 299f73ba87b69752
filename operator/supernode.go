package operator

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"culvert/operator/registry"
	"culvert/operator/sqlite"
	"culvert/partition"
	"culvert/protocol"
)

// Policy says who may become a super-node.
type Policy string

const (
	PolicyOpen     Policy = "open"     // every node that is reachable
	PolicyApproved Policy = "approved" // those that a person has approved
	PolicyOwn      Policy = "own"      // nodes of the operator's own domains
)

// SuperNodeView is a candidate as the admin API shows it.
type SuperNodeView struct {
	ID        protocol.ID             `json:"id"`
	Domain    string                  `json:"domain"`
	Addresses []netip.AddrPort        `json:"addresses"`
	State     registry.SuperNodeState `json:"state"`
	Approved  bool                    `json:"approved"`
	Reason    string                  `json:"reason,omitempty"`
	Submitted time.Time               `json:"submitted"`
	Answered  time.Time               `json:"answered"`
}

// SuperNodes lists candidates, those on the map and others.
func (a *Authority) SuperNodes(ctx context.Context, by Actor) ([]SuperNodeView, error) {
	out := []SuperNodeView{}
	err := a.db.View(ctx, func(tx *sqlite.Tx) error {
		names, err := domainNames(tx)
		if err != nil {
			return err
		}
		ns, err := tx.SuperNodes()
		for _, n := range ns {
			if by.may(n.ID.Domain()) {
				out = append(out, SuperNodeView{n.ID, names[n.ID.Domain()], n.Addresses, n.State, n.Approved, n.Reason, n.Submitted.UTC(), n.Answered.UTC()})
			}
		}
		return err
	})
	return out, err
}

// Policy is who may become a super-node at present.
func (a *Authority) Policy(ctx context.Context) (p Policy, err error) {
	err = a.db.View(ctx, func(tx *sqlite.Tx) (err error) {
		p, err = policy(tx)
		return err
	})
	return p, err
}

func policy(tx *sqlite.Tx) (Policy, error) {
	b, err := tx.Setting(settingPolicy)
	if errors.Is(err, sqlite.ErrNotFound) {
		return PolicyOpen, nil
	}
	return Policy(b), err
}

// SetPolicy switches the policy; super-nodes that it no longer admits leave the map at once.
func (a *Authority) SetPolicy(ctx context.Context, by Actor, p Policy) error {
	if err := by.wantAll(); err != nil {
		return err
	}
	if p != PolicyOpen && p != PolicyApproved && p != PolicyOwn {
		return invalid("policy %.40q: open, approved or own", p)
	}
	return a.update(ctx, func(tx *sqlite.Tx) error {
		if err := tx.SetSetting(settingPolicy, []byte(p)); err != nil {
			return err
		}
		own, err := ownDomains(tx)
		if err != nil {
			return err
		}
		out := func(n registry.SuperNode) bool {
			return p == PolicyApproved && !n.Approved || p == PolicyOwn && !own[n.ID.Domain()]
		}
		if err := a.dropSuperNodes(tx, "against the policy "+string(p), out, registry.Waiting); err != nil {
			return err
		}
		return a.audit(tx, by, "supernode.policy", string(p), 0, "")
	})
}

// ownDomains are the domains of whoever runs the operator.
func ownDomains(tx *sqlite.Tx) (map[protocol.Domain]bool, error) {
	ds, err := tx.Domains()
	own := make(map[protocol.Domain]bool, len(ds))
	for _, d := range ds {
		own[d.Number] = d.Own
	}
	return own, err
}

// ApproveSuperNode admits a candidate under the policy "approved", or one that was barred; it is placed when it submits again.
func (a *Authority) ApproveSuperNode(ctx context.Context, by Actor, ref string) error {
	return a.judge(ctx, by, ref, "supernode.approve", func(tx *sqlite.Tx, n registry.SuperNode) error {
		n.Approved = true
		if n.State == registry.Barred {
			n.State, n.Reason = registry.Waiting, ""
		}
		return tx.PutSuperNode(n)
	})
}

// BarSuperNode takes a super-node off the map until it is approved again.
func (a *Authority) BarSuperNode(ctx context.Context, by Actor, ref string) error {
	return a.judge(ctx, by, ref, "supernode.bar", func(tx *sqlite.Tx, n registry.SuperNode) error {
		n.Approved, n.State, n.Reason = false, registry.Barred, "barred by the operator"
		if err := tx.PutSuperNode(n); err != nil {
			return err
		}
		return a.rebuildMap(tx)
	})
}

func (a *Authority) judge(ctx context.Context, by Actor, ref, action string, fn func(*sqlite.Tx, registry.SuperNode) error) error {
	if err := by.wantAll(); err != nil {
		return err
	}
	id, err := protocol.ParseID(ref)
	if err != nil {
		return invalid("%v", err)
	}
	return a.update(ctx, func(tx *sqlite.Tx) error {
		n, err := tx.SuperNode(id)
		if errors.Is(err, sqlite.ErrNotFound) {
			return notFound("super-node %s: it has not offered itself", id)
		}
		if err != nil {
			return err
		}
		if err := fn(tx, n); err != nil {
			return err
		}
		return a.audit(tx, by, action, id.String(), id.Domain(), "")
	})
}

// dropSuperNodes takes those that out names off the map.
func (a *Authority) dropSuperNodes(tx *sqlite.Tx, reason string, out func(registry.SuperNode) bool, state registry.SuperNodeState) error {
	ns, err := tx.SuperNodes()
	if err != nil {
		return err
	}
	for _, n := range ns {
		if !out(n) || n.State != registry.Assigned && state != registry.Barred {
			continue
		}
		n.State, n.Reason = state, reason
		if state == registry.Barred {
			n.Approved = false
		}
		if err := tx.PutSuperNode(n); err != nil {
			return err
		}
	}
	return a.rebuildMap(tx)
}

func (a *Authority) currentMapHead(tx *sqlite.Tx) (*protocol.Record, bool, error) {
	return a.current(tx, protocol.TableMapHead, partition.HeadOwner(a.root))
}

// mapRecords are the SuperNode records of the present map.
func (a *Authority) mapRecords(tx *sqlite.Tx) ([][]byte, error) {
	rows, err := tx.Records(protocol.TableSuperNode, protocol.ID{}, time.Time{}, maxMap)
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for _, row := range rows {
		r, err := protocol.ParseRecord(row.Raw)
		if err != nil {
			return nil, err
		}
		if !r.Tombstone {
			out = append(out, row.Raw)
		}
	}
	return out, nil
}

const maxMap = 100_000

// placements is the present map as the planner reads it.
func (a *Authority) placements(tx *sqlite.Tx) ([]partition.Placement, error) {
	records, err := a.mapRecords(tx)
	if err != nil {
		return nil, err
	}
	ps := make([]partition.Placement, len(records))
	for i, raw := range records {
		r, err := protocol.ParseRecord(raw)
		if err != nil {
			return nil, err
		}
		var v protocol.SuperNodeValue
		if err := protocol.Unmarshal(r.Value, &v); err != nil {
			return nil, err
		}
		ps[i].ID = r.Owner
		ps[i].Range, ps[i].Fill = partition.Range{From: v.From, To: v.To}, partition.Range{From: v.FillFrom, To: v.FillTo}
	}
	return ps, nil
}

// plan takes every range for handed over as soon as it is planned: the operator's hand-over driver decides.
func plan(s partition.State) []partition.Placement {
	var seed [32]byte
	rand.Read(seed[:])
	r := mrand.New(mrand.NewChaCha8(seed))
	for range 100 {
		s.Present = partition.Next(s, r)
		s.Filled = make(map[protocol.ID]bool)
		for _, p := range s.Present {
			if p.Fill.Valid() {
				s.Filled[p.ID] = true
			}
		}
		if len(s.Filled) == 0 {
			break
		}
	}
	return s.Present
}

// rebuildMap makes the map fit the super-nodes assigned now: entries that changed or grow old are signed, others taken out by
// a tombstone, and a head of the next epoch holds them together. Where nothing changed it leaves everything as it is.
func (a *Authority) rebuildMap(tx *sqlite.Tx) error {
	ns, err := tx.SuperNodes()
	if err != nil {
		return err
	}
	own, err := ownDomains(tx)
	if err != nil {
		return err
	}
	var supers []partition.Candidate
	for _, n := range ns {
		if n.State == registry.Assigned {
			supers = append(supers, partition.Candidate{ID: n.ID, Signing: n.Signing, Sealing: n.Sealing, Addresses: n.Addresses, Own: own[n.ID.Domain()]})
		}
	}
	self := partition.Candidate{ID: a.id, Signing: a.keys.Signing.Public(), Sealing: a.keys.Sealing.Public(), Addresses: a.Peers()}
	self.Addresses = self.Addresses[:min(len(self.Addresses), protocol.MaxAddresses)]
	present, err := a.placements(tx)
	if err != nil {
		return err
	}
	placed := plan(partition.State{Supers: supers, Operator: self, Present: present})
	head, found, err := a.currentMapHead(tx)
	if err != nil {
		return err
	}
	var hv protocol.MapHeadValue
	if found {
		if err := protocol.Unmarshal(head.Value, &hv); err != nil {
			return err
		}
	}
	if !found && len(placed) == 0 {
		return nil
	}
	epoch := hv.Epoch + 1
	changed, err := a.signMembers(tx, placed, epoch)
	if err != nil {
		return err
	}
	if found && !changed && head.Expires.Sub(a.now()) > mapRenew {
		return nil
	}
	records, err := a.mapRecords(tx)
	if err != nil {
		return err
	}
	if hv, err = partition.Head(epoch, records); err != nil {
		return err
	}
	value, err := protocol.Marshal(hv)
	if err != nil {
		return err
	}
	if _, err := a.sign(tx, &protocol.Record{Table: protocol.TableMapHead, Owner: partition.HeadOwner(a.root), Value: value}, mapLife); err != nil {
		return err
	}
	return a.audit(tx, Actor{Name: "operator"}, "map.change", fmt.Sprintf("epoch %d", epoch), 0, fmt.Sprintf("%d super-nodes", len(records)))
}

func (a *Authority) signMembers(tx *sqlite.Tx, placed []partition.Placement, epoch uint64) (changed bool, err error) {
	stay := make(map[protocol.ID]bool, len(placed))
	for _, p := range placed {
		stay[p.ID] = true
		old, found, err := a.current(tx, protocol.TableSuperNode, p.ID)
		if err != nil {
			return false, err
		}
		if found && !old.Tombstone && old.Signer == a.id && old.Expires.Sub(a.now()) > mapRenew {
			var v protocol.SuperNodeValue
			if err := protocol.Unmarshal(old.Value, &v); err != nil {
				return false, err
			}
			w := p.Value(v.MapEpoch)
			if v.Signing == w.Signing && v.Sealing == w.Sealing && v.From == w.From && v.To == w.To && v.FillFrom == w.FillFrom && v.FillTo == w.FillTo && slices.Equal(v.Addresses, w.Addresses) {
				continue
			}
		}
		value, err := protocol.Marshal(p.Value(epoch))
		if err != nil {
			return false, err
		}
		if _, err := a.sign(tx, &protocol.Record{Table: protocol.TableSuperNode, Owner: p.ID, Value: value}, mapLife); err != nil {
			return false, err
		}
		changed = true
	}
	rows, err := tx.Records(protocol.TableSuperNode, protocol.ID{}, time.Time{}, maxMap)
	if err != nil {
		return false, err
	}
	for _, row := range rows {
		r, err := protocol.ParseRecord(row.Raw)
		if err != nil {
			return false, err
		}
		if stay[r.Owner] || r.Tombstone {
			continue
		}
		if _, err := a.sign(tx, &protocol.Record{Table: protocol.TableSuperNode, Owner: r.Owner, Tombstone: true}, mapLife); err != nil {
			return false, err
		}
		changed = true
	}
	return changed, nil
}
