package operator

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"culvert/operator/registry"
	"culvert/operator/sqlite"
	"culvert/protocol"
)

// MaxBulk is how many devices one call registers at most.
const MaxBulk = 10_000

// DeviceView is a device as the admin API shows it.
type DeviceView struct {
	ID protocol.ID `json:"id"`
	DeviceSpec
	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`
}

func viewDevice(d registry.Device, domain string) DeviceView {
	s := specOf(d.Value)
	s.Domain = domain
	return DeviceView{ID: d.ID, DeviceSpec: s, Created: d.Created.UTC(), Updated: d.Updated.UTC()}
}

// AddDevice registers one device.
func (a *Authority) AddDevice(ctx context.Context, by Actor, s DeviceSpec) (DeviceView, error) {
	out, err := a.AddDevices(ctx, by, []DeviceSpec{s})
	var rows RowErrors
	if errors.As(err, &rows) && len(rows) == 1 {
		return DeviceView{}, rows[0].err
	}
	if err != nil {
		return DeviceView{}, err
	}
	return out[0], nil
}

// AddDevices registers all of them or, with RowErrors, none.
func (a *Authority) AddDevices(ctx context.Context, by Actor, specs []DeviceSpec) ([]DeviceView, error) {
	if len(specs) == 0 || len(specs) > MaxBulk {
		return nil, invalid("%d devices; from 1 to %d in one call", len(specs), MaxBulk)
	}
	var bad RowErrors
	places := a.newPlaces()
	values := make([]protocol.EndDeviceValue, len(specs))
	for i, s := range specs {
		v, err := s.value()
		if err == nil && s.At != "" {
			v.Locations, err = places.at(ctx, by, s)
		}
		if err != nil {
			if !aboutInput(err) {
				return nil, err
			}
			bad = bad.add(i, err)
		}
		values[i] = v
	}
	if len(bad) > 0 {
		return nil, bad
	}
	out := make([]DeviceView, len(specs))
	err := a.update(ctx, func(tx *sqlite.Tx) error {
		for i, s := range specs {
			var err error
			if out[i], err = a.addDevice(tx, by, s, values[i]); err == nil {
				continue
			}
			if !aboutInput(err) {
				return err
			}
			if bad = bad.add(i, err); len(bad) >= maxRowErrors {
				break
			}
		}
		if len(bad) > 0 {
			return bad
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (e RowErrors) add(i int, err error) RowErrors {
	if len(e) >= maxRowErrors {
		return e
	}
	return append(e, RowError{Row: i + 1, Message: strings.TrimPrefix(err.Error(), ErrInvalid.Error()+": "), err: err})
}

// aboutInput tells what is a row's own fault from what ends the whole call.
func aboutInput(err error) bool {
	return errors.Is(err, ErrInvalid) || errors.Is(err, ErrNotFound) || errors.Is(err, ErrExists) ||
		errors.Is(err, protocol.ErrRecord) || errors.Is(err, protocol.ErrPayload)
}

func (a *Authority) addDevice(tx *sqlite.Tx, by Actor, s DeviceSpec, v protocol.EndDeviceValue) (DeviceView, error) {
	d, err := a.domain(tx, by, s.Domain)
	if err != nil {
		return DeviceView{}, err
	}
	if err := a.fillNode(tx, by, d.Number, s.Node, &v); err != nil {
		return DeviceView{}, err
	}
	if err := unique(tx, d, v, protocol.ID{}); err != nil {
		return DeviceView{}, err
	}
	dev := registry.Device{Value: v, Created: a.now()}
	if dev.ID, err = a.deviceID(tx, d.Number, v); err != nil {
		return DeviceView{}, err
	}
	if err := a.publishDevice(tx, d, &dev); err != nil {
		return DeviceView{}, err
	}
	return viewDevice(dev, d.Name), a.audit(tx, by, "device.add", dev.ID.String(), d.Number, v.Name)
}

func (a *Authority) fillNode(tx *sqlite.Tx, by Actor, d protocol.Domain, ref string, v *protocol.EndDeviceValue) error {
	if ref == "" {
		return nil
	}
	n, err := a.findNode(tx, by, d, ref)
	if err == nil && !n.Revoked.IsZero() {
		err = invalid("node %s is revoked", n.ID.Short())
	}
	v.Node = n.ID
	return err
}

// unique refuses a name or MAC that another device of the domain has.
func unique(tx *sqlite.Tx, d registry.Domain, v protocol.EndDeviceValue, self protocol.ID) error {
	if o, err := tx.DeviceByName(d.Number, v.Name); err == nil && o.ID != self {
		return fmt.Errorf("%w: a device named %s in domain %s", ErrExists, v.Name, d.Name)
	} else if err != nil && !errors.Is(err, sqlite.ErrNotFound) {
		return err
	}
	if len(v.MAC) == 0 {
		return nil
	}
	if o, err := tx.DeviceByMAC(d.Number, v.MAC); err == nil && o.ID != self {
		return fmt.Errorf("%w: MAC %x is registered as device %s", ErrExists, v.MAC, o.Value.Name)
	} else if err != nil && !errors.Is(err, sqlite.ErrNotFound) {
		return err
	}
	return nil
}

// deviceID is fixed at registration (ID-8). It comes from the MAC and TLS key known then; where there is no MAC, or a device
// that has changed its MAC since holds that ID, it is random.
func (a *Authority) deviceID(tx *sqlite.Tx, d protocol.Domain, v protocol.EndDeviceValue) (protocol.ID, error) {
	if len(v.MAC) > 0 {
		id := protocol.NewID(d, sha256.Sum256(slices.Concat(v.MAC, v.TLSPin)))
		o, err := tx.Device(id)
		if errors.Is(err, sqlite.ErrNotFound) || err == nil && o.Removed {
			return id, nil
		}
		if err != nil {
			return id, err
		}
	}
	var h protocol.Hash
	if _, err := io.ReadFull(a.rand, h[:]); err != nil {
		return protocol.ID{}, fmt.Errorf("draw a device ID: %w", err)
	}
	return protocol.NewID(d, h), nil
}

// publishDevice seals and signs dev's record and keeps both.
func (a *Authority) publishDevice(tx *sqlite.Tx, d registry.Domain, dev *registry.Device) error {
	given, err := a.secrets(tx, d)
	if err != nil {
		return err
	}
	secrets, err := given.At(a.now())
	if err != nil {
		return err
	}
	r := &protocol.Record{Table: protocol.TableEndDevice, Owner: dev.ID, Tombstone: dev.Removed}
	r.Lookups = []protocol.Hash{secrets.NameKey(dev.Value.Name)}
	if dev.Former != "" {
		r.Lookups = append(r.Lookups, secrets.NameKey(dev.Former))
	}
	if !dev.Removed {
		plain, err := protocol.Marshal(dev.Value)
		if err != nil {
			return err
		}
		if r.Value, err = secrets.SealValue(a.rand, r.Table, r.Owner, plain); err != nil {
			return err
		}
	}
	if _, err := a.sign(tx, r, deviceLife); err != nil {
		if errors.Is(err, protocol.ErrRecord) {
			return invalid("device %s does not fit a record (%v): fewer ports, groups or locations", dev.Value.Name, err)
		}
		return err
	}
	dev.KeyEpoch, dev.Updated = secrets.Keys[0].Epoch, a.now()
	return tx.PutDevice(*dev)
}

// findDevice finds a device by ID or NAME@DOMAIN (the scope's domain where none is named).
func (a *Authority) findDevice(tx *sqlite.Tx, by Actor, ref string) (registry.Device, registry.Domain, error) {
	if id, err := protocol.ParseID(ref); err == nil {
		dev, err := tx.Device(id)
		if errors.Is(err, sqlite.ErrNotFound) || err == nil && (dev.Removed || !by.may(id.Domain())) {
			return dev, registry.Domain{}, notFound("device %s", id)
		}
		if err != nil {
			return dev, registry.Domain{}, err
		}
		d, err := tx.Domain(id.Domain())
		return dev, d, err
	}
	name, domain, _ := strings.Cut(ref, "@")
	d, err := a.domain(tx, by, domain)
	if err != nil {
		return registry.Device{}, d, err
	}
	dev, err := tx.DeviceByName(d.Number, name)
	if errors.Is(err, sqlite.ErrNotFound) {
		return dev, d, notFound("device %.80q in domain %s", name, d.Name)
	}
	return dev, d, err
}

// Device shows one device, by ID or NAME@DOMAIN.
func (a *Authority) Device(ctx context.Context, by Actor, ref string) (v DeviceView, err error) {
	err = a.db.View(ctx, func(tx *sqlite.Tx) error {
		dev, d, err := a.findDevice(tx, by, ref)
		v = viewDevice(dev, d.Name)
		return err
	})
	return v, err
}

// Devices lists up to limit devices after an ID; next is where to go on, zero at the end.
func (a *Authority) Devices(ctx context.Context, by Actor, domain string, after protocol.ID, limit int) (out []DeviceView, next protocol.ID, err error) {
	out = []DeviceView{}
	err = a.db.View(ctx, func(tx *sqlite.Tx) error {
		d, err := a.scope(tx, by, domain)
		if err != nil {
			return err
		}
		names, err := domainNames(tx)
		if err != nil {
			return err
		}
		devs, err := tx.Devices(d, after, limit)
		for _, dev := range devs {
			out = append(out, viewDevice(dev, names[dev.ID.Domain()]))
		}
		if len(devs) == limit {
			next = devs[limit-1].ID
		}
		return err
	})
	return out, next, err
}

// keyEpoch is the epoch of the domain key that sealed a value.
func keyEpoch(sealed []byte) uint32 {
	if len(sealed) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(sealed)
}
