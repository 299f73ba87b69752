package sqlite

import (
	"time"

	"culvert/operator/registry"
	"culvert/protocol"
)

const deviceColumns = "SELECT id, value, former, key_epoch, created, updated, removed FROM devices"

func scanDevice(s scanner) (d registry.Device, err error) {
	var value []byte
	if err = s.Scan(fixed(d.ID[:]), &value, &d.Former, &d.KeyEpoch, stamp{&d.Created}, stamp{&d.Updated}, &d.Removed); err != nil {
		return d, err
	}
	return d, protocol.Unmarshal(value, &d.Value)
}

// Device is the device of that ID, removed or not.
func (t *Tx) Device(id protocol.ID) (registry.Device, error) {
	return one(t, scanDevice, deviceColumns+" WHERE id = ?", id[:])
}

// DeviceByName is the device of that name, in any case of letters.
func (t *Tx) DeviceByName(d protocol.Domain, name string) (registry.Device, error) {
	return one(t, scanDevice, deviceColumns+" WHERE domain = ? AND folded = ? AND removed = 0", d, protocol.FoldName(name))
}

// DeviceByMAC is the device of that MAC.
func (t *Tx) DeviceByMAC(d protocol.Domain, mac []byte) (registry.Device, error) {
	return one(t, scanDevice, deviceColumns+" WHERE domain = ? AND mac = ? AND removed = 0", d, mac)
}

// Devices are up to limit devices of a domain, 0 for all, whose IDs follow after.
func (t *Tx) Devices(d protocol.Domain, after protocol.ID, limit int) ([]registry.Device, error) {
	return all(t, scanDevice, deviceColumns+" WHERE ? IN (0, domain) AND id > ? AND removed = 0 ORDER BY id LIMIT ?", d, after[:], limit)
}

// DevicesDue are up to limit devices whose records are sealed under an older epoch of their domain's key, or were signed before then.
func (t *Tx) DevicesDue(d protocol.Domain, epoch uint32, then time.Time, limit int) ([]registry.Device, error) {
	return all(t, scanDevice, deviceColumns+" WHERE domain = ? AND removed = 0 AND (key_epoch < ? OR updated < ?) LIMIT ?", d, epoch, millis(then), limit)
}

// PutDevice keeps a device, new or changed.
func (t *Tx) PutDevice(d registry.Device) error {
	value, err := protocol.Marshal(d.Value)
	if err != nil {
		return err
	}
	var mac []byte
	if len(d.Value.MAC) > 0 {
		mac = d.Value.MAC
	}
	return t.exec(`INSERT INTO devices (id, domain, folded, mac, value, former, key_epoch, created, updated, removed)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET folded = excluded.folded, mac = excluded.mac, value = excluded.value,
former = excluded.former, key_epoch = excluded.key_epoch, created = excluded.created, updated = excluded.updated, removed = excluded.removed`,
		d.ID[:], d.ID.Domain(), protocol.FoldName(d.Value.Name), mac, value, d.Former, d.KeyEpoch, millis(d.Created), millis(d.Updated), d.Removed)
}
