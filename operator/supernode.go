package operator

import (
	"context"
	"errors"
	"net/netip"
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
	Isolated  *time.Time              `json:"isolated,omitempty"`
	Score     *ScoreView              `json:"score,omitempty"` // while the operator runs
}

// ScoreView is what the audit holds against a super-node.
type ScoreView struct {
	Points     int      `json:"points"` // of care.Isolate that isolate
	Asked      int      `json:"asked"`
	Unanswered int      `json:"unanswered"`
	Missed     int      `json:"missed"`
	Misses     int      `json:"misses"` // signs of life in a row
	Reasons    []string `json:"reasons,omitempty"`
}

// SuperNodes lists candidates, those on the map and others.
func (o *Operator) SuperNodes(ctx context.Context, by Actor) ([]SuperNodeView, error) {
	out, err := o.superNodes(ctx, by)
	if !o.running() {
		return out, err
	}
	for i := range out {
		if out[i].State != registry.Assigned {
			continue
		}
		s := o.auditor.score(out[i].ID)
		_, misses, _ := o.watcher.state(out[i].ID)
		out[i].Score = &ScoreView{s.Points, s.Asked, s.Unanswered, s.Missed, misses, s.Reasons}
	}
	return out, err
}

func (a *Authority) superNodes(ctx context.Context, by Actor) ([]SuperNodeView, error) {
	out := []SuperNodeView{}
	err := a.db.View(ctx, func(tx *sqlite.Tx) error {
		names, err := domainNames(tx)
		if err != nil {
			return err
		}
		ns, err := tx.SuperNodes()
		for _, n := range ns {
			if by.may(n.ID.Domain()) {
				v := SuperNodeView{
					ID: n.ID, Domain: names[n.ID.Domain()], Addresses: n.Addresses, State: n.State, Approved: n.Approved, Reason: n.Reason,
					Submitted: n.Submitted.UTC(), Answered: n.Answered.UTC(),
				}
				if !n.Isolated.IsZero() {
					at := n.Isolated.UTC()
					v.Isolated = &at
				}
				out = append(out, v)
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

// IsolateSuperNode has readers pass a super-node by; spies go on asking it.
func (a *Authority) IsolateSuperNode(ctx context.Context, by Actor, ref string) error {
	return a.judge(ctx, by, ref, "supernode.isolate", func(tx *sqlite.Tx, n registry.SuperNode) error {
		if n.State != registry.Assigned {
			return invalid("super-node %s is not on the map", n.ID)
		}
		return a.setAside(tx, n, "isolated by the operator")
	})
}

// ReleaseSuperNode ends an isolation: the super-node gets a range as a newcomer does.
func (a *Authority) ReleaseSuperNode(ctx context.Context, by Actor, ref string) error {
	return a.judge(ctx, by, ref, "supernode.release", func(tx *sqlite.Tx, n registry.SuperNode) error {
		if n.Isolated.IsZero() {
			return invalid("super-node %s is not isolated", n.ID)
		}
		n.Isolated, n.Reason = time.Time{}, ""
		if err := tx.PutSuperNode(n); err != nil {
			return err
		}
		return a.rebuildMap(tx)
	})
}

func (a *Authority) setAside(tx *sqlite.Tx, n registry.SuperNode, reason string) error {
	if !n.Isolated.IsZero() {
		return nil
	}
	n.Isolated, n.Reason = a.now(), reason
	if err := tx.PutSuperNode(n); err != nil {
		return err
	}
	if err := a.rebuildMap(tx); err != nil {
		return err
	}
	ps, _, _, err := a.placements(tx)
	for _, s := range partition.Ranges(ps) {
		if err == nil && len(s.Serving) == 0 {
			err = invalid("without super-node %s nobody would serve %s: this operator has no address for messages; run it, then try again", n.ID, s.Range)
		}
	}
	return err
}

// isolate is what the audit has found.
func (a *Authority) isolate(ctx context.Context, id protocol.ID, reason string) error {
	return a.update(ctx, func(tx *sqlite.Tx) error {
		n, err := tx.SuperNode(id)
		if err != nil || n.State != registry.Assigned || !n.Isolated.IsZero() {
			return err
		}
		if err := a.setAside(tx, n, reason); err != nil {
			return err
		}
		return a.audit(tx, Actor{Name: "operator"}, "supernode.isolate", id.String(), id.Domain(), reason)
	})
}
