package operator

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"culvert/operator/sqlite"
	"culvert/protocol/enrol"
)

// ErrStandby marks a change that this operator may not make, because it does not lead.
var ErrStandby = enrol.ErrStandby

const (
	settingStanding = "standing"
	settingFloor    = "floor"

	standby  = "standby"
	restored = "restored"
)

// standing is why this operator signs nothing; the zero one leads. Exactly one operator of a mesh leads: it alone has the
// registry that counts. The others wait with a copy.
type standing struct {
	State  string `json:"state,omitempty"` // empty: leads; standby; restored: leads once it has heard what the mesh knows
	Reason string `json:"reason,omitempty"`
}

func (a *Authority) mayWrite() error {
	switch s := a.standing.Load(); {
	case s == nil || s.State == "":
		return nil
	case s.State == restored:
		return fmt.Errorf("%w: it has been restored from a backup and first takes in what the mesh has been told since; `culvert operator run` does that", ErrStandby)
	default:
		return fmt.Errorf("%w: %s; `culvert operator takeover` makes it the leading one, with the root key", ErrStandby, s.Reason)
	}
}

func (a *Authority) leads() bool { return a.mayWrite() == nil }

func (a *Authority) loadStanding(tx *sqlite.Tx) error {
	s := new(standing)
	b, err := tx.Setting(settingStanding)
	if err == nil {
		err = json.Unmarshal(b, s)
	}
	if err != nil && !errors.Is(err, sqlite.ErrNotFound) {
		return fmt.Errorf("operator database: standing: %w", err)
	}
	a.standing.Store(s)
	b, err = tx.Setting(settingFloor)
	if errors.Is(err, sqlite.ErrNotFound) {
		return nil
	}
	if err != nil || len(b) != 8 {
		return fmt.Errorf("operator database: floor of %d bytes: %w", len(b), err)
	}
	a.floor = binary.BigEndian.Uint64(b)
	return nil
}

func setStanding(tx *sqlite.Tx, s standing) error {
	b, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("operator database: standing: %w", err)
	}
	return tx.SetSetting(settingStanding, b)
}

func setFloor(tx *sqlite.Tx, n uint64) error {
	return tx.SetSetting(settingFloor, binary.BigEndian.AppendUint64(nil, n))
}

// next is the number after n: of a record's sequence, of a map, of a revocation, of a domain's key. The floor is set, to the
// seconds since 1970, when a backup is restored: whatever was numbered between backup and loss, one by one, stays below it.
func (a *Authority) next(n uint64) uint64 { return max(n+1, a.floor) }

// stepDown makes this operator a standby for good, or until somebody with the root key has it take over.
func (o *Operator) stepDown(ctx context.Context, reason string) error {
	s := standing{standby, reason}
	err := o.db.Update(ctx, func(tx *sqlite.Tx) error {
		if err := setStanding(tx, s); err != nil {
			return err
		}
		return o.audit(tx, Actor{Name: "operator"}, "operator.standby", o.id.String(), 0, reason)
	})
	o.standing.Store(&s) // even where it could not be written down
	o.log.Error("this operator stands by from now on and signs nothing", "reason", reason)
	return err
}
