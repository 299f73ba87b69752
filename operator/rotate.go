package operator

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"culvert/operator/registry"
	"culvert/operator/sqlite"
	"culvert/protocol"
	"culvert/protocol/key"
)

// ErrReopen is what Run returns when the operator has another key from now on: Close it and Open it again.
var ErrReopen = errors.New("the operator goes on with its next key")

const settingHandover = "handover"

// handover is a change of this operator's key that the root has agreed to.
type handover struct {
	Next        protocol.ID `json:"next"`
	At          int64       `json:"at"`          // ms since 1970
	Retirements [][]byte    `json:"retirements"` // of those that it replaces: made known when it signs
	Certificate []byte      `json:"certificate"` // the CA certificate of the next key
}

// RotateSpec says how the key is rotated.
type RotateSpec struct {
	RootFile string `json:"root_file,omitempty"` // empty: DIR/keys/root.key
	After    string `json:"after,omitempty"`     // how long the next key is made known before it signs; a duration
}

// RotateAfter is how long it takes at most until every node that is on has asked for news.
const RotateAfter = 10 * time.Minute

// Handover is what came of a rotation or a takeover.
type Handover struct {
	ID      protocol.ID `json:"id"` // of the operator with its next key
	Epoch   uint64      `json:"epoch"`
	From    time.Time   `json:"from"` // when it signs
	HTTPS   string      `json:"https"`
	Retired int         `json:"retired"` // operators that sign no more from then on
}

// Rotate gives the operator a new key within its epoch, with its own consent and the root's. The old key signs until the new
// one has been made known, and what it has signed goes on to count.
func (o *Operator) Rotate(ctx context.Context, by Actor, spec RotateSpec) (h Handover, err error) {
	after := RotateAfter
	if spec.After != "" {
		if after, err = time.ParseDuration(spec.After); err != nil || after < 0 || after > operatorRenew {
			return h, invalid("after %.40q: a duration such as 10m", spec.After)
		}
	}
	return o.changeKey(ctx, by, spec.RootFile, func(tx *sqlite.Tx, root *key.Signing, next *key.Pair) (handover, NewOperator, error) {
		at := o.now().Add(after).Truncate(time.Millisecond)
		if err := o.mayWrite(); err != nil {
			return handover{}, NewOperator{}, err
		}
		if h, found, err := pending(tx); err != nil || found {
			return h, NewOperator{}, orExists(err, "a next key, which signs from "+time.UnixMilli(h.At).Format(time.RFC3339))
		}
		n := o.newOperator(next, o.https, addresses(o.Peers()), o.epoch)
		Consent(o.keys.Signing, o.epoch, &n.Value)
		own, _, err := o.current(tx, protocol.TableOperatorNode, o.id)
		if err != nil {
			return handover{}, n, err
		}
		gone, err := retire(root, own, o.next(own.Sequence), at, o.now())
		return handover{At: at.UnixMilli(), Retirements: [][]byte{gone}}, n, err
	})
}

// TakeoverSpec says how an operator takes over.
type TakeoverSpec struct {
	RootFile  string `json:"root_file,omitempty"`
	Advertise string `json:"advertise,omitempty"` // empty: as before
	Stolen    bool   `json:"stolen,omitempty"`    // nothing that another key has signed counts any more
}

// Takeover makes this directory's operator the leading one with a new key at a higher epoch: the root alone decides. All
// others are retired.
func (o *Operator) Takeover(ctx context.Context, by Actor, spec TakeoverSpec) (Handover, error) {
	https, peers := o.https, o.Peers()
	if spec.Advertise != "" {
		var err error
		if https, _, err = advertised(spec.Advertise, func(int) bool { return true }); err != nil {
			return Handover{}, err
		}
		peers = o.resolved(ctx, https, peers)
	}
	return o.changeKey(ctx, by, spec.RootFile, func(tx *sqlite.Tx, root *key.Signing, next *key.Pair) (handover, NewOperator, error) {
		now := o.now().Truncate(time.Millisecond)
		h := handover{At: now.UnixMilli()}
		rows, err := tx.Records(protocol.TableOperatorNode, protocol.ID{}, now, maxOperators)
		if err != nil {
			return h, NewOperator{}, err
		}
		top := o.epoch
		for _, row := range rows {
			top = max(top, row.Epoch)
			old, err := protocol.ParseRecord(row.Raw)
			if err != nil {
				return h, NewOperator{}, err
			}
			at := now
			if old.Tombstone {
				at = old.Issued
			}
			if spec.Stolen {
				at = time.UnixMilli(0)
			}
			raw, err := retire(root, old, o.next(old.Sequence), at, now)
			if err != nil {
				return h, NewOperator{}, err
			}
			h.Retirements = append(h.Retirements, raw)
		}
		if err := tx.SetSetting(settingHTTPS, []byte(https)); err != nil {
			return h, NewOperator{}, err
		}
		if !o.leads() { // its registry is a copy: it hears the mesh before it signs
			if err := setStanding(tx, standing{State: restored}); err != nil {
				return h, NewOperator{}, err
			}
			if err := setFloor(tx, max(o.floor+1, uint64(now.Unix()))); err != nil {
				return h, NewOperator{}, err
			}
		}
		return h, o.newOperator(next, https, addresses(peers), top+1), nil
	})
}

func (o *Operator) newOperator(next *key.Pair, https string, at []protocol.Addr, epoch uint64) NewOperator {
	return NewOperator{
		Value: protocol.OperatorNodeValue{Signing: next.Signing.Public(), Sealing: next.Sealing.Public(), HTTPS: https, Addresses: at},
		Epoch: epoch, Sequence: o.next(0), Issued: o.now(), Expires: o.now().Add(operatorLife),
	}
}

// resolved are the message addresses at another host, with the port that this operator has.
func (o *Operator) resolved(ctx context.Context, https string, old []netip.AddrPort) []netip.AddrPort {
	port := uint16(MessagePort)
	if len(old) > 0 {
		port = old[0].Port()
	}
	ips, err := lookupHost(ctx, https)
	if err != nil {
		return nil // found out when it runs
	}
	return atPort(ips, port)
}

// changeKey makes the next key, has make say what the root signs for it, and keeps all that for when its time comes.
func (o *Operator) changeKey(ctx context.Context, by Actor, rootFile string,
	make func(*sqlite.Tx, *key.Signing, *key.Pair) (handover, NewOperator, error)) (out Handover, err error) {
	root, err := o.loadRoot(by, rootFile)
	if err != nil {
		return out, err
	}
	next, err := key.Generate(o.rand)
	if err != nil {
		return out, err
	}
	id := protocol.NodeID(protocol.OperatorDomain, next.Signing.Public())
	if err := next.Save(nextKeyPath(o.dir, id)); err != nil { // before anything refers to it
		return out, err
	}
	err = o.db.Update(ctx, func(tx *sqlite.Tx) error {
		h, n, err := make(tx, root, next)
		if err != nil {
			return err
		}
		raw, err := SignOperator(root, n)
		if err != nil {
			return err
		}
		if err := o.takeIn(tx, raw); err != nil {
			return err
		}
		h.Next = id
		if h.Certificate, err = o.nextCertificate(tx, root, next, n.Expires); err != nil {
			return err
		}
		text, err := json.Marshal(h)
		if err != nil {
			return fmt.Errorf("operator database: handover: %w", err)
		}
		if err := tx.SetSetting(settingHandover, text); err != nil {
			return err
		}
		out = Handover{ID: h.Next, Epoch: n.Epoch, From: time.UnixMilli(h.At).UTC(), HTTPS: n.Value.HTTPS, Retired: len(h.Retirements)}
		return o.audit(tx, by, "operator.key", h.Next.String(), 0, fmt.Sprintf("epoch %d from %s", n.Epoch, out.From.Format(time.RFC3339)))
	})
	if err != nil {
		return out, err
	}
	o.kick()
	poke(o.handing)
	return out, nil
}

func (o *Operator) nextCertificate(tx *sqlite.Tx, root *key.Signing, next *key.Pair, until time.Time) ([]byte, error) {
	der, err := tx.Setting(settingRootCert)
	if err != nil {
		return nil, fmt.Errorf("operator database: setting %s: %w", settingRootCert, err)
	}
	parent, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("root certificate: %w", err)
	}
	return o.operatorCA(parent, next.Signing.Signer().Public(), root.Signer(), until)
}

// loadRoot is the root's key: of the file that was named, else of this directory.
func (o *Operator) loadRoot(by Actor, file string) (*key.Signing, error) {
	if err := by.wantLocal(); err != nil {
		return nil, err
	}
	if file == "" && o.rootSigner == nil {
		return nil, invalid("the root key is needed, and %s is not here: name it with --root FILE", filepath.Join(o.dir, keysDir, rootKeyFile))
	}
	if file == "" {
		return o.rootSigner, nil
	}
	pair, err := key.Load(file)
	if err != nil {
		return nil, invalid("root key: %v", err)
	}
	if pair.Signing.Public() != o.rootKey {
		return nil, invalid("%s is not this mesh's root key", file)
	}
	return pair.Signing, nil
}

// nextKeyPath names the file by the key, so that none is ever written over.
func nextKeyPath(dir string, id protocol.ID) string {
	h := id.Hash()
	return filepath.Join(dir, keysDir, fmt.Sprintf("operator-%x.key", h[:8]))
}

// pending is the handover that has been agreed and not been made.
func pending(tx *sqlite.Tx) (h handover, found bool, err error) {
	b, err := tx.Setting(settingHandover)
	if errors.Is(err, sqlite.ErrNotFound) || err == nil && len(b) == 0 {
		return h, false, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &h)
	}
	if err != nil {
		return h, false, fmt.Errorf("operator database: handover: %w", err)
	}
	return h, true, nil
}

// changeKeys makes the next key this operator's, once its time has come. A kill between its steps leaves it to be done again.
func (a *Authority) changeKeys(tx *sqlite.Tx, dir string) error {
	h, found, err := pending(tx)
	if err != nil || !found || a.now().UnixMilli() < h.At {
		return err
	}
	own := filepath.Join(dir, keysDir, operatorKeyFile)
	if pair, err := key.Load(own); err == nil && protocol.NodeID(protocol.OperatorDomain, pair.Signing.Public()) == h.Next {
		return nil // renamed before a kill
	}
	path := nextKeyPath(dir, h.Next)
	if _, err := key.Load(path); errors.Is(err, fs.ErrNotExist) {
		return tx.SetSetting(settingHandover, []byte{}) // it was lost: the one that there is goes on
	} else if err != nil {
		return err
	}
	if err := os.Rename(own, filepath.Join(dir, keysDir, formerKeyFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("change the operator's key: %w", err)
	}
	if err := os.Rename(path, own); err != nil {
		return fmt.Errorf("change the operator's key: %w", err)
	}
	return nil
}

// finishHandover retires those that this key has replaced.
func (a *Authority) finishHandover(tx *sqlite.Tx) error {
	h, found, err := pending(tx)
	if err != nil || !found || h.Next != a.id {
		return err
	}
	for _, raw := range h.Retirements {
		if err := admit(tx, raw); err != nil {
			return err
		}
	}
	if err := tx.SetSetting(settingOperatorCert, h.Certificate); err != nil {
		return err
	}
	return tx.SetSetting(settingHandover, []byte{})
}

// awaitHandover ends with ErrReopen when the next key's time has come.
func (o *Operator) awaitHandover(ctx context.Context) error {
	for {
		var h handover
		var found bool
		if err := o.db.View(ctx, func(tx *sqlite.Tx) (err error) {
			h, found, err = pending(tx)
			return err
		}); err != nil && ctx.Err() == nil {
			o.log.Error("read the handover", "error", err)
		}
		wait := operatorLife
		if found {
			wait = time.UnixMilli(h.At).Sub(o.now())
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-o.handing:
		case <-t.C:
		}
		t.Stop()
		switch {
		case ctx.Err() != nil:
			return nil
		case found && o.now().UnixMilli() >= h.At:
			return ErrReopen
		}
	}
}

// FormerIdentity is the key that signed before, where there is one: nodes that know no other ask for it.
func (o *Operator) FormerIdentity(ctx context.Context) (*key.Pair, []byte, error) {
	pair, err := key.Load(filepath.Join(o.dir, keysDir, formerKeyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	var row registry.Record
	err = o.db.View(ctx, func(tx *sqlite.Tx) (err error) {
		row, err = tx.Record(protocol.TableOperatorNode, protocol.NodeID(protocol.OperatorDomain, pair.Signing.Public()))
		return err
	})
	if errors.Is(err, sqlite.ErrNotFound) || err == nil && !o.now().Before(row.Expires) {
		return nil, nil, nil
	}
	return pair, row.Raw, err
}
