package portmap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// NAT-PMP, RFC 6886.

const (
	pmpAddress = 0
	pmpUDP     = 1
	pmpTCP     = 2
	pmpReply   = 128
)

// errForeign is an answer to another question, or none: it is passed over.
var errForeign = errors.New("not the answer to this question")

// pmpAnswer is an answer of either kind.
type pmpAnswer struct {
	epoch    uint32
	external netip.Addr // pmpAddress
	outside  uint16     // pmpUDP, pmpTCP
	life     uint32
}

// appendPMPMap asks for a mapping; outside 0 leaves the port to the router, life 0 ends the mapping.
func appendPMPMap(b []byte, op byte, inside, outside uint16, life uint32) []byte {
	b = append(b, 0, op, 0, 0)
	b = binary.BigEndian.AppendUint16(b, inside)
	b = binary.BigEndian.AppendUint16(b, outside)
	return binary.BigEndian.AppendUint32(b, life)
}

// parsePMP reads the answer to a question of op about the port inside.
func parsePMP(b []byte, op byte, inside uint16) (a pmpAnswer, err error) {
	if len(b) < 8 || b[0] != 0 || b[1] != op+pmpReply {
		return a, errForeign
	}
	a.epoch = binary.BigEndian.Uint32(b[4:])
	if code := binary.BigEndian.Uint16(b[2:]); code != 0 {
		err = &refusedError{int(code), pmpResult(code)}
		if code == 3 { // it has no external address
			err = fmt.Errorf("%w: %w", errUnusable, err)
		}
		return a, err
	}
	if op == pmpAddress {
		if len(b) != 12 {
			return a, errForeign
		}
		a.external = netip.AddrFrom4([4]byte(b[8:12]))
		return a, nil
	}
	if len(b) != 16 || binary.BigEndian.Uint16(b[8:]) != inside {
		return a, errForeign
	}
	a.outside, a.life = binary.BigEndian.Uint16(b[10:]), binary.BigEndian.Uint32(b[12:])
	return a, nil
}

func pmpResult(code uint16) string {
	switch code {
	case 1:
		return "unsupported version"
	case 2:
		return "not authorised"
	case 3:
		return "network failure"
	case 4:
		return "out of resources"
	case 5:
		return "unsupported opcode"
	}
	return "unknown result"
}
