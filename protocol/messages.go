package protocol

import "culvert/protocol/key"

// Payload is the content of one kind of message, encoded as a MessagePack array of its fields in order.
type Payload interface{ Command() Command }

// The families of messages have a file each; this one holds the interface and what they share.

// Status answers a request in a word; 0 is success.
type Status byte

const (
	StatusOK          Status = 0
	StatusSuperseded  Status = 1 // a newer record is held; nothing was lost
	StatusRange       Status = 2 // taken by an operator, though it is others' range
	StatusOwner       Status = 3 // signer may not write it
	StatusQuota       Status = 4
	StatusExpired     Status = 5
	StatusConflict    Status = 6 // same version, other bytes
	StatusRevoked     Status = 7
	StatusNotAllowed  Status = 8 // group, port or consent
	StatusUnknown     Status = 9 // no such device, node or request here
	StatusUnreachable Status = 10
	StatusLimit       Status = 11
	StatusInternal    Status = 12
	StatusPolicy      Status = 13
	StatusConsent     Status = 14 // the agent's own consent list does not name it
	StatusNotFound    Status = 15 // the device was not found on the LAN
	StatusPort        Status = 16 // the port is not registered
	StatusTarget      Status = 17 // an address that no tunnel may reach
)

// String says what happened, for people.
func (s Status) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return "unknown status"
}

var statusNames = [...]string{
	"done", "a newer record is held", "not in this range", "the signer may not write it", "over its quota", "expired",
	"another record of the same version is held", "revoked", "not allowed for this node's groups", "unknown here",
	"unreachable", "limit reached", "internal error", "against this node's policy",
	"the agent's consent list does not name it", "device not found on the LAN", "port is not registered",
	"an address that no tunnel may reach",
}

// Key is re-exported for payloads that carry public keys.
type Key = key.Public

// RecordList is the answer to every query for records: what fitted, and where to go on.
type RecordList struct {
	Records [][]byte
	Next    ID // ask again after this ID; zero at the end
}
