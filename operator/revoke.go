package operator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"culvert/operator/registry"
	"culvert/operator/sqlite"
	"culvert/protocol"
)

// NodeView is a node as the admin API shows it.
type NodeView struct {
	ID       protocol.ID `json:"id"`
	Name     string      `json:"name"`
	Domain   string      `json:"domain"`
	Groups   []string    `json:"groups"`
	Enrolled time.Time   `json:"enrolled"`
	Expires  time.Time   `json:"expires"`
	Revoked  *time.Time  `json:"revoked,omitempty"`
}

func viewNode(n registry.Node, domain string) NodeView {
	if n.Groups == nil {
		n.Groups = []string{}
	}
	v := NodeView{ID: n.ID, Name: n.Name, Domain: domain, Groups: n.Groups, Enrolled: n.Enrolled.UTC(), Expires: n.Expires.UTC()}
	if !n.Revoked.IsZero() {
		t := n.Revoked.UTC()
		v.Revoked = &t
	}
	return v
}

// Nodes lists up to limit nodes after an ID; next is where to go on, zero at the end.
func (a *Authority) Nodes(ctx context.Context, by Actor, domain string, after protocol.ID, limit int) (out []NodeView, next protocol.ID, err error) {
	out = []NodeView{}
	err = a.db.View(ctx, func(tx *sqlite.Tx) error {
		d, err := a.scope(tx, by, domain)
		if err != nil {
			return err
		}
		names, err := domainNames(tx)
		if err != nil {
			return err
		}
		ns, err := tx.Nodes(d, after, limit)
		for _, n := range ns {
			out = append(out, viewNode(n, names[n.ID.Domain()]))
		}
		if len(ns) == limit {
			next = ns[limit-1].ID
		}
		return err
	})
	return out, next, err
}

// findNode finds a node by ID, or by its name in domain.
func (a *Authority) findNode(tx *sqlite.Tx, by Actor, d protocol.Domain, ref string) (registry.Node, error) {
	id, err := protocol.ParseID(ref)
	if err != nil {
		if d == 0 {
			return registry.Node{}, invalid("%v", err)
		}
		ns, err := tx.NodesByName(d, ref)
		if err != nil {
			return registry.Node{}, err
		}
		switch len(ns) {
		case 0:
			return registry.Node{}, notFound("node %.80q in this domain", ref)
		case 1:
			return ns[0], nil
		}
		return registry.Node{}, invalid("%d nodes are named %.80q: give the ID", len(ns), ref)
	}
	n, err := tx.Node(id)
	if errors.Is(err, sqlite.ErrNotFound) || err == nil && (!by.may(id.Domain()) || d != 0 && id.Domain() != d) {
		return registry.Node{}, notFound("node %s in this domain", id)
	}
	return n, err
}

// RevokeNode ends a node for good: its certificate no longer counts, its keys never enrol again, and its domain gets a new key.
func (a *Authority) RevokeNode(ctx context.Context, by Actor, ref string) (NodeView, error) {
	var v NodeView
	err := a.update(ctx, func(tx *sqlite.Tx) error {
		n, err := a.findNode(tx, by, by.Domain, ref)
		if err != nil {
			return err
		}
		d, err := tx.Domain(n.ID.Domain())
		if err != nil {
			return err
		}
		if !n.Revoked.IsZero() {
			v = viewNode(n, d.Name)
			return nil
		}
		n.Revoked = a.now()
		if err := tx.PutNode(n); err != nil {
			return err
		}
		if err := tx.Withdraw(protocol.TableNode, n.ID); err != nil {
			return err
		}
		number, err := a.revoke(tx, protocol.RevokedNode, n.ID)
		if err != nil {
			return err
		}
		if err := a.nextKey(tx, d.Number); err != nil {
			return err
		}
		if err := a.dropSuperNodes(tx, "revoked", func(s registry.SuperNode) bool { return s.ID == n.ID }, registry.Barred); err != nil {
			return err
		}
		v = viewNode(n, d.Name)
		return a.audit(tx, by, "node.revoke", n.ID.String(), d.Number, fmt.Sprintf("%s, revocation %d", n.Name, number))
	})
	return v, err
}

// revoke appends to the numbered list and signs the entry.
func (a *Authority) revoke(tx *sqlite.Tx, kind protocol.RevocationKind, owner protocol.ID) (uint64, error) {
	last, err := tx.LastRevocation()
	if err != nil {
		return 0, err
	}
	number := a.next(last)
	value, err := protocol.Marshal(protocol.RevocationValue{Number: number, Kind: kind})
	if err != nil {
		return 0, err
	}
	raw, err := a.sign(tx, &protocol.Record{Table: protocol.TableRevocation, Owner: owner, Value: value}, revocationLife)
	if err != nil {
		return 0, err
	}
	return number, tx.AddRevocation(registry.Revocation{Number: number, Kind: kind, Owner: owner, Raw: raw, Time: a.now()})
}
