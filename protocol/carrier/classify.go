package carrier

// Kind is the protocol that a datagram on the shared UDP socket belongs to.
type Kind uint8

const (
	Other   Kind = iota // nobody's: dropped
	STUN                // RFC 5389: two zero bits, then a message type below 0x0400
	Culvert             // type byte of an envelope
	QUIC                // RFC 9000: the fixed bit is set (RFC 9443 leaves 0x40 and above)
)

// Classify tells by its first byte what a datagram is.
func Classify(first byte) Kind {
	switch {
	case first <= 3:
		return STUN
	case first <= 15:
		return Culvert
	case first >= 0x40:
		return QUIC
	}
	return Other
}

func (k Kind) String() string {
	switch k {
	case STUN:
		return "stun"
	case Culvert:
		return "culvert"
	case QUIC:
		return "quic"
	}
	return "other"
}
