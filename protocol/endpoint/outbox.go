package endpoint

import (
	"net/netip"

	"culvert/protocol"
)

// Packet is one datagram to write. Data is valid until the Outbox is reset.
type Packet struct {
	Addr netip.AddrPort
	Data []byte
}

// Outbox collects what is to be written. It is reused: a loop resets it after each batch. Not for concurrent use.
type Outbox struct {
	Packets []Packet

	buf []byte
}

const (
	// slot is room for a datagram and the nonce that AppendSealed parks behind it.
	slot      = protocol.MaxDatagram + 16
	maxGrowth = 256 * slot
)

// Reset forgets the packets and keeps the memory.
func (o *Outbox) Reset() { o.Packets, o.buf = o.Packets[:0], o.buf[:0] }

// room is an empty slice with space for a datagram. Packets already collected keep the memory they point to.
func (o *Outbox) room() []byte {
	if cap(o.buf)-len(o.buf) < slot {
		o.buf = make([]byte, 0, min(max(2*cap(o.buf), 4*slot), maxGrowth))
	}
	return o.buf[len(o.buf):len(o.buf):cap(o.buf)]
}

// put takes in a datagram that was built in room.
func (o *Outbox) put(to netip.AddrPort, b []byte) {
	o.buf = o.buf[:len(o.buf)+len(b)]
	o.Packets = append(o.Packets, Packet{to, b[:len(b):len(b)]})
}
