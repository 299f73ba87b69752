package dht

import "sync/atomic"

// reason is why a message was dropped or a record kept out; each is counted once.
type reason int

const (
	none reason = iota
	dropMalformed
	dropReply
	dropUncertified
	dropRevoked
	dropForeignDomain
	dropOutside
	dropNotReady
	dropReplyLimit
	dropNotMember
	dropStore
	putStored
	putSame
	putSuperseded
	putConflict
	putRefusedTable
	putRefusedKey
	putRefusedExpiry
	putRefusedRevoked
	putRefusedSigner
	putRefusedQuota
	putRefusedRate
	repairStored
	repairRefused
	dropped
	reasons
)

var reasonNames = [reasons]string{
	"", "drop_malformed", "drop_reply", "drop_uncertified", "drop_revoked", "drop_foreign_domain", "drop_outside_range", "drop_not_ready",
	"drop_reply_limit", "drop_not_a_member", "drop_store", "put_stored", "put_same", "put_superseded", "put_conflict", "put_refused_table",
	"put_refused_key", "put_refused_expiry", "put_refused_revoked", "put_refused_signer", "put_refused_quota", "put_refused_rate",
	"repair_stored", "repair_refused", "dropped_outside_range",
}

type counters [reasons]atomic.Uint64

func (c *counters) add(r reason) { c[r].Add(1) }

func (c *counters) snapshot() map[string]uint64 {
	m := make(map[string]uint64, reasons)
	for r := none + 1; r < reasons; r++ {
		m[reasonNames[r]] = c[r].Load()
	}
	return m
}
