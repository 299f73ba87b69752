package operator

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"time"

	"culvert/operator/sqlite"
	"culvert/protocol"
	"culvert/protocol/key"
)

// AddSpec describes a further operator.
type AddSpec struct {
	File      string `json:"file"` // that it is restored from on its own computer
	Advertise string `json:"advertise"`
	Port      uint16 `json:"port,omitempty"` // where it answers messages; 0: 7700
	RootFile  string `json:"root_file,omitempty"`
}

// Added is a further operator.
type Added struct {
	ID     protocol.ID `json:"id"`
	HTTPS  string      `json:"https"`
	Epoch  uint64      `json:"epoch"`
	Backup BackupInfo  `json:"backup"`
}

// Add admits a further operator, by this one's consent and the root's, and writes what it is restored from: a copy of the
// registry, with a key of its own. It stands by: it answers nodes, follows what it would have to take over, and signs nothing
// until `takeover` makes it the leading one.
func (o *Operator) Add(ctx context.Context, by Actor, spec AddSpec) (out Added, err error) {
	if err := o.mayWrite(); err != nil {
		return out, err
	}
	root, err := o.loadRoot(by, spec.RootFile)
	if err != nil {
		return out, err
	}
	if !filepath.IsAbs(spec.File) {
		return out, invalid("file %.80q: an absolute path", spec.File)
	}
	https, _, err := advertised(spec.Advertise, func(int) bool { return true })
	if err != nil {
		return out, err
	}
	if spec.Port == 0 {
		spec.Port = MessagePort
	}
	ips, err := lookupHost(ctx, https)
	if err != nil {
		return out, invalid("%v", err)
	}
	pair, err := key.Generate(o.rand)
	if err != nil {
		return out, err
	}
	out = Added{ID: protocol.NodeID(protocol.OperatorDomain, pair.Signing.Public()), HTTPS: https, Epoch: o.epoch}
	out.Backup, err = writeBackup(spec.File, o.now(), func(tmp string) error {
		if err := pair.Save(filepath.Join(tmp, keysDir, operatorKeyFile)); err != nil {
			return err
		}
		n := o.newOperator(pair, https, addresses(atPort(ips, spec.Port)), o.epoch)
		Consent(o.keys.Signing, o.epoch, &n.Value)
		raw, err := SignOperator(root, n)
		if err != nil {
			return err
		}
		if err := o.update(ctx, func(tx *sqlite.Tx) error {
			if err := o.takeIn(tx, raw); err != nil {
				return err
			}
			return o.audit(tx, by, "operator.add", out.ID.String(), 0, https)
		}); err != nil {
			return err
		}
		if err := sqlite.Copy(ctx, filepath.Join(o.dir, dbFile), filepath.Join(tmp, dbFile)); err != nil {
			return err
		}
		return o.becomeStandby(ctx, filepath.Join(tmp, dbFile), pair, root, https, n.Expires)
	})
	return out, err
}

// becomeStandby turns a copy of the registry into that of an operator with another key and address.
func (o *Operator) becomeStandby(ctx context.Context, path string, pair *key.Pair, root *key.Signing, https string, until time.Time) error {
	db, err := sqlite.Open(ctx, path)
	if err != nil {
		return err
	}
	err = db.Update(ctx, func(tx *sqlite.Tx) error {
		cert, err := o.nextCertificate(tx, root, pair, until)
		if err != nil {
			return err
		}
		for name, v := range map[string][]byte{
			settingHTTPS: []byte(https), settingOperatorCert: cert, settingHandover: {}, settingPeers: []byte("[]"),
		} {
			if err := tx.SetSetting(name, v); err != nil {
				return err
			}
		}
		return setStanding(tx, standing{standby, "operator " + o.id.Short() + " leads"})
	})
	return errors.Join(err, db.Close())
}

// OperatorView is an operator of the chain as the admin API shows it.
type OperatorView struct {
	ID        protocol.ID      `json:"id"`
	Epoch     uint64           `json:"epoch"`
	HTTPS     string           `json:"https"`
	Addresses []netip.AddrPort `json:"addresses"`
	State     string           `json:"state"` // leading, standby, retired
	Since     time.Time        `json:"since"`
	Expires   time.Time        `json:"expires"`
	Self      bool             `json:"self"`
}

// Operators lists the chain, newest epoch first. Who signed the map leads.
func (o *Operator) Operators(ctx context.Context, by Actor) ([]OperatorView, error) {
	if err := by.wantAll(); err != nil {
		return nil, err
	}
	var leading protocol.ID
	var trust *protocol.Trust
	err := o.db.View(ctx, func(tx *sqlite.Tx) (err error) {
		if trust, err = o.loadTrust(tx); err != nil {
			return err
		}
		head, found, err := o.currentMapHead(tx)
		if found {
			leading = head.Signer
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if o.leads() {
		leading = o.id
	}
	out := []OperatorView{}
	for _, op := range trust.Operators() {
		v := OperatorView{ID: op.ID, Epoch: op.Epoch, HTTPS: op.HTTPS, Addresses: []netip.AddrPort{}, State: standby, Since: op.Issued.UTC(), Expires: op.Expires.UTC(), Self: op.ID == o.id}
		for _, a := range op.Addresses {
			v.Addresses = append(v.Addresses, a.AddrPort)
		}
		switch {
		case !op.Retired.IsZero():
			v.State = "retired"
		case op.ID == leading:
			v.State = "leading"
		}
		out = append(out, v)
	}
	return out, nil
}

// RetireSpec names an operator that shall sign no more.
type RetireSpec struct {
	ID       protocol.ID `json:"id"`
	RootFile string      `json:"root_file,omitempty"`
	Stolen   bool        `json:"stolen,omitempty"` // nothing that it has signed counts any more
}

// Retire ends a further operator; the leading one is replaced by a rotation or a takeover.
func (o *Operator) Retire(ctx context.Context, by Actor, spec RetireSpec) error {
	root, err := o.loadRoot(by, spec.RootFile)
	if err != nil {
		return err
	}
	if spec.ID == o.id {
		return invalid("this operator itself is replaced with rotate, or by another's takeover")
	}
	return o.update(ctx, func(tx *sqlite.Tx) error {
		old, found, err := o.current(tx, protocol.TableOperatorNode, spec.ID)
		if err != nil {
			return err
		}
		if !found {
			return notFound("operator %s", spec.ID)
		}
		at := o.now()
		if spec.Stolen {
			at = time.UnixMilli(0)
		}
		raw, err := retire(root, old, o.next(old.Sequence), at, o.now())
		if err != nil {
			return err
		}
		if err := o.takeIn(tx, raw); err != nil {
			return err
		}
		return o.audit(tx, by, "operator.retire", spec.ID.String(), 0, "")
	})
}
