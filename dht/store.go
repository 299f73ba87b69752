package dht

import (
	"context"
	"errors"
	"math"
	"time"

	"culvert/protocol"
)

var (
	// ErrNotFound marks a record that is not held, or, from a lookup, that every member of its range says does not exist.
	ErrNotFound = errors.New("dht: not found")
	// ErrReadOnly marks a store that cannot write at present (disk full, file system read-only); reads go on.
	ErrReadOnly = errors.New("dht: store is read-only at present")
	// ErrClosed marks a store or client after Close.
	ErrClosed = errors.New("dht: closed")
)

// Version orders the records of one owner in one table.
type Version struct{ Epoch, Sequence uint64 }

// VersionOf is r's version.
func VersionOf(r *protocol.Record) Version { return Version{r.Epoch, r.Sequence} }

// Less reports whether v is older than o.
func (v Version) Less(o Version) bool {
	return v.Epoch < o.Epoch || v.Epoch == o.Epoch && v.Sequence < o.Sequence
}

// Before is the highest version below v: the mark of what may come back itself, but nothing older.
func (v Version) Before() Version {
	switch {
	case v.Sequence > 0:
		v.Sequence--
	case v.Epoch > 0:
		v = Version{v.Epoch - 1, math.MaxInt64}
	}
	return v
}

// Outcome says what became of one record of a Put.
type Outcome byte

const (
	Stored     Outcome = iota // it is the newest and durable
	Same                      // these very bytes were held already, durably
	Superseded                // a newer one is held, or was before it expired
	Conflict                  // other bytes of the same version are held; they stay
	NoRoom                    // it is the first of its owner, and the store holds as many as it may
)

// Result is a Put's answer for one record.
type Result struct {
	Outcome Outcome
	Held    Version // of what is now held, or was; none where there was no room
}

// By says how a Query selects.
type By byte

const (
	ByKey      By = iota // stored under Key: as its owner or by a lookup key
	ByDomain             // owned in Key's domain
	ByPosition           // with a key at a position in From…To
	ByNumber             // revocations of Key's domain with a number above Since, in order of number
	ByOwner              // the one that Key owns
)

// Query selects current records of one table. All but ByNumber answer in order of owner and go on after After.
type Query struct {
	Table    protocol.Table
	By       By
	Key      protocol.ID
	From, To uint64
	After    protocol.ID
	Since    uint64
	Now      time.Time // records expired then are left out
}

// Key is what a Query ByOwner or ByKey looks for.
type Key struct {
	Table protocol.Table
	By    By
	ID    protocol.ID
}

// Item is one selected record. Raw is as it was signed; nobody changes it.
type Item struct {
	Owner protocol.ID
	Raw   []byte
}

// Held names one version of one record of a table.
type Held struct {
	Owner   protocol.ID
	Version Version
}

// Counts is what a store holds of one domain, kept up to date as records come and go.
type Counts struct {
	Records int // all tables
	Nodes   int // Node records that are no tombstones
	Devices int // EndDevice records that are no tombstones
	Bytes   int // of the records as they were signed
}

// Store keeps the newest record of each (table, owner), under all of its keys. It trusts its caller: signatures, ranges and
// quotas are checked before a Put. What it promises:
//
//   - Put answers after one durable commit, which concurrent Puts share.
//   - A newer (epoch, sequence) replaces an older one; an older one never comes back, not after expiry, a tombstone's
//     expiry or a restart: a high-water mark outlives the record.
//   - Bytes that changed on disk are never given out.
//   - An index of all that is held (about 400 bytes a record), of which the number has a limit, and the records' bytes up to a budget are in memory; Cached says
//     whether an answer needs the disk. A Get or a Select from memory allocates nothing.
//
// Safe for concurrent use.
type Store interface {
	// Put stores records, in order; ctx bounds the wait, not the write.
	Put(ctx context.Context, records []*protocol.Record) ([]Result, error)
	// Get returns the current record of owner, or ErrNotFound.
	Get(t protocol.Table, owner protocol.ID, now time.Time) ([]byte, error)
	// Select fills dst and returns how many there were; fewer than len(dst) means there are no more.
	Select(q Query, dst []Item) (int, error)
	// Cached reports whether Select(q) for n records, or Get (ByOwner), is answered from memory.
	Cached(q Query, n int) bool
	// Whole reports whether that is so for every query at present.
	Whole() bool
	// Load brings the first n records of each of these into memory, with few reads for all of them: what is asked for next is
	// answered from there, unless others have taken the room meanwhile. It may bring less; a read does without it.
	Load(qs []Query, n int)
	// Prefetch fetches what is in memory under these keys, many at once, for the reads that follow at once. It changes nothing.
	Prefetch(keys []Key)
	// Version is the high-water mark: the newest version ever stored, also of what has expired since.
	Version(t protocol.Table, owner protocol.ID) (Version, bool, error)
	// Digest counts and sums what Select(ByPosition) would give, without leaving out what has expired and is not collected.
	Digest(t protocol.Table, from, to uint64) protocol.DigestPart
	// Counts are of one domain.
	Counts(d protocol.Domain) Counts
	// Expire removes what has expired, keeps its high-water marks, and returns how many records went.
	Expire(ctx context.Context, now time.Time) (int, error)
	// Discard removes records of one table that are still of these versions, in one commit, and returns how many went. What is
	// older never comes back; the same version may, since the range may be given back.
	Discard(ctx context.Context, t protocol.Table, records []Held) (int, error)
	// NextSequence returns a sequence above every earlier one of this owner and table and at least floor; it is durable
	// before it is returned, so that no two records are ever signed with the same.
	NextSequence(ctx context.Context, t protocol.Table, owner protocol.ID, floor uint64) (uint64, error)
	// Setting returns a small value kept beside the records, nil if there is none.
	Setting(name string) ([]byte, error)
	// SetSetting replaces one, durably.
	SetSetting(ctx context.Context, name string, value []byte) error
	// Health is nil, or why writing fails at present.
	Health() error
	// Close ends the store after what was accepted is written. It may be called twice.
	Close() error
}

// MarkKeep is for how long past its record's expiry a NodeInfo's high-water mark is kept: far more than any record that was
// signed before it can live (MaxLife). Marks of what an operator signs are kept for good.
const MarkKeep = time.Hour
