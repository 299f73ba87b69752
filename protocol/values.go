package protocol

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"culvert/protocol/key"
)

// NodeValue is the value of a Node record: a node's certificate.
type NodeValue struct {
	Signing key.Public
	Sealing key.Public
	Groups  []string
}

// OperatorNodeValue is the value of an OperatorNode record, signed by the root.
type OperatorNodeValue struct {
	Signing   key.Public
	Sealing   key.Public
	Domains   []Domain // the domains it may sign for; empty: all
	Addresses []Addr   // where it answers messages
	HTTPS     string   // host:port of enrolment and renewal, and of streams of messages
	// Predecessor and PredecessorSignature are the old operator's consent to a handover within one epoch (ID-4).
	Predecessor          ID
	PredecessorSignature []byte
}

// SuperNodeValue is the value of a SuperNode record: one entry of the partition map.
type SuperNodeValue struct {
	Signing   key.Public
	Sealing   key.Public
	From, To  uint64 // the range of positions it serves, both inclusive; From > To where it serves none yet
	MapEpoch  uint64 // epoch of the map that placed it there
	Addresses []Addr // UDP and TCP; at ports 443 and 80 streams alone, see StreamsOnly
	// FillFrom, FillTo is the range that it is to serve next and takes over meanwhile; FillFrom > FillTo for none.
	FillFrom, FillTo uint64
	// Isolated: the operator has found it wanting. It keeps its range and is told of stores; readers pass it by.
	Isolated bool
}

// MapHeadValue is the value of the MapHead record: which SuperNode records make up the map.
type MapHeadValue struct {
	Epoch uint64
	Count uint64
	Hash  Hash // SHA-256 over the records' SHA-256 hashes in order of owner
}

// EndDeviceValue is the sealed value of an EndDevice record.
type EndDeviceValue struct {
	Name      string
	MAC       []byte     // 6 bytes, or none
	Address   netip.Addr // fixed address on another subnet than the workstations
	Node      ID         // the node on whose own machine it runs
	Ports     []Port
	Locations []Hash
	TLSPin    []byte   // SHA-256 of the device's certificate key (SPKI), or none
	Allow     []string // node groups that may open it; empty: every node of the domain
}

// Port is one port of an end-device.
type Port struct {
	Number   uint16
	Protocol Transport
	Allow    []string // narrows the device's groups for this port
}

// Transport is what runs over IP towards the device.
type Transport byte

const (
	TCP Transport = 6 // IANA protocol numbers
	UDP Transport = 17
)

// String is "tcp" or "udp".
func (t Transport) String() string {
	switch t {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	}
	return fmt.Sprintf("protocol %d", byte(t))
}

// String is 631 or 161/udp.
func (p Port) String() string { return PortString(p.Number, p.Protocol) }

// PortString writes a port as people do: 631, 161/udp.
func PortString(n uint16, t Transport) string {
	if t == TCP {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d/%s", n, t)
}

// NodeInfoValue is the sealed value of a NodeInfo record: where a node is now.
type NodeInfoValue struct {
	Name       string
	Tunnel     bool // it relays to devices at its locations
	Candidates []Candidate
	Homes      []ID   // super-nodes that can reach it by a session it keeps open
	Locations  []Hash // location IDs, readable within the domain only
	Version    string
}

// CandidateKind says how a candidate address came to be known. Unknown kinds are skipped by readers.
type CandidateKind byte

const (
	CandidateHost   CandidateKind = 1 // an address of one of its interfaces
	CandidateMapped CandidateKind = 2 // opened on the router by UPnP, NAT-PMP or PCP
	CandidateSeen   CandidateKind = 3 // as a super-node saw it
)

// Candidate is one address at which a node may be reached.
type Candidate struct {
	Kind     CandidateKind
	Protocol Transport
	Addr     Addr
	Priority uint32 // higher first
}

// RevocationKind says what a Revocation record ends.
type RevocationKind byte

const (
	RevokedNode   RevocationKind = 1
	BannedDomain  RevocationKind = 2
	UnbannedAgain RevocationKind = 3
)

// RevocationValue is the value of a Revocation record. Its owner is the node's ID, or the banned domain with a zero hash;
// Number is its place in the operator's list, which never rolls back and has no gaps.
type RevocationValue struct {
	Number uint64
	Kind   RevocationKind
}

// Limits of names, groups and lists, so that every record fits MaxRecord.
const (
	MaxName       = 63
	MaxGroups     = 8
	MaxGroup      = 24
	MaxPorts      = 16
	MaxLocations  = 6
	MaxCandidates = 8
	MaxHomes      = 3
	MaxAddresses  = 4
)

// CheckName accepts what may stand in front of ".culvert" as one DNS label and before "@" on the command line.
func CheckName(s string) error {
	if s == "" || len(s) > MaxName {
		return fmt.Errorf("name %q wants 1 to %d characters", clip(s), MaxName)
	}
	for _, r := range s {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_') {
			return fmt.Errorf("name %q: only letters, digits, - and _", clip(s))
		}
	}
	if s[0] == '-' {
		return fmt.Errorf("name %q must not start with -", clip(s))
	}
	return nil
}

// FoldName is the form under which names are looked up and compared.
func FoldName(s string) string { return strings.ToLower(s) }

// CheckGroups accepts a list of group names.
func CheckGroups(g []string) error {
	if len(g) > MaxGroups {
		return fmt.Errorf("%d groups, at most %d", len(g), MaxGroups)
	}
	for _, s := range g {
		if len(s) > MaxGroup {
			return fmt.Errorf("group %q is longer than %d", clip(s), MaxGroup)
		}
		if err := CheckName(s); err != nil {
			return fmt.Errorf("group: %w", err)
		}
	}
	return nil
}

// InGroups reports whether have and want share a group; an empty want admits everybody.
func InGroups(have, want []string) bool {
	return len(want) == 0 || slices.ContainsFunc(have, func(g string) bool { return slices.Contains(want, g) })
}
