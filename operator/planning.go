package operator

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	mrand "math/rand/v2"
	"slices"
	"time"

	"culvert/operator/registry"
	"culvert/operator/sqlite"
	"culvert/partition"
	"culvert/protocol"
)

func (a *Authority) currentMapHead(tx *sqlite.Tx) (*protocol.Record, bool, error) {
	return a.current(tx, protocol.TableMapHead, partition.HeadOwner(a.root))
}

// seasoning is for how long one must have served to be relied upon at a split: those who have just begun hold back until they
// have the last of what the former members took.
const seasoning = 10 * time.Second

// placements is the present map as the planner reads it, who of it has begun to serve just now, and apart from it what is isolated.
func (a *Authority) placements(tx *sqlite.Tx) (ps, isolated []partition.Placement, fresh map[protocol.ID]partition.Range, err error) {
	records, err := a.mapRecords(tx)
	if err != nil {
		return nil, nil, nil, err
	}
	fresh = make(map[protocol.ID]partition.Range)
	for _, raw := range records {
		r, err := protocol.ParseRecord(raw)
		if err != nil {
			return nil, nil, nil, err
		}
		p, err := partition.PlacementOf(r)
		if err != nil {
			return nil, nil, nil, err
		}
		if a.now().Sub(r.Issued) < seasoning {
			fresh[p.ID] = partition.None()
		}
		if p.Isolated {
			isolated = append(isolated, p)
		} else {
			ps = append(ps, p)
		}
	}
	return ps, isolated, fresh, nil
}

// loads is what the planner weighs domains by: how many nodes and devices there are to be looked up. It is counted once a
// minute at most.
func (a *Authority) loads(tx *sqlite.Tx) ([]partition.DomainLoad, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now := a.now(); a.load != nil && now.Sub(a.loadAt).Abs() < time.Minute {
		return a.load, nil
	}
	rows, err := tx.Loads()
	if err != nil {
		return nil, err
	}
	a.load = make([]partition.DomainLoad, 0, len(rows))
	for _, r := range rows {
		a.load = append(a.load, partition.DomainLoad{Domain: r.Domain, Weight: r.Nodes + r.Devices})
	}
	a.loadAt = a.now()
	return a.load, nil
}

// maxSteps bounds how many plans follow one another at once.
const maxSteps = 16

// planState is what the planner starts from, and apart from it the isolated, which keep what they had: spies are to find them as
// they were.
func (a *Authority) planState(tx *sqlite.Tx) (s partition.State, aside []partition.Placement, err error) {
	ns, err := tx.SuperNodes()
	if err != nil {
		return s, nil, err
	}
	own, err := ownDomains(tx)
	if err != nil {
		return s, nil, err
	}
	present, was, fresh, err := a.placements(tx)
	if err != nil {
		return s, nil, err
	}
	s.Present, s.Served = present, fresh
	for _, n := range ns {
		if n.State != registry.Assigned {
			continue
		}
		c := partition.Candidate{
			ID: n.ID, Signing: n.Signing, Sealing: n.Sealing, Addresses: n.Addresses, Own: own[n.ID.Domain()], Capacity: n.Capacity,
			Paused: n.Paused.After(a.now()),
		}
		if n.Isolated.IsZero() {
			s.Supers = append(s.Supers, c)
			continue
		}
		for _, p := range append(was, present...) {
			if p.ID == n.ID && p.Range.Valid() {
				aside = append(aside, partition.Placement{Candidate: c, Range: p.Range, Fill: partition.None(), Isolated: true})
			}
		}
	}
	s.Operator = partition.Candidate{ID: a.id, Signing: a.keys.Signing.Public(), Sealing: a.keys.Sealing.Public(), Addresses: a.Peers()}
	s.Operator.Addresses = s.Operator.Addresses[:min(len(s.Operator.Addresses), protocol.MaxAddresses)]
	s.Load, err = a.loads(tx)
	return s, aside, err
}

// plan is the map that is to be: what the planner makes of those assigned, and the isolated beside it.
func (a *Authority) plan(tx *sqlite.Tx, filled map[protocol.ID]bool) ([]partition.Placement, error) {
	s, aside, err := a.planState(tx)
	if err != nil {
		return nil, err
	}
	s.Filled = filled
	for _, p := range s.Present { // the plans that follow here are not in force yet
		if _, is := s.Served[p.ID]; !is {
			s.Served[p.ID] = p.Range
		}
	}
	for _, c := range s.Supers {
		if _, is := s.Served[c.ID]; !is {
			s.Served[c.ID] = partition.None()
		}
	}
	var seed [32]byte
	rand.Read(seed[:]) // nobody outside may guess who comes where
	r := mrand.New(mrand.NewChaCha8(seed))
	for range maxSteps {
		next := partition.Next(s, r)
		same := slices.EqualFunc(next, s.Present, func(x, y partition.Placement) bool {
			return x.ID == y.ID && x.Range == y.Range && x.Fill == y.Fill
		})
		if s.Present, s.Filled = next, nil; same {
			break
		}
	}
	return append(s.Present, aside...), nil
}

// rebuildMap makes the map fit the super-nodes assigned now: entries that changed or grow old are signed, others taken out by
// a tombstone, and a head of the next epoch holds them together. Where nothing changed it leaves everything as it is.
func (a *Authority) rebuildMap(tx *sqlite.Tx) error { return a.nextMap(tx, nil) }

// nextMap is rebuildMap where some have been proven to hold what they fill.
func (a *Authority) nextMap(tx *sqlite.Tx, filled map[protocol.ID]bool) error {
	placed, err := a.plan(tx, filled)
	if err != nil {
		return err
	}
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
	epoch := a.next(hv.Epoch)
	changed, err := a.signMembers(tx, placed, epoch)
	if err != nil {
		return err
	}
	if found && !changed && head.Expires.Sub(a.now()) > mapRenew {
		return nil
	}
	return a.signHead(tx, epoch)
}

// signHead makes the entries that there are the map of an epoch.
func (a *Authority) signHead(tx *sqlite.Tx, epoch uint64) error {
	records, err := a.mapRecords(tx)
	if err != nil {
		return err
	}
	hv, err := partition.Head(epoch, records)
	if err != nil {
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
			if v.Signing == w.Signing && v.Sealing == w.Sealing && v.From == w.From && v.To == w.To && v.FillFrom == w.FillFrom && v.FillTo == w.FillTo && v.Isolated == w.Isolated && slices.Equal(v.Addresses, w.Addresses) {
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
	entries, err := a.mapEntries(tx, maxMap)
	if err != nil {
		return false, err
	}
	for _, r := range entries {
		if stay[r.Owner] || r.Tombstone {
			continue
		}
		value, err := protocol.Marshal(protocol.SuperNodeValue{MapEpoch: epoch}) // so that it is told as a change
		if err != nil {
			return false, err
		}
		if _, err := a.sign(tx, &protocol.Record{Table: protocol.TableSuperNode, Owner: r.Owner, Tombstone: true, Value: value}, mapLife); err != nil {
			return false, err
		}
		changed = true
	}
	return changed, nil
}

// mapNow is the present map; nil before the first.
func (o *Operator) mapNow(ctx context.Context) (*partition.Map, error) {
	o.mapMu.Lock()
	defer o.mapMu.Unlock()
	err := o.db.View(ctx, func(tx *sqlite.Tx) error {
		head, found, err := o.currentMapHead(tx)
		if err != nil || !found || o.pmap != nil && bytes.Equal(o.pmap.Head(), head.Raw()) {
			return err
		}
		records, err := o.mapRecords(tx)
		if err != nil {
			return err
		}
		// Its own database needs no proof of who signed it.
		m, err := partition.Build(head.Raw(), records, func(*protocol.Record) error { return nil })
		if err == nil {
			o.pmap = m
		}
		return err
	})
	return o.pmap, err
}
