// Package registry holds the rows of the operator's registry: what is kept about domains, tokens, nodes, devices and
// super-nodes, apart from how a database stores it and from who may change it.
package registry

import (
	"net/netip"
	"time"

	"culvert/protocol"
	"culvert/protocol/key"
)

// Domain is one customer organisation.
type Domain struct {
	Number  protocol.Domain
	Name    string
	Secret  [32]byte
	Created time.Time
	Banned  bool
	Own     bool // the operator's own: under the policy "own" only its nodes become super-nodes
}

// String never shows the secret.
func (d Domain) String() string { return d.Name + " (" + d.Number.String() + ")" }

// GoString never shows the secret.
func (d Domain) GoString() string { return d.String() }

// DomainKey is one epoch of a domain's sealing key.
type DomainKey struct {
	Epoch uint32
	Key   [32]byte
	From  time.Time // seals from then on; handed out before
}

// String never shows the key.
func (k DomainKey) String() string { return "domain key (redacted)" }

// GoString never shows the key.
func (k DomainKey) GoString() string { return k.String() }

// Token is a join token as it is kept: the secret's hash only.
type Token struct {
	Hash    protocol.Hash
	Domain  protocol.Domain
	Groups  []string
	Uses    int
	Left    int
	Created time.Time
	Expires time.Time
	By      string
}

// Node is an enrolled node.
type Node struct {
	ID       protocol.ID
	Name     string
	Signing  key.Public
	Sealing  key.Public
	Groups   []string
	Token    protocol.Hash // that enrolled it last
	Enrolled time.Time
	Issued   time.Time // of its present certificate
	Expires  time.Time
	Revoked  time.Time // zero: not revoked
}

// Device is a registered end-device. A removed one is kept: its record's sequence must go on should it come back.
type Device struct {
	ID       protocol.ID
	Value    protocol.EndDeviceValue
	Former   string // the name before the last change of name: its lookup key still leads here
	KeyEpoch uint32 // of the domain key under which the record is sealed
	Created  time.Time
	Updated  time.Time
	Removed  bool
}

// SuperNodeState says where a candidate stands.
type SuperNodeState string

const (
	Waiting  SuperNodeState = "waiting"  // for the operator's approval
	Assigned SuperNodeState = "assigned" // on the map
	Silent   SuperNodeState = "silent"   // was on the map and did not answer; comes back by submitting again
	Barred   SuperNodeState = "barred"   // taken off by a person, a revocation or a ban
)

// SuperNode is a node that offered itself.
type SuperNode struct {
	ID        protocol.ID
	Signing   key.Public
	Sealing   key.Public
	Addresses []netip.AddrPort
	Capacity  uint64
	State     SuperNodeState
	Approved  bool
	Reason    string
	Submitted time.Time
	Answered  time.Time
	Isolated  time.Time // since when it is passed by; zero: it is not
	Stalls    int       // how often it did not finish what it was to take over
	Paused    time.Time // until when it is given nothing to take over
}

// Load is what a domain has.
type Load struct {
	Domain  protocol.Domain
	Nodes   uint64
	Devices uint64
}

// Record is the newest signed record of a table and owner.
type Record struct {
	Table    protocol.Table
	Owner    protocol.ID
	Epoch    uint64
	Sequence uint64
	Expires  time.Time
	Raw      []byte
	Changed  uint64 // place in the order of changes; set by the database
}

// Revocation is one entry of the numbered list.
type Revocation struct {
	Number uint64
	Kind   protocol.RevocationKind
	Owner  protocol.ID
	Raw    []byte
	Time   time.Time
}

// APIKey is a bearer key of the admin API as it is kept.
type APIKey struct {
	Hash    protocol.Hash
	Domain  protocol.Domain // 0: all domains
	Created time.Time
	By      string
}

// Audit is one line of the audit log.
type Audit struct {
	Number  uint64
	Time    time.Time
	Actor   string
	Action  string
	Subject string
	Domain  protocol.Domain // 0: none
	Detail  string
}
