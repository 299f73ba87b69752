package protocol

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"culvert/protocol/key"
)

// Table says what kind of record it is. Numbers are never reused.
type Table byte

const (
	TableNode         Table = 1
	TableNodeInfo     Table = 2
	TableSuperNode    Table = 3
	TableOperatorNode Table = 4
	TableEndDevice    Table = 5
	TableRevocation   Table = 6
	TableMapHead      Table = 7
	// TableEnd is one past the last table.
	TableEnd Table = 8
)

// Everywhere reports whether the table's records are on every super-node, whatever its range.
func (t Table) Everywhere() bool {
	return t == TableSuperNode || t == TableOperatorNode || t == TableRevocation || t == TableMapHead
}

// String is the table's name in the requirements.
func (t Table) String() string {
	if t == 0 || t >= TableEnd {
		return fmt.Sprintf("table %d", byte(t))
	}
	return [...]string{"", "Node", "NodeInfo", "SuperNode", "OperatorNode", "EndDevice", "Revocation", "MapHead"}[t]
}

const (
	// MaxRecord is the longest record: it must ride in one signed Put.
	MaxRecord = 896
	// MaxLookups is how many lookup keys a record may carry.
	MaxLookups = 8

	recordVersion = 1
	recordHead    = 108
	minRecord     = recordHead + 2 + 64
	flagTombstone = 1
	recordContext = "culvert 1 record\x00"
)

var (
	// ErrRecord marks bytes that are no record.
	ErrRecord = errors.New("protocol: malformed record")
	// ErrRecordSignature marks a record that its signer did not sign.
	ErrRecordSignature = errors.New("protocol: record signature does not fit")
	// ErrRecordSigner marks a record signed by someone who may not write it.
	ErrRecordSigner = errors.New("protocol: record signer may not write it")
	// ErrRecordExpired marks a record past its expiry.
	ErrRecordExpired = errors.New("protocol: record expired")
)

// Record is the parsed view of a record's signed bytes. Parsing proves its shape only; Trust proves who wrote it.
type Record struct {
	Table     Table
	Tombstone bool
	Owner     ID
	Signer    ID
	Epoch     uint64
	Sequence  uint64
	Issued    time.Time // millisecond precision
	Expires   time.Time
	Lookups   []Hash // further keys, in the owner's domain, under which it may be stored
	Value     []byte // MessagePack, or sealed under the domain key (NodeInfo, EndDevice)

	raw []byte
}

// ParseRecord reads a record and aliases b, which must not change afterwards.
func ParseRecord(b []byte) (*Record, error) {
	if len(b) > MaxRecord || len(b) < minRecord {
		return nil, fmt.Errorf("%w: %d bytes", ErrRecord, len(b))
	}
	if b[0] != recordVersion || b[1] == 0 || Table(b[1]) >= TableEnd || b[2]&^flagTombstone != 0 || b[3] > MaxLookups {
		return nil, fmt.Errorf("%w: version, table, flags or keys", ErrRecord)
	}
	n := int(b[3])
	head := recordHead + 32*n
	if len(b) < head+2+64 {
		return nil, fmt.Errorf("%w: truncated", ErrRecord)
	}
	size := int(binary.BigEndian.Uint16(b[head:]))
	if len(b) != head+2+size+64 {
		return nil, fmt.Errorf("%w: length", ErrRecord)
	}
	issued, expires := int64(binary.BigEndian.Uint64(b[92:])), int64(binary.BigEndian.Uint64(b[100:]))
	if issued < 0 || expires < issued || expires > maxMillis {
		return nil, fmt.Errorf("%w: times", ErrRecord)
	}
	r := &Record{
		Table: Table(b[1]), Tombstone: b[2]&flagTombstone != 0,
		Owner: ID(b[4:40]), Signer: ID(b[40:76]),
		Epoch: binary.BigEndian.Uint64(b[76:]), Sequence: binary.BigEndian.Uint64(b[84:]),
		Issued: time.UnixMilli(issued), Expires: time.UnixMilli(expires),
		Value: b[head+2 : head+2+size : head+2+size], raw: b[:len(b):len(b)],
	}
	if n > 0 {
		r.Lookups = make([]Hash, n)
		for i := range r.Lookups {
			r.Lookups[i] = Hash(b[recordHead+32*i:])
		}
	}
	if r.Epoch > maxSequence || r.Sequence > maxSequence {
		return nil, fmt.Errorf("%w: epoch or sequence", ErrRecord) // must fit SQLite's signed integers
	}
	return r, nil
}

const (
	maxMillis   = 1 << 50
	maxSequence = 1 << 62
)

// SignRecord lays r out and signs it; r.Signer must be signer's ID. The result is what is stored and sent for ever after.
func SignRecord(r *Record, signer *key.Signing) ([]byte, error) {
	if r.Signer.Hash() != signer.Public().Hash() {
		return nil, fmt.Errorf("%w: signer field is another key", ErrRecordSigner)
	}
	if len(r.Lookups) > MaxLookups {
		return nil, fmt.Errorf("%w: %d lookup keys, at most %d", ErrRecord, len(r.Lookups), MaxLookups)
	}
	size := recordHead + 32*len(r.Lookups) + 2 + len(r.Value) + 64
	if size > MaxRecord {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrRecord, size, MaxRecord)
	}
	b := make([]byte, 0, size)
	var flags byte
	if r.Tombstone {
		flags = flagTombstone
	}
	b = append(b, recordVersion, byte(r.Table), flags, byte(len(r.Lookups)))
	b = append(b, r.Owner[:]...)
	b = append(b, r.Signer[:]...)
	b = binary.BigEndian.AppendUint64(b, r.Epoch)
	b = binary.BigEndian.AppendUint64(b, r.Sequence)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Issued.UnixMilli()))
	b = binary.BigEndian.AppendUint64(b, uint64(r.Expires.UnixMilli()))
	for _, h := range r.Lookups {
		b = append(b, h[:]...)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.Value)))
	b = append(b, r.Value...)
	b = append(b, signer.Sign(append([]byte(recordContext), b...))...)
	if _, err := ParseRecord(b); err != nil {
		return nil, err
	}
	return b, nil
}

// Raw is the record as its signer signed it.
func (r *Record) Raw() []byte { return r.raw }

// VerifySignature checks that p signed the record and that p is the signer it names.
func (r *Record) VerifySignature(p key.Public) error {
	if r.Signer.Hash() != Hash(p.Hash()) {
		return fmt.Errorf("%w: signer field is another key", ErrRecordSigner)
	}
	n := len(r.raw) - 64
	if n < 0 || !p.Verify(append([]byte(recordContext), r.raw[:n]...), r.raw[n:]) {
		return ErrRecordSignature
	}
	return nil
}

// Supersedes reports whether r replaces o: a higher (epoch, sequence) of the same table and owner.
func (r *Record) Supersedes(o *Record) bool {
	if r.Epoch != o.Epoch {
		return r.Epoch > o.Epoch
	}
	return r.Sequence > o.Sequence
}

// Conflicts reports whether two records claim the same version with other bytes: the signer, or who holds its key, lies.
func (r *Record) Conflicts(o *Record) bool {
	return r.Epoch == o.Epoch && r.Sequence == o.Sequence && !bytes.Equal(r.raw, o.raw)
}

// Expired reports whether the record's time is over.
func (r *Record) Expired(now time.Time) bool { return !now.Before(r.Expires) }

// Keys are all the DHT keys under which the record may be stored: its owner and its lookup keys.
func (r *Record) Keys() []ID {
	k := make([]ID, 1, 1+len(r.Lookups))
	k[0] = r.Owner
	for _, h := range r.Lookups {
		k = append(k, NewID(r.Owner.Domain(), h))
	}
	return k
}

// HasKey reports whether the record may be stored under k.
func (r *Record) HasKey(k ID) bool {
	if k == r.Owner {
		return true
	}
	if k.Domain() != r.Owner.Domain() {
		return false
	}
	h := k.Hash()
	for _, l := range r.Lookups {
		if l == h {
			return true
		}
	}
	return false
}
