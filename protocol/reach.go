package protocol

// ProbeReach asks a super-node whether it can reach the asker at Addr, whose host must be the one that the question comes
// from: nobody has it write to, or dial, anybody else. UDP: it sends one reach probe there. TCP: it dials, and the
// handshake must prove the asker's signing key.
type ProbeReach struct {
	Addr     Addr
	Protocol Transport
	Other    bool     // UDP: from another port than the one that this question went to
	Nonce    [16]byte // echoed in the probe
}

// ReachProbed answers ProbeReach. UDP: StatusOK says that a probe was sent. TCP: StatusOK says that the asker was reached.
type ReachProbed struct{ Status Status }

// Command implements Payload.
func (ProbeReach) Command() Command { return CmdProbeReach }

// Command implements Payload.
func (ReachProbed) Command() Command { return CmdReachProbed }

// ReachProbeSize is the length of a reach probe: 9, 1, 0, 0 ‖ nonce 16.
const ReachProbeSize = 4 + 16

// AppendReachProbe writes a reach probe.
func AppendReachProbe(b []byte, nonce [16]byte) []byte {
	return append(append(b, TypeProbe, wireVersion, 0, 0), nonce[:]...)
}

// ParseReachProbe reads what AppendReachProbe wrote.
func ParseReachProbe(b []byte) (nonce [16]byte, err error) {
	if len(b) != ReachProbeSize || b[0] != TypeProbe || b[2] != 0 || b[3] != 0 {
		return nonce, malformed("reach probe")
	}
	if b[1] != wireVersion {
		return nonce, ErrVersion
	}
	return [16]byte(b[4:]), nil
}
