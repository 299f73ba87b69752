package protocol

import (
	"errors"
	"fmt"
)

// MaxDatagram is the longest datagram of any form.
const MaxDatagram = 1200

// The first byte of a datagram, between STUN's (0 to 3) and QUIC's (64 and up).
const (
	TypeSigned byte = 4
	TypeSealed byte = 5
	TypeCookie byte = 6
	TypeHint   byte = 7
	TypePunch  byte = 8 // see punch.go
	TypeProbe  byte = 9 // see reach.go
	TypeBundle byte = 10
)

const (
	wireVersion = 1

	flagReply    = 1
	flagReadable = 2

	signedHead    = 92
	signatureSize = 64
	macSize       = 16
	signedTail    = signatureSize + 2*macSize
	payloadHead   = 2       // length of what follows, before the padding
	payloadSeal   = 32 + 16 // ephemeral key and tag

	sealedHead  = 20
	sealedInner = 10
	bundleEach  = 2 // length of a message in a bundle
	tagSize     = 16

	// HintSize is the length of a hint: shorter than any sealed message.
	HintSize = 20
	// CookieSize is the length of a cookie message: shorter than any signed message.
	CookieSize = 12 + 24 + 16 + 16

	// MinSigned and MinSealed are the shortest signed and sealed messages, MinBundle the shortest bundle: of two.
	MinSigned = signedHead + payloadHead + signedTail
	MinSealed = sealedHead + sealedInner + tagSize
	MinBundle = sealedHead + 2*(bundleEach+sealedInner) + tagSize

	// MaxSignedPayload fits one signed, sealed-to-the-receiver message; MaxReadablePayload one whose payload is readable;
	// MaxSessionPayload one message of a session.
	MaxSignedPayload   = MaxDatagram - signedOverhead
	MaxReadablePayload = MaxDatagram - readableOverhead
	MaxSessionPayload  = MaxDatagram - MinSealed

	readableOverhead = signedHead + payloadHead + signedTail
	signedOverhead   = readableOverhead + payloadSeal
)

// Why bytes are no message of ours, or one that is not believed.
var (
	ErrMalformed   = errors.New("protocol: malformed message")
	ErrOversized   = errors.New("protocol: message is longer than a datagram")
	ErrVersion     = errors.New("protocol: unknown wire version")
	ErrMAC         = errors.New("protocol: message authentication code does not fit the receiver")
	ErrSignature   = errors.New("protocol: message signature does not fit")
	ErrStale       = errors.New("protocol: message timestamp is too far from the receiver's clock")
	ErrReplayed    = errors.New("protocol: message was received before")
	ErrSenderTable = errors.New("protocol: too many live senders to keep replays apart")
	ErrOpen        = errors.New("protocol: payload does not open")
	ErrExhausted   = errors.New("protocol: session has sent all it may")
	ErrCertificate = errors.New("protocol: certificate does not fit the sender")
)

// AlwaysSigned reports whether messages of this command are never accepted from inside a session: what changes state
// elsewhere than in a record, and the opening of sessions itself.
func (c Command) AlwaysSigned() bool {
	switch c {
	case CmdOpenSession, CmdSessionOpened, CmdSubmitSuperNode, CmdTunnelRequest, CmdRelayJoin, CmdTransferPartition:
		return true
	}
	return false
}

// AnsweredToRevoked reports whether this is asked signed, so that also a node that has been revoked, to which nobody opens a session, is
// answered: it must learn why.
func (c Command) AnsweredToRevoked() bool { return c == CmdGetRevocations }

// SignedSize is the least length of a signed request of this command. Requests are padded so that their answer is never the
// longer message: those for lists and records fill a datagram, the others leave room for a Pong, a status or a refusal.
func (c Command) SignedSize() int {
	switch c {
	case CmdGetNode, CmdGetOperatorNodes, CmdGetSuperNodes, CmdGetNodeInfo, CmdGetTunnelNodes, CmdGetEndDevices,
		CmdGetRevocations, CmdDigest, CmdRepair, CmdOpenSession, CmdForwardedTunnelRequest:
		return MaxDatagram
	case CmdTunnelRequest:
		return 400 // TunnelOpened with four candidates, and small enough to be forwarded with a Node record
	case CmdSubmitSuperNode, CmdTransferPartition:
		return 512 // SuperNodeSubmitted with a reason in words; PartitionTransferred with all its IDs
	}
	return 276 // Pong over IPv6
}

// Fits reports whether a reply of this command with n bytes of payload may answer v.
func (v *Verified) Fits(c Command, n int) bool {
	limit := v.ReplyLimit
	if v.Session == 0 && v.Command.Readable() && !c.Readable() {
		limit -= payloadSeal
	}
	return n <= limit
}

// replyLimit is how long a reply's payload may be so that the reply is no longer than a request of n bytes.
func replyLimit(request Command, n int) int {
	if request.Readable() {
		return n - readableOverhead // Node and SessionOpened are readable like what they answer
	}
	return max(n-signedOverhead, 0)
}

func malformed(what string) error { return fmt.Errorf("%w: %s", ErrMalformed, what) }
