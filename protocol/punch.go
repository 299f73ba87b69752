package protocol

import (
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
)

// PunchSize is the length of a punch packet.
const PunchSize = punchBody + macSize

const (
	punchBody = 28

	punchAsk    = 1
	punchChosen = 2
)

// PunchPacket is what two nodes that know one Token send each other through their NATs, before QUIC, until a pair of
// addresses is found that carries both ways. It names no address: each side learns those from the packets themselves.
type PunchPacket struct {
	Serial uint64 // a challenge: it must not be foreseeable, and it must tell its sender where to it was sent
	Echo   uint64 // the Serial last heard from the address that this goes to; 0: nothing heard from there
	Ask    bool   // wants an answer at once; an answer never has it, so that no two packets chase each other
	Chosen bool   // requester: use this path; tunnel-node: it will
}

// PunchEnd is one end's keys of one attempt: it writes the packets of its own direction and reads those of the other, so
// that a packet thrown back at its sender is nobody's. It is safe for concurrent use.
type PunchEnd struct {
	sendKey, recvKey   []byte
	sendPair, recvPair uint64
}

// NewPunchEnd derives the keys of the requester's end, or of the tunnel-node's, from the Token of the TunnelRequest.
func NewPunchEnd(token Hash, requester, tunnelNode ID, isRequester bool) (*PunchEnd, error) {
	salt := append(append(make([]byte, 0, 2*IDSize), requester[:]...), tunnelNode[:]...)
	b, err := hkdf.Key(sha256.New, token[:], salt, "culvert 1 punch", 80)
	if err != nil {
		return nil, fmt.Errorf("protocol: derive punch keys: %w", err)
	}
	e := &PunchEnd{b[:32], b[32:64], binary.BigEndian.Uint64(b[64:]), binary.BigEndian.Uint64(b[72:])}
	if !isRequester {
		e.sendKey, e.recvKey, e.sendPair, e.recvPair = e.recvKey, e.sendKey, e.recvPair, e.sendPair
	}
	return e, nil
}

// Pair is the number in the packets that this end receives.
func (e *PunchEnd) Pair() uint64 { return e.recvPair }

// String never shows a key.
func (e *PunchEnd) String() string { return fmt.Sprintf("punch %016x (keys redacted)", e.recvPair) }

// GoString never shows a key.
func (e *PunchEnd) GoString() string { return e.String() }

// Append writes a packet to the other end.
func (e *PunchEnd) Append(dst []byte, p PunchPacket) []byte {
	start := len(dst)
	var flags byte
	if p.Ask {
		flags |= punchAsk
	}
	if p.Chosen {
		flags |= punchChosen
	}
	dst = append(dst, TypePunch, wireVersion, flags, 0)
	dst = binary.BigEndian.AppendUint64(dst, e.sendPair)
	dst = binary.BigEndian.AppendUint64(dst, p.Serial)
	dst = binary.BigEndian.AppendUint64(dst, p.Echo)
	m := mac(e.sendKey, dst[start:])
	return append(dst, m[:]...)
}

// Parse reads a packet of the other end.
func (e *PunchEnd) Parse(b []byte) (p PunchPacket, err error) {
	pair, err := PunchPair(b)
	if err != nil {
		return p, err
	}
	m := mac(e.recvKey, b[:punchBody])
	if pair != e.recvPair || subtle.ConstantTimeCompare(m[:], b[punchBody:]) != 1 {
		return p, ErrMAC
	}
	return PunchPacket{
		Serial: binary.BigEndian.Uint64(b[12:]), Echo: binary.BigEndian.Uint64(b[20:]),
		Ask: b[2]&punchAsk != 0, Chosen: b[2]&punchChosen != 0,
	}, nil
}

// PunchPair is the number by which a receiver finds the attempt that a packet is for. Anyone can write it.
func PunchPair(b []byte) (uint64, error) {
	if len(b) != PunchSize || b[0] != TypePunch || b[2]&^(punchAsk|punchChosen) != 0 || b[3] != 0 {
		return 0, malformed("punch packet")
	}
	if b[1] != wireVersion {
		return 0, ErrVersion
	}
	return binary.BigEndian.Uint64(b[4:]), nil
}
