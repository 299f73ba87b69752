package link

import (
	"encoding/binary"
	"errors"
	"fmt"

	"culvert/protocol"
)

// FrameType says what a frame is. Numbers are never reused.
type FrameType byte

const (
	FrameHello    FrameType = 0x01
	FrameOpen     FrameType = 0x02
	FrameOpened   FrameType = 0x03
	FrameRefused  FrameType = 0x04
	FrameData     FrameType = 0x05
	FrameWindow   FrameType = 0x06
	FrameFin      FrameType = 0x07
	FrameReset    FrameType = 0x08
	FramePing     FrameType = 0x09
	FramePong     FrameType = 0x0a
	FrameBulk     FrameType = 0x0b
	FrameGoAway   FrameType = 0x0c
	FrameDatagram FrameType = 0x0d
	FrameMeet     FrameType = 0x0e
	FrameNews     FrameType = 0x0f
	FrameResume   FrameType = 0x10 // reserved
	FrameResumed  FrameType = 0x11 // reserved
)

const (
	headerSize = 28
	// maxData lets a full DATA frame fill one TLS record.
	maxData = 16384 - headerSize
	// maxText bounds the words that explain a reason.
	maxText = 256
	// firstWindow is what may follow an OPEN before anything comes back.
	firstWindow = 64 << 10
)

// ErrFrame marks bytes that are no frame of this protocol; the link that brought them ends.
var ErrFrame = errors.New("link: malformed frame")

// FlowID names a flow for ever: link number ‖ counter.
type FlowID [16]byte

func newFlowID(number [8]byte, counter uint64) FlowID {
	var id FlowID
	copy(id[:], number[:])
	binary.BigEndian.PutUint64(id[8:], counter)
	return id
}

// Link is the number of the link that the flow belongs to.
func (id FlowID) Link() [8]byte { return [8]byte(id[:8]) }

// Counter is the flow's place among the link's flows.
func (id FlowID) Counter() uint64 { return binary.BigEndian.Uint64(id[8:]) }

// Header is the fixed part of a frame.
type Header struct {
	Type   FrameType
	Length int
	Flow   FlowID
	Offset uint64
}

// AppendHeader lays out the header of a frame.
func AppendHeader(b []byte, h Header) []byte {
	b = append(b, byte(h.Type), 0)
	b = binary.BigEndian.AppendUint16(b, uint16(h.Length))
	b = append(b, h.Flow[:]...)
	return binary.BigEndian.AppendUint64(b, h.Offset)
}

// ParseHeader reads a header and refuses lengths that its type does not have, so that nothing is read for naught.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < headerSize {
		return Header{}, fmt.Errorf("%w: %d bytes of header", ErrFrame, len(b))
	}
	h := Header{
		Type: FrameType(b[0]), Length: int(binary.BigEndian.Uint16(b[2:])),
		Flow: FlowID(b[4:20]), Offset: binary.BigEndian.Uint64(b[20:]),
	}
	if h.Type == 0 || h.Offset > 1<<62 {
		return Header{}, fmt.Errorf("%w: type or offset", ErrFrame)
	}
	if h.Type == FrameData && (h.Length == 0 || h.Length > maxData) || h.Type == FrameDatagram && h.Length > maxData {
		return Header{}, fmt.Errorf("%w: %d bytes of data", ErrFrame, h.Length)
	}
	return h, nil
}

// Role is which side of the tunnels a node is on in a link.
type Role byte

const (
	RoleUser   Role = 1 // asks for devices
	RoleTunnel Role = 2 // reaches them
)

// Hello is the first frame each way.
type Hello struct {
	Role    Role
	Request protocol.Hash // SHA-256 of the signed TunnelRequest on which the link rests
	Node    []byte        // the sender's Node record
}

const helloVersion = 1

// Append lays out the frame's data.
func (h Hello) Append(b []byte) []byte {
	b = append(b, helloVersion, byte(h.Role))
	b = append(b, h.Request[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(h.Node)))
	return append(b, h.Node...)
}

// ParseHello reads the frame's data; Node aliases b.
func ParseHello(b []byte) (Hello, error) {
	if len(b) < 36 || b[0] != helloVersion || b[1] != byte(RoleUser) && b[1] != byte(RoleTunnel) {
		return Hello{}, fmt.Errorf("%w: hello", ErrFrame)
	}
	n := int(binary.BigEndian.Uint16(b[34:]))
	if n > protocol.MaxRecord || len(b) < 36+n {
		return Hello{}, fmt.Errorf("%w: hello's certificate", ErrFrame)
	}
	return Hello{Role: Role(b[1]), Request: protocol.Hash(b[2:34]), Node: b[36 : 36+n : 36+n]}, nil
}

// Open asks for a flow to a device's port.
type Open struct {
	Device   protocol.ID
	Port     uint16
	Protocol protocol.Transport
}

const openSize = protocol.IDSize + 3

// Append lays out the frame's data.
func (o Open) Append(b []byte) []byte {
	b = append(b, o.Device[:]...)
	b = binary.BigEndian.AppendUint16(b, o.Port)
	return append(b, byte(o.Protocol))
}

// ParseOpen reads the frame's data.
func ParseOpen(b []byte) (Open, error) {
	if len(b) < openSize {
		return Open{}, fmt.Errorf("%w: open", ErrFrame)
	}
	return Open{
		Device: protocol.ID(b[:36]), Port: binary.BigEndian.Uint16(b[36:]), Protocol: protocol.Transport(b[38]),
	}, nil
}
