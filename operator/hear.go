package operator

import (
	"context"
	"fmt"
	"time"

	"culvert/operator/sqlite"
	"culvert/protocol"
)

const (
	firstHearing = time.Second
	lastHearing  = 30 * time.Second
	fullHearing  = time.Hour
	startHearing = 3 * time.Second // how long a start waits to learn whether it still leads
)

// hear takes in what the mesh knows better than this operator, before it signs anything. A restored one waits until somebody of
// every range has answered; any other only looks whether it still leads, and asks again every minute.
func (o *Operator) hear(ctx context.Context, mesh Mesh) error {
	pause := firstHearing
	for {
		wants := o.standing.Load().State == restored
		peers, err := o.knownSuperNodes(ctx)
		if err != nil {
			return err
		}
		limit := startHearing
		if wants {
			limit = fullHearing
		}
		gctx, cancel := context.WithTimeout(ctx, limit)
		heard, err := mesh.Gather(gctx, peers, wants)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			o.log.Warn("not all super-nodes were heard", "error", err)
		}
		if err := o.checkLead(ctx, mesh); err != nil {
			return err
		}
		if o.standing.Load().State != restored {
			return nil
		}
		if heard {
			return o.adopt(ctx, mesh)
		}
		o.log.Warn("this operator was restored from a backup and signs nothing until super-nodes of every range have told what they know; is this machine online?",
			"next", pause.String())
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-o.handing: // a takeover
			t.Stop()
			poke(o.handing)
			return nil
		case <-t.C:
		}
		pause = min(2*pause, lastHearing)
	}
}

// knownSuperNodes are all that ever offered themselves: the map of an old backup may have expired.
func (o *Operator) knownSuperNodes(ctx context.Context) (out []protocol.Peer, err error) {
	err = o.db.View(ctx, func(tx *sqlite.Tx) error {
		ns, err := tx.SuperNodes()
		for _, n := range ns {
			for _, at := range n.Addresses {
				if !protocol.StreamsOnly(at) {
					out = append(out, protocol.Peer{ID: n.ID, Signing: n.Signing, Sealing: n.Sealing, Addr: at})
					break
				}
			}
		}
		return err
	})
	return out, err
}

// checkLead makes a standby of an operator that the mesh has left behind: the root has retired it, or somebody has signed a
// newer map than it knows of, be it with its own key.
func (o *Operator) checkLead(ctx context.Context, mesh Mesh) error {
	for raw, err := range mesh.Held(ctx, protocol.TableOperatorNode) {
		if err != nil {
			return err
		}
		// Who is not admitted by the rules of every reader has no say.
		if o.trust.AddOperator(raw, o.rootKey, o.now()) != nil {
			continue
		}
		if err := o.keepNewer(ctx, raw); err != nil {
			return err
		}
	}
	if !o.leads() && o.standing.Load().State == standby {
		return nil
	}
	if own, ok := o.trust.Operator(o.id); ok && !own.Retired.IsZero() {
		return o.stepDown(ctx, "the root has retired it, another operator leads")
	}
	for _, op := range o.trust.Operators() {
		if op.Epoch > o.epoch {
			return o.stepDown(ctx, fmt.Sprintf("operator %s has taken over at epoch %d", op.ID.Short(), op.Epoch))
		}
	}
	if o.standing.Load().State == restored {
		return nil // a newer map is what it is about to take in
	}
	for raw, err := range mesh.Held(ctx, protocol.TableMapHead) {
		if err != nil {
			return err
		}
		r, err := protocol.ParseRecord(raw)
		if err != nil || o.trust.CheckStatic(r, o.now()) != nil {
			continue
		}
		newer := false
		err = o.db.View(ctx, func(tx *sqlite.Tx) error {
			mine, found, err := o.currentMapHead(tx)
			newer = err == nil && (!found || r.Supersedes(mine))
			return err
		})
		if err != nil {
			return err
		}
		if newer {
			return o.stepDown(ctx, fmt.Sprintf("operator %s has signed a newer map; one with this very key, restored from a backup, may be running elsewhere", r.Signer.Short()))
		}
	}
	return nil
}

// keepNewer takes an operator's record into the chain that is handed out.
func (o *Operator) keepNewer(ctx context.Context, raw []byte) error {
	r, err := protocol.ParseRecord(raw)
	if err != nil {
		return err
	}
	return o.db.Update(ctx, func(tx *sqlite.Tx) error {
		old, found, err := o.current(tx, r.Table, r.Owner)
		if err != nil || found && !r.Supersedes(old) {
			return err
		}
		if err := admit(tx, raw); err != nil {
			return err
		}
		return o.loadIdentity(tx)
	})
}

// keepHearing has a leading operator notice that it was replaced, and a standby follow what it would have to take over.
func (o *Operator) keepHearing(ctx context.Context, mesh Mesh) {
	peers, err := o.knownSuperNodes(ctx)
	if err == nil {
		_, err = mesh.Gather(ctx, peers, !o.leads())
	}
	if err != nil && ctx.Err() == nil {
		o.log.Debug("super-nodes not heard", "error", err)
	}
	if err := o.checkLead(ctx, mesh); err != nil && ctx.Err() == nil {
		o.log.Error("look whether this operator leads", "error", err)
	}
}
