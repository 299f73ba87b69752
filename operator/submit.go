package operator

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"culvert/operator/care"
	"culvert/operator/registry"
	"culvert/operator/sqlite"
	"culvert/protocol"
)

const (
	probeTimeout = 5 * time.Second
	// resubmit is how long a refused candidate waits before it is probed again.
	resubmit = 10 * time.Second
	maxBusy  = 4096
)

// Handlers implements protocol.Role. SubmitSuperNode waits for the network and belongs into a worker pool.
func (o *Operator) Handlers() map[protocol.Command]protocol.Handler {
	return map[protocol.Command]protocol.Handler{protocol.CmdSubmitSuperNode: o.submit}
}

var _ protocol.Role = (*Operator)(nil)

func (o *Operator) submit(now time.Time, v *protocol.Verified) []protocol.Out {
	var m protocol.SubmitSuperNode
	if v.Node == nil || protocol.Unmarshal(v.Payload, &m) != nil {
		return nil
	}
	candidate := registry.SuperNode{ID: v.Sender, Signing: v.Node.Signing, Sealing: v.Node.Sealing, Capacity: m.Capacity, Submitted: now}
	mesh, ok := o.begin(now, v.Sender)
	if !ok {
		return protocol.Reply(protocol.Busy{RetryAfter: uint32(resubmit.Milliseconds())})
	}
	var status protocol.Status
	var reason string
	var err error
	if len(m.Addresses) == 0 {
		status, err = o.withdrawn(candidate.ID)
	} else {
		status, reason, err = o.consider(mesh, candidate, m.Addresses, v.From)
	}
	o.end(now, v.Sender, status)
	if err != nil {
		o.log.Error("super-node submission", "node", v.Sender, "error", err)
		status, reason = protocol.StatusInternal, ""
	}
	return protocol.Reply(protocol.SuperNodeSubmitted{Status: status, Reason: reason})
}

// begin admits one submission of a node at a time, and a refused one only after a pause: each costs probes.
func (o *Operator) begin(now time.Time, id protocol.ID) (Mesh, bool) {
	o.state.Lock()
	defer o.state.Unlock()
	for k, until := range o.busy {
		if now.After(until) {
			delete(o.busy, k)
		}
	}
	if _, ok := o.busy[id]; ok || o.mesh == nil || len(o.busy) >= maxBusy || !o.leads() {
		return nil, false
	}
	o.busy[id] = now.Add(time.Minute)
	return o.mesh, true
}

func (o *Operator) end(now time.Time, id protocol.ID, s protocol.Status) {
	o.state.Lock()
	defer o.state.Unlock()
	if s == protocol.StatusOK {
		delete(o.busy, id)
		return
	}
	o.busy[id] = now.Add(resubmit)
}

func (o *Operator) consider(mesh Mesh, c registry.SuperNode, offered []protocol.Addr, from netip.AddrPort) (protocol.Status, string, error) {
	ctx, cancel := context.WithTimeout(o.ctx, 2*probeTimeout)
	defer cancel()
	if c.Addresses = o.usable(offered, from); len(c.Addresses) == 0 {
		return protocol.StatusUnreachable, "none of its addresses can be reached from everywhere", nil
	}
	var status protocol.Status
	var reason string
	var old registry.SuperNode
	err := o.db.View(ctx, func(tx *sqlite.Tx) (err error) {
		old, status, reason, err = o.admissible(tx, c.ID)
		return err
	})
	if err != nil {
		return status, reason, err
	}
	if status == protocol.StatusOK && old.State == registry.Assigned && slices.Equal(old.Addresses, c.Addresses) && c.Submitted.Sub(old.Answered) < watchInterval*care.MissLimit {
		return status, "", nil // on the map already, and answered lately
	}
	if status == protocol.StatusOK {
		if c.Addresses = o.reachable(ctx, mesh, c); len(c.Addresses) == 0 {
			return protocol.StatusUnreachable, "no answer on UDP and TCP from outside; open the port on router and firewall", nil
		}
	}
	err = o.update(ctx, func(tx *sqlite.Tx) error {
		// Judged again: a ban or a change of policy may have come while it was probed.
		if old, status, reason, err = o.admissible(tx, c.ID); err != nil {
			return err
		}
		c.Approved, c.State, c.Reason, c.Isolated = old.Approved, registry.Waiting, reason, old.Isolated
		c.Stalls, c.Paused = old.Stalls, old.Paused
		if !old.Submitted.IsZero() {
			c.Answered = old.Answered
		}
		if old.State == registry.Barred {
			c.State = registry.Barred
		}
		if status != protocol.StatusOK {
			if status == protocol.StatusRevoked {
				return nil // no row for those that may never come
			}
			return tx.PutSuperNode(c)
		}
		if c.State, c.Answered = registry.Assigned, o.now(); !c.Isolated.IsZero() {
			c.Reason = old.Reason
		}
		if err := tx.PutSuperNode(c); err != nil {
			return err
		}
		if old.State != registry.Assigned {
			if err := o.audit(tx, Actor{Name: "node " + c.ID.Short()}, "supernode.assign", c.ID.String(), c.ID.Domain(), ""); err != nil {
				return err
			}
		}
		return o.rebuildMap(tx)
	})
	return status, reason, err
}

// withdrawn takes a super-node off the map that says it does not serve any more.
func (o *Operator) withdrawn(id protocol.ID) (protocol.Status, error) {
	err := o.update(o.ctx, func(tx *sqlite.Tx) error {
		n, err := tx.SuperNode(id)
		if errors.Is(err, sqlite.ErrNotFound) || err == nil && n.State != registry.Assigned {
			return nil
		}
		if err != nil {
			return err
		}
		n.State, n.Reason = registry.Waiting, "has withdrawn"
		if err := tx.PutSuperNode(n); err != nil {
			return err
		}
		if err := o.audit(tx, Actor{Name: "node " + id.Short()}, "supernode.withdraw", id.String(), id.Domain(), ""); err != nil {
			return err
		}
		return o.rebuildMap(tx)
	})
	return protocol.StatusOK, err
}

// admissible judges a candidate by registry and policy.
func (o *Operator) admissible(tx *sqlite.Tx, id protocol.ID) (old registry.SuperNode, s protocol.Status, reason string, err error) {
	n, err := tx.Node(id)
	if errors.Is(err, sqlite.ErrNotFound) {
		return old, protocol.StatusUnknown, "this operator has not enrolled the node", nil
	}
	if err != nil {
		return old, 0, "", err
	}
	d, err := tx.Domain(id.Domain())
	if err != nil {
		return old, 0, "", err
	}
	if !n.Revoked.IsZero() || d.Banned {
		return old, protocol.StatusRevoked, "revoked, or its domain is banned", nil
	}
	if old, err = tx.SuperNode(id); err != nil && !errors.Is(err, sqlite.ErrNotFound) {
		return old, 0, "", err
	}
	if old.State == registry.Barred {
		return old, protocol.StatusPolicy, "barred by the operator", nil
	}
	p, err := policy(tx)
	switch {
	case err != nil:
		return old, 0, "", err
	case p == PolicyApproved && !old.Approved:
		return old, protocol.StatusPolicy, "waits for the operator's approval", nil
	case p == PolicyOwn && !d.Own:
		return old, protocol.StatusPolicy, "this operator takes super-nodes of its own domains only", nil
	}
	return old, protocol.StatusOK, "", nil
}

// usable are the addresses worth probing. An unspecified one stands for the address that the message came from. Loopback and
// private ones count only in a mesh whose operator is on such an address itself: anywhere else they are somebody else's.
func (o *Operator) usable(offered []protocol.Addr, from netip.AddrPort) []netip.AddrPort {
	var out []netip.AddrPort
	mine := o.Peers()
	for _, a := range offered[:min(len(offered), protocol.MaxAddresses)] {
		ip, port := a.Addr(), a.Port()
		if ip.IsUnspecified() {
			ip = from.Addr().Unmap().WithZone("")
		}
		if !ip.IsValid() || port == 0 || ip.Zone() != "" || ip.IsUnspecified() || ip.IsMulticast() || ip.IsLinkLocalUnicast() {
			continue
		}
		like := func(is func(netip.Addr) bool) bool {
			return !is(ip) || slices.ContainsFunc(mine, func(p netip.AddrPort) bool { return is(p.Addr()) })
		}
		if !like(netip.Addr.IsLoopback) || !like(netip.Addr.IsPrivate) {
			continue
		}
		if p := netip.AddrPortFrom(ip, port); !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// reachable probes all of a candidate's addresses at once and keeps those that answer, in their order.
func (o *Operator) reachable(ctx context.Context, mesh Mesh, n registry.SuperNode) []netip.AddrPort {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	ok := make([]bool, len(n.Addresses))
	var wg sync.WaitGroup
	for i, addr := range n.Addresses {
		wg.Go(func() {
			ok[i] = mesh.Probe(ctx, protocol.Peer{ID: n.ID, Signing: n.Signing, Sealing: n.Sealing, Addr: addr}, addr) == nil
		})
	}
	wg.Wait()
	var out []netip.AddrPort
	messages := false // one at which it offers streams alone makes no super-node
	for i, addr := range n.Addresses {
		if ok[i] {
			out = append(out, addr)
			messages = messages || !protocol.StreamsOnly(addr)
		}
	}
	if !messages {
		return nil
	}
	return out
}
