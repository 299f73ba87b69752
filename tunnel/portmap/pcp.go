package portmap

import (
	"encoding/binary"
	"net/netip"
)

// PCP, RFC 6887.

const (
	pcpVersion  = 2
	pcpAnnounce = 0
	pcpMap      = 1
	pcpReply    = 128

	pcpHeader  = 24
	pcpMapSize = pcpHeader + 36
	pcpMax     = 1100
)

// pcpMapping is what a MAP request asks for, and what its answer says.
type pcpMapping struct {
	nonce    [12]byte
	proto    byte // IANA: 6 TCP, 17 UDP
	inside   uint16
	outside  uint16
	external netip.Addr
	life     uint32
}

// appendPCPHeader is a whole ANNOUNCE request, and the head of the others.
func appendPCPHeader(b []byte, op byte, life uint32, own netip.Addr) []byte {
	b = append(b, pcpVersion, op, 0, 0)
	b = binary.BigEndian.AppendUint32(b, life)
	a := own.As16()
	return append(b, a[:]...)
}

// appendPCPMap asks for a mapping of own; life 0 ends it.
func appendPCPMap(b []byte, own netip.Addr, m pcpMapping) []byte {
	b = appendPCPHeader(b, pcpMap, m.life, own)
	b = append(b, m.nonce[:]...)
	b = append(b, m.proto, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, m.inside)
	b = binary.BigEndian.AppendUint16(b, m.outside)
	suggested := m.external
	if !suggested.IsValid() { // any, of the family of own
		if suggested = netip.IPv6Unspecified(); own.Is4() {
			suggested = netip.IPv4Unspecified()
		}
	}
	a := suggested.As16()
	return append(b, a[:]...)
}

// parsePCP reads the head of an answer. A router that knows NAT-PMP only answers in its form that it does not know the version.
func parsePCP(b []byte, op byte) (epoch, life uint32, err error) {
	if len(b) >= 8 && b[0] == 0 && b[1] >= pmpReply && binary.BigEndian.Uint16(b[2:]) == 1 {
		return 0, 0, &refusedError{1, pcpResult(1)}
	}
	if len(b) < pcpHeader || len(b) > pcpMax || len(b)%4 != 0 || b[0] != pcpVersion || b[1] != op+pcpReply {
		return 0, 0, errForeign
	}
	life, epoch = binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:])
	if b[3] != 0 {
		return epoch, life, &refusedError{int(b[3]), pcpResult(b[3])}
	}
	return epoch, life, nil
}

// parsePCPMap reads the answer to asked.
func parsePCPMap(b []byte, asked pcpMapping) (m pcpMapping, epoch uint32, err error) {
	epoch, life, err := parsePCP(b, pcpMap)
	if len(b) < pcpMapSize {
		if err == nil {
			err = errForeign
		}
		return m, epoch, err // an error may come without the rest
	}
	copy(m.nonce[:], b[24:36])
	m.proto, m.inside = b[36], binary.BigEndian.Uint16(b[40:])
	if m.nonce != asked.nonce || m.proto != asked.proto || m.inside != asked.inside {
		return pcpMapping{}, 0, errForeign
	}
	m.outside, m.life = binary.BigEndian.Uint16(b[42:]), life
	m.external = netip.AddrFrom16([16]byte(b[44:60])).Unmap()
	return m, epoch, err
}

func pcpResult(code byte) string {
	names := [...]string{"success", "unsupported version", "not authorised", "malformed request", "unsupported opcode", "unsupported option",
		"malformed option", "network failure", "no resources", "unsupported protocol", "quota exceeded", "cannot provide external",
		"address mismatch", "too many remote peers"}
	if int(code) < len(names) {
		return names[code]
	}
	return "unknown result"
}
