package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"culvert/operator/sqlite"
)

// RestoreOptions says how a backup is restored.
type RestoreOptions struct {
	// Alone: nothing is left of the mesh, so it is not asked for what it was told after the backup.
	Alone bool
	Now   func() time.Time
}

// Restored says what was restored.
type Restored struct {
	Backup  BackupInfo `json:"backup"`
	Summary Summary    `json:"operator"`
	Standby bool       `json:"standby"` // it is a further operator, made by add
}

// Restore makes an operator of a backup in dir, which must be empty. What could roll back does not: numbers go on far above
// any that can have been given after the backup, join tokens and API keys that may have been used up or ended since are
// void, and before it signs anything the operator takes in what the mesh was told since.
func Restore(ctx context.Context, file, dir string, opt RestoreOptions) (out Restored, err error) {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return out, fmt.Errorf("restore: %w", err)
	}
	if len(entries) > 0 {
		return out, fmt.Errorf("%w: %s is not empty, and a restore overwrites nothing; choose another directory with --data", ErrExists, dir)
	}
	if err := makeDirs(dir); err != nil {
		return out, err
	}
	lock, err := acquire(dir)
	if err != nil {
		return out, err
	}
	info, made, err := unpack(file, dir)
	tmp := filepath.Join(dir, dbFile+".new")
	made = append(made, tmp+"-wal", tmp+"-shm")
	if err == nil {
		err = revive(ctx, tmp, info, opt)
	}
	if err == nil {
		err = os.Rename(tmp, filepath.Join(dir, dbFile))
		made = append(made, filepath.Join(dir, dbFile))
	}
	if err = errors.Join(err, lock.Close()); err == nil {
		out, err = open(ctx, dir, opt) // key and database belong together, or it fails
	}
	if err != nil {
		for _, f := range append(made, filepath.Join(dir, keysDir), filepath.Join(dir, lockFile), filepath.Join(dir, CAFile)) {
			os.Remove(f)
		}
		return out, err
	}
	out.Backup = info
	return out, nil
}

func open(ctx context.Context, dir string, opt RestoreOptions) (out Restored, err error) {
	o, err := Open(ctx, dir, Options{Now: opt.Now})
	if err != nil {
		return out, err
	}
	s, err := o.Summary(ctx)
	out = Restored{Summary: s, Standby: o.standing.Load().State == standby}
	return out, errors.Join(err, o.Close())
}

// revive checks a database that was in a backup and readies it.
func revive(ctx context.Context, path string, info BackupInfo, opt RestoreOptions) error {
	if err := sqlite.Check(ctx, path); err != nil {
		return err
	}
	name, root, err := whose(path)
	if err != nil {
		return err
	}
	if name != info.Name || root != info.Root {
		return invalid("the database is not that of operator %.80q", info.Name)
	}
	now := opt.Now()
	floor := uint64(max(now.Unix(), info.Created.Unix()))
	if floor > math.MaxUint32 {
		return invalid("this machine's clock says %s; set it first", now.UTC().Format(time.RFC3339))
	}
	db, err := sqlite.Open(ctx, path)
	if err != nil {
		return err
	}
	err = db.Update(ctx, func(tx *sqlite.Tx) error {
		a := new(Authority)
		if err := a.loadStanding(tx); err != nil {
			return err
		}
		if err := setFloor(tx, max(floor, a.floor+1)); err != nil {
			return err
		}
		if s := a.standing.Load(); s.State != standby {
			s.State = restored
			if opt.Alone {
				s.State = ""
			}
			if err := setStanding(tx, *s); err != nil {
				return err
			}
		}
		if err := tx.DeleteSecrets(); err != nil {
			return err
		}
		if err := tx.SetSetting(settingSigned, []byte{}); err != nil {
			return err
		}
		text, err := json.Marshal(info.Created)
		if err != nil {
			return err
		}
		return (&Authority{now: opt.Now}).audit(tx, Actor{Name: "operator restore"}, "operator.restore", name, 0, "backup of "+string(text))
	})
	return errors.Join(err, db.Close())
}
