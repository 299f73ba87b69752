package sqlite

import (
	"culvert/operator/registry"
	"culvert/protocol"
)

// LastRevocation is the highest number given.
func (t *Tx) LastRevocation() (uint64, error) {
	n, err := one(t, scanInt, "SELECT coalesce(max(number), 0) FROM revocations")
	return uint64(n), err
}

// AddRevocation appends to the numbered list.
func (t *Tx) AddRevocation(r registry.Revocation) error {
	return t.exec("INSERT INTO revocations (number, kind, owner, raw, time) VALUES (?, ?, ?, ?, ?)",
		int64(r.Number), r.Kind, r.Owner[:], r.Raw, millis(r.Time))
}

// Revocations are up to limit entries numbered higher than since, only the newest of each owner.
func (t *Tx) Revocations(since uint64, limit int) ([]registry.Revocation, error) {
	return all(t, func(s scanner) (r registry.Revocation, err error) {
		err = s.Scan(&r.Number, &r.Kind, fixed(r.Owner[:]), &r.Raw, stamp{&r.Time})
		return r, err
	}, `SELECT number, kind, owner, raw, time FROM revocations AS r WHERE number > ?
AND number = (SELECT max(number) FROM revocations WHERE owner = r.owner) ORDER BY number LIMIT ?`, int64(min(since, 1<<62)), limit)
}

// Audit appends a line to the audit log.
func (t *Tx) Audit(a registry.Audit) error {
	return t.exec("INSERT INTO audit (time, actor, action, subject, domain, detail) VALUES (?, ?, ?, ?, ?, ?)",
		millis(a.Time), a.Actor, a.Action, a.Subject, a.Domain, a.Detail)
}

// AuditLog is up to limit lines of a domain, 0 for all, numbered higher than after.
func (t *Tx) AuditLog(d protocol.Domain, after uint64, limit int) ([]registry.Audit, error) {
	return all(t, func(s scanner) (a registry.Audit, err error) {
		err = s.Scan(&a.Number, stamp{&a.Time}, &a.Actor, &a.Action, &a.Subject, &a.Domain, &a.Detail)
		return a, err
	}, "SELECT number, time, actor, action, subject, domain, detail FROM audit WHERE ? IN (0, domain) AND number > ? ORDER BY number LIMIT ?",
		d, int64(min(after, 1<<62)), limit)
}

// RevocationNumber says who holds a number; ErrNotFound where nobody does.
func (t *Tx) RevocationNumber(n uint64) (r registry.Revocation, err error) {
	return one(t, func(s scanner) (r registry.Revocation, err error) {
		err = s.Scan(&r.Number, &r.Kind, fixed(r.Owner[:]), &r.Raw, stamp{&r.Time})
		return r, err
	}, "SELECT number, kind, owner, raw, time FROM revocations WHERE number = ?", int64(n))
}

// LastRevocationOf is the newest entry about an owner; ErrNotFound where there is none.
func (t *Tx) LastRevocationOf(owner protocol.ID) (r registry.Revocation, err error) {
	return one(t, func(s scanner) (r registry.Revocation, err error) {
		err = s.Scan(&r.Number, &r.Kind, fixed(r.Owner[:]), &r.Raw, stamp{&r.Time})
		return r, err
	}, "SELECT number, kind, owner, raw, time FROM revocations WHERE owner = ? ORDER BY number DESC LIMIT 1", owner[:])
}

// ReplaceRevocation keeps an entry that was signed anew.
func (t *Tx) ReplaceRevocation(owner protocol.ID, number uint64, raw []byte) error {
	return t.exec("UPDATE revocations SET raw = ? WHERE owner = ? AND number = ?", raw, owner[:], int64(number))
}
