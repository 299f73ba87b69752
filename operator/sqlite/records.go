package sqlite

import (
	"time"

	"culvert/operator/registry"
	"culvert/protocol"
)

const recordColumns = "SELECT kind, owner, epoch, sequence, expires, raw, changed FROM records"

func scanRecord(s scanner) (r registry.Record, err error) {
	err = s.Scan(&r.Table, fixed(r.Owner[:]), &r.Epoch, &r.Sequence, stamp{&r.Expires}, &r.Raw, &r.Changed)
	return r, err
}

// Record is the newest record of table and owner, withdrawn ones too: their sequence counts.
func (t *Tx) Record(table protocol.Table, owner protocol.ID) (registry.Record, error) {
	return one(t, scanRecord, recordColumns+" WHERE kind = ? AND owner = ?", table, owner[:])
}

// PutRecord keeps a record in place of its older version and puts it in the outbox.
func (t *Tx) PutRecord(r registry.Record) error {
	return t.exec(`INSERT INTO records (kind, owner, epoch, sequence, expires, raw, state, changed)
VALUES (?, ?, ?, ?, ?, ?, 0, (SELECT coalesce(max(changed), 0) + 1 FROM records)) ON CONFLICT (kind, owner) DO UPDATE SET
epoch = excluded.epoch, sequence = excluded.sequence, expires = excluded.expires, raw = excluded.raw, state = 0, changed = excluded.changed`,
		r.Table, r.Owner[:], int64(r.Epoch), int64(r.Sequence), millis(r.Expires), r.Raw)
}

// Outbox is up to limit records that are not confirmed, in the order in which they were made, changed after that place.
func (t *Tx) Outbox(after uint64, limit int) ([]registry.Record, error) {
	return all(t, scanRecord, recordColumns+" WHERE state = 0 AND changed > ? ORDER BY changed LIMIT ?", int64(after), limit)
}

// OutboxSize counts the records of a domain, 0 for all, that are not confirmed.
func (t *Tx) OutboxSize(d protocol.Domain) (int64, error) {
	return one(t, scanInt, "SELECT count(*) FROM records WHERE state = 0"+inDomain, d, d)
}

// Confirm takes a record out of the outbox, if that version is still the newest.
func (t *Tx) Confirm(r registry.Record) error {
	return t.exec("UPDATE records SET state = 1 WHERE kind = ? AND owner = ? AND epoch = ? AND sequence = ? AND state = 0",
		r.Table, r.Owner[:], int64(r.Epoch), int64(r.Sequence))
}

// Requeue puts the records of a table back in the outbox, of one domain or of all (0), and counts them.
func (t *Tx) Requeue(table protocol.Table, d protocol.Domain, now time.Time) (int64, error) {
	if err := t.exec("UPDATE records SET state = 0 WHERE kind = ? AND state = 1 AND expires > ?"+inDomain, table, millis(now), d, d); err != nil {
		return 0, err
	}
	return one(t, scanInt, "SELECT count(*) FROM records WHERE kind = ? AND state = 0"+inDomain, table, d, d)
}

// inDomain compares the owner's first four bytes; two arguments.
const inDomain = " AND (? = 0 OR hex(substr(owner, 1, 4)) = printf('%08X', ?))"

// Withdraw ends the publishing of a record and keeps its sequence.
func (t *Tx) Withdraw(table protocol.Table, owner protocol.ID) error {
	return t.exec("UPDATE records SET state = 2 WHERE kind = ? AND owner = ?", table, owner[:])
}

// Records are up to limit records of a table that hold at now, whose owners follow after.
func (t *Tx) Records(table protocol.Table, after protocol.ID, now time.Time, limit int) ([]registry.Record, error) {
	return all(t, scanRecord, recordColumns+" WHERE kind = ? AND owner > ? AND expires > ? AND state < 2 ORDER BY owner LIMIT ?",
		table, after[:], millis(now), limit)
}

// Expiring are up to limit records of a table that expire before then, soonest first.
func (t *Tx) Expiring(table protocol.Table, before time.Time, limit int) ([]registry.Record, error) {
	return all(t, scanRecord, recordColumns+" WHERE kind = ? AND expires < ? AND state < 2 ORDER BY expires LIMIT ?", table, millis(before), limit)
}
