package operator

import (
	"context"
	"fmt"
	"slices"
	"time"

	"culvert/operator/care"
	"culvert/operator/sqlite"
	"culvert/partition"
)

// stallsForgotten is how long after its last pause what a super-node did not finish is held against it no more.
const stallsForgotten = 7 * 24 * time.Hour

// pause takes its place from one that does not fill it, if somebody else goes on or could: it serves what it serves, and is
// given nothing to take over for a while, each time longer.
func (o *Operator) pause(ctx context.Context, s care.Stall) error {
	if s.ID == o.id {
		return nil // it fills what nobody else does
	}
	replaceable := s.Rival
	if !replaceable {
		err := o.db.View(ctx, func(tx *sqlite.Tx) error {
			state, _, err := o.planState(tx)
			state.Supers = slices.DeleteFunc(state.Supers, func(c partition.Candidate) bool {
				alive, _, _ := o.watcher.state(c.ID)
				return !alive && !slices.ContainsFunc(state.Present, func(p partition.Placement) bool { return p.ID == c.ID })
			})
			replaceable = err == nil && partition.Replaceable(state, s.ID)
			return err
		})
		if err != nil || !replaceable {
			return err
		}
	}
	return o.update(ctx, func(tx *sqlite.Tx) error {
		n, err := tx.SuperNode(s.ID)
		if err != nil {
			return err
		}
		now := o.now()
		if now.Sub(n.Paused) > stallsForgotten {
			n.Stalls = 0
		}
		n.Stalls++
		n.Paused = now.Add(care.FillPause(n.Stalls))
		n.Reason = fmt.Sprintf("did not take over its range for %v; given none until %s", care.StallAfter, n.Paused.UTC().Format(time.RFC3339))
		if err := tx.PutSuperNode(n); err != nil {
			return err
		}
		if err := o.audit(tx, Actor{Name: "operator"}, "supernode.stalled", n.ID.String(), n.ID.Domain(), n.Reason); err != nil {
			return err
		}
		return o.rebuildMap(tx)
	})
}
