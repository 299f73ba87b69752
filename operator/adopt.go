package operator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"culvert/operator/registry"
	"culvert/operator/sqlite"
	"culvert/protocol"
	"culvert/protocol/key"
)

// maxLost bounds how many domains are named that a backup lacks.
const maxLost = 1000

// adopted is what came of taking records in.
type adopted struct {
	nodes, devices, revocations, unreadable, homeless int

	lost  map[protocol.Domain]int  // records of domains that the registry does not know
	fresh map[protocol.Domain]bool // a node of it was revoked since the backup
	spies []*key.Signing           // operators' keys whose spies are no nodes
	again []registry.Revocation    // their numbers are another's here: they get new ones
}

// adopt takes the records that the mesh holds into the registry, and has this operator lead from then on.
func (o *Operator) adopt(ctx context.Context, mesh Mesh) error {
	n := adopted{fresh: make(map[protocol.Domain]bool), lost: make(map[protocol.Domain]int), spies: []*key.Signing{o.keys.Signing}}
	if former, _, err := o.FormerIdentity(ctx); err != nil {
		return err
	} else if former != nil {
		n.spies = append(n.spies, former.Signing)
	}
	for _, table := range []protocol.Table{protocol.TableRevocation, protocol.TableSuperNode, protocol.TableMapHead, protocol.TableNode, protocol.TableEndDevice} {
		var page []*protocol.Record
		flush := func() error {
			err := o.db.Update(ctx, func(tx *sqlite.Tx) error {
				for _, r := range page {
					if err := o.adoptRecord(tx, r, &n); err != nil {
						return fmt.Errorf("take in %s of %s: %w", r.Table, r.Owner, err)
					}
				}
				return nil
			})
			page = page[:0]
			return err
		}
		for raw, err := range mesh.Held(ctx, table) {
			if err != nil {
				return err
			}
			r, err := protocol.ParseRecord(raw)
			if err != nil || o.trust.CheckStatic(r, o.now()) != nil {
				continue
			}
			if page = append(page, r); len(page) == maintainPage {
				if err := flush(); err != nil {
					return err
				}
			}
		}
		if err := flush(); err != nil {
			return err
		}
	}
	o.standing.Store(new(standing))
	err := o.update(ctx, func(tx *sqlite.Tx) error {
		for _, r := range n.again {
			if _, err := o.revoke(tx, r.Kind, r.Owner); err != nil {
				return err
			}
		}
		for d := range n.fresh {
			if err := o.nextKey(tx, d); err != nil {
				return err
			}
		}
		if err := o.matchSuperNodes(tx); err != nil {
			return err
		}
		if err := o.renewChain(tx, false); err != nil {
			return err
		}
		if err := o.rebuildMap(tx); err != nil {
			return err
		}
		// A map in any case: by it another that runs with the same key notices that it no longer leads.
		if head, found, err := o.currentMapHead(tx); err != nil {
			return err
		} else if found {
			var v protocol.MapHeadValue
			if err := protocol.Unmarshal(head.Value, &v); err != nil {
				return err
			}
			if err := o.signHead(tx, o.next(v.Epoch)); err != nil {
				return err
			}
		}
		if err := setStanding(tx, standing{}); err != nil {
			return err
		}
		for _, d := range slices.Sorted(maps.Keys(n.lost)) {
			detail := fmt.Sprintf("added after the backup; %d records of it are in the mesh, its secrets are lost", n.lost[d])
			if err := o.audit(tx, Actor{Name: "operator"}, "domain.lost", d.String(), d, detail); err != nil {
				return err
			}
		}
		return o.audit(tx, Actor{Name: "operator"}, "operator.adopt", o.id.String(), 0,
			fmt.Sprintf("%d nodes, %d devices, %d revocations; %d devices unreadable, %d records of unknown domains", n.nodes, n.devices, n.revocations, n.unreadable, n.homeless))
	})
	if err != nil {
		o.standing.Store(&standing{State: restored})
		return err
	}
	o.log.Info("taken in what the mesh was told after the backup", "nodes", n.nodes, "devices", n.devices, "revocations", n.revocations)
	if n.unreadable > 0 {
		o.log.Warn("devices were changed after the backup under keys that it lacks: they go on as they are; to change one, register it again", "devices", n.unreadable)
	}
	if n.homeless > 0 {
		o.log.Warn("domains were added after the backup and their secrets are lost: their nodes go on until their certificates expire, then they must join anew", "domains", slices.Sorted(maps.Keys(n.lost)), "records", n.homeless)
	}
	return nil
}

// adoptRecord takes in one record, if it is newer than what the registry has.
func (a *Authority) adoptRecord(tx *sqlite.Tx, r *protocol.Record, n *adopted) error {
	old, found, err := a.current(tx, r.Table, r.Owner)
	if err != nil || found && !r.Supersedes(old) {
		return err
	}
	d := r.Owner.Domain()
	if d != protocol.OperatorDomain {
		if _, err := tx.Domain(d); errors.Is(err, sqlite.ErrNotFound) {
			n.homeless++
			if len(n.lost) < maxLost {
				n.lost[d]++
			}
			return nil
		} else if err != nil {
			return err
		}
	}
	switch r.Table {
	case protocol.TableRevocation:
		err = a.adoptRevocation(tx, r, n)
	case protocol.TableNode:
		err = a.adoptNode(tx, r, n)
	case protocol.TableEndDevice:
		err = a.adoptDevice(tx, r, n)
	}
	if err != nil {
		return err
	}
	row := registry.Record{Table: r.Table, Owner: r.Owner, Epoch: r.Epoch, Sequence: r.Sequence, Expires: r.Expires, Raw: r.Raw()}
	if err := tx.PutRecord(row); err != nil {
		return err
	}
	return tx.Confirm(row) // the mesh has it
}

func (a *Authority) adoptRevocation(tx *sqlite.Tx, r *protocol.Record, n *adopted) error {
	var v protocol.RevocationValue
	if err := protocol.Unmarshal(r.Value, &v); err != nil {
		return nil // not one of ours
	}
	holder, err := tx.RevocationNumber(v.Number)
	switch {
	case errors.Is(err, sqlite.ErrNotFound):
		n.revocations++
		if err := tx.AddRevocation(registry.Revocation{Number: v.Number, Kind: v.Kind, Owner: r.Owner, Raw: r.Raw(), Time: r.Issued}); err != nil {
			return err
		}
	case err != nil:
		return err
	case holder.Owner != r.Owner || holder.Kind != v.Kind:
		n.again = append(n.again, registry.Revocation{Kind: v.Kind, Owner: r.Owner}) // two operators ran with one key
	default:
		return nil // signed anew only
	}
	d := r.Owner.Domain()
	if v.Kind != protocol.RevokedNode {
		last, err := tx.LastRevocationOf(r.Owner)
		if err != nil || last.Number != v.Number {
			return err
		}
		dom, err := tx.Domain(d)
		if err != nil {
			return err
		}
		dom.Banned = v.Kind == protocol.BannedDomain
		return tx.SetDomain(dom)
	}
	n.fresh[d] = true
	node, err := tx.Node(r.Owner)
	if errors.Is(err, sqlite.ErrNotFound) {
		return nil // admission asks for its revocation
	}
	if err != nil {
		return err
	}
	node.Revoked = r.Issued
	if err := tx.PutNode(node); err != nil {
		return err
	}
	return tx.Withdraw(protocol.TableNode, r.Owner)
}

func (a *Authority) adoptNode(tx *sqlite.Tx, r *protocol.Record, n *adopted) error {
	var v protocol.NodeValue
	if r.Tombstone || protocol.Unmarshal(r.Value, &v) != nil || r.Owner != protocol.NodeID(r.Owner.Domain(), v.Signing) {
		return nil
	}
	for _, k := range n.spies {
		if spy, err := spyKeysOf(k, r.Owner.Domain()); err != nil || spy.Signing.Public() == v.Signing {
			return err
		}
	}
	node, err := tx.Node(r.Owner)
	if errors.Is(err, sqlite.ErrNotFound) {
		h := r.Owner.Hash()
		node = registry.Node{ID: r.Owner, Name: fmt.Sprintf("node-%x", h[:4]), Signing: v.Signing, Enrolled: r.Issued}
	} else if err != nil {
		return err
	}
	if rev, err := tx.LastRevocationOf(r.Owner); err == nil {
		node.Revoked = rev.Time
	} else if !errors.Is(err, sqlite.ErrNotFound) {
		return err
	}
	n.nodes++
	node.Sealing, node.Groups, node.Issued, node.Expires = v.Sealing, v.Groups, r.Issued, r.Expires
	return tx.PutNode(node)
}

// adoptDevice takes in a device whose record the domain keys at hand open. Another's record is kept as it is.
func (a *Authority) adoptDevice(tx *sqlite.Tx, r *protocol.Record, n *adopted) error {
	dev, err := tx.Device(r.Owner)
	if errors.Is(err, sqlite.ErrNotFound) {
		dev = registry.Device{ID: r.Owner, Created: r.Issued}
	} else if err != nil {
		return err
	}
	dev.Updated = r.Issued
	if r.Tombstone {
		if dev.Value.Name == "" {
			return nil
		}
		dev.Removed = true
		n.devices++
		return tx.PutDevice(dev)
	}
	keys, err := tx.DomainKeys(r.Owner.Domain())
	if err != nil {
		return err
	}
	s := protocol.DomainSecrets{Domain: r.Owner.Domain()}
	for _, k := range keys {
		s.Keys = append(s.Keys, protocol.DomainKey{Epoch: k.Epoch, Key: k.Key})
	}
	plain, err := s.OpenValue(r.Table, r.Owner, r.Value)
	var v protocol.EndDeviceValue
	if err != nil || protocol.Unmarshal(plain, &v) != nil {
		n.unreadable++
		return nil
	}
	if other, err := tx.DeviceByName(r.Owner.Domain(), v.Name); err == nil && other.ID != r.Owner {
		n.unreadable++ // renamed since, in an order that cannot be told
		return nil
	}
	if other, err := tx.DeviceByMAC(r.Owner.Domain(), v.MAC); err == nil && len(v.MAC) > 0 && other.ID != r.Owner {
		n.unreadable++
		return nil
	}
	n.devices++
	dev.Value, dev.Removed, dev.KeyEpoch = v, false, keyEpoch(r.Value)
	return tx.PutDevice(dev)
}

// matchSuperNodes has the registry agree with the map that was taken in: who is on it, and who is no longer.
func (a *Authority) matchSuperNodes(tx *sqlite.Tx) error {
	entries, err := a.mapEntries(tx, maxMap)
	if err != nil {
		return err
	}
	on := make(map[protocol.ID]protocol.SuperNodeValue)
	for _, r := range entries {
		var v protocol.SuperNodeValue
		if !r.Tombstone && r.Expires.After(a.now()) && protocol.Unmarshal(r.Value, &v) == nil && r.Owner.Domain() != protocol.OperatorDomain {
			on[r.Owner] = v
		}
	}
	ns, err := tx.SuperNodes()
	if err != nil {
		return err
	}
	was := make(map[protocol.ID]registry.SuperNode)
	for _, n := range ns {
		was[n.ID] = n
		if _, is := on[n.ID]; !is && n.State == registry.Assigned {
			n.State, n.Reason = registry.Silent, "left the map after the backup"
			if err := tx.PutSuperNode(n); err != nil {
				return err
			}
		}
	}
	for id, v := range on {
		n, known := was[id]
		node, err := tx.Node(id)
		if errors.Is(err, sqlite.ErrNotFound) || err == nil && !node.Revoked.IsZero() || n.State == registry.Barred {
			continue
		}
		if err != nil {
			return err
		}
		if !known {
			n = registry.SuperNode{ID: id, Signing: v.Signing, Sealing: v.Sealing, Submitted: a.now(), Answered: a.now()}
		}
		n.State, n.Addresses = registry.Assigned, nil
		for _, at := range v.Addresses {
			n.Addresses = append(n.Addresses, at.AddrPort)
		}
		if n.Isolated = (time.Time{}); v.Isolated {
			n.Isolated, n.Reason = a.now(), "isolated after the backup"
		}
		if err := tx.PutSuperNode(n); err != nil {
			return err
		}
	}
	return nil
}
