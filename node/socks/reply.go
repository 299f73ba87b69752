package socks

import "fmt"

// Reply is the second byte of the server's last answer (RFC 1928, section 6).
type Reply byte

// Replies of RFC 1928.
const (
	Succeeded          Reply = 0
	Failed             Reply = 1
	NotAllowed         Reply = 2
	NetworkUnreachable Reply = 3
	HostUnreachable    Reply = 4
	Refused            Reply = 5
	Expired            Reply = 6
	NoCommand          Reply = 7
	NoAddressType      Reply = 8
)

// String is the reply in the RFC's words.
func (r Reply) String() string {
	names := [...]string{"succeeded", "general failure", "not allowed by ruleset", "network unreachable", "host unreachable",
		"connection refused", "TTL expired", "command not supported", "address type not supported"}
	if int(r) < len(names) {
		return names[r]
	}
	return fmt.Sprintf("reply %d", byte(r))
}

// message is the answer with the address that says nothing.
func (r Reply) message() []byte { return []byte{version, byte(r), 0, typeIPv4, 0, 0, 0, 0, 0, 0} }
