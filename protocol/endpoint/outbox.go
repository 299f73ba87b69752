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
//
// Messages of one session to one address share datagrams (protocol's bundles) as long as they are put in before Packets is called,
// which seals them: so whoever puts a batch of answers or questions into one outbox sends as few datagrams as they fit into, and
// nothing waits for anything.
type Outbox struct {
	packets []Packet
	packing []packing // beside packets
	sealed  int       // of packets, those that are finished
	drops   *counters // of the endpoint whose messages are being packed
	buf     []byte

	first openSlot
	more  *[openSlots]openSlot // made for the second datagram: many an outbox is for one
	round uint32               // slots of earlier rounds are stale
}

// packing is a datagram that still takes messages; without a session it is finished.
type packing struct {
	s    *session
	p    protocol.Packing
	full bool // it has room for a whole datagram; most hold one short message, and batches of such should stay in the cache
}

// openSlot tells the datagram of a session that has room. A session that is put out of its slot by another begins a new datagram.
type openSlot struct {
	s     *session
	round uint32
	at    int32
}

const (
	openSlots = 64
	// slot is room for a datagram, or for one that is being packed.
	slot      = max(protocol.PackingRoom, protocol.MaxDatagram+16)
	maxGrowth = 256 * slot
)

// Reset forgets the packets and keeps the memory.
func (o *Outbox) Reset() {
	clear(o.packing) // sessions end, and the outbox may rest
	o.packets, o.packing, o.buf, o.sealed = o.packets[:0], o.packing[:0], o.buf[:0], 0
	o.round++
}

// Len is how many datagrams there are by now.
func (o *Outbox) Len() int { return len(o.packets) }

// Add puts in a datagram that the caller made.
func (o *Outbox) Add(to netip.AddrPort, data []byte) {
	o.packets = append(o.packets, Packet{to, data})
	o.packing = append(o.packing, packing{})
}

// Packets finishes all datagrams. They stay until Reset; what is put in later comes behind them.
func (o *Outbox) Packets() []Packet {
	kept := o.sealed
	for i := o.sealed; i < len(o.packets); i++ {
		k, p := &o.packing[i], o.packets[i]
		if k.s != nil {
			b, err := k.p.Seal(k.s.crypt())
			if err != nil {
				o.drops.drop(Spent)
				continue
			}
			p.Data, k.s = b, nil
		}
		o.packets[kept] = p
		kept++
	}
	clear(o.packing[kept:])
	o.packets, o.packing = o.packets[:kept], o.packing[:kept]
	o.sealed = kept
	o.round++
	return o.packets
}

// room is an empty slice with space for a datagram. Packets already collected keep the memory they point to.
func (o *Outbox) room() []byte {
	if cap(o.buf)-len(o.buf) < slot {
		o.buf = make([]byte, 0, min(max(2*cap(o.buf), slot), maxGrowth))
	}
	return o.buf[len(o.buf):len(o.buf):cap(o.buf)]
}

// take is n bytes of memory, empty.
func (o *Outbox) take(n int) []byte {
	room := o.room()[:0:n]
	o.buf = o.buf[:len(o.buf)+n]
	return room
}

// put takes in a datagram that was built in room.
func (o *Outbox) put(to netip.AddrPort, b []byte) {
	o.buf = o.buf[:len(o.buf)+len(b)]
	o.Add(to, b[:len(b):len(b)])
}

// slot is where the open datagram of a session is noted.
func (o *Outbox) slot(s *session) *openSlot {
	if len(o.packets) == 0 || o.first.s == s {
		return &o.first
	}
	if o.more == nil {
		o.more = new([openSlots]openSlot)
	}
	return &o.more[s.Index%openSlots]
}

// pack puts a message of a session into a datagram of it to this address, and reports false for one that fits in none.
func (o *Outbox) pack(e *Endpoint, s *session, to netip.AddrPort, c protocol.Command, reply bool, id uint64, payload []byte) bool {
	at := o.slot(s)
	if at.s == s && at.round == o.round && o.packets[at.at].Addr == to {
		k := &o.packing[at.at]
		if !k.full && k.p.Fits(len(payload)) {
			k.p.Move(o.take(slot))
			k.full = true
		}
		if k.p.Add(c, reply, id, payload) {
			return true
		}
	}
	if len(payload) > protocol.MaxSessionPayload {
		return false
	}
	var p protocol.Packing
	p.Begin(o.take(protocol.PackingSize(len(payload))))
	p.Add(c, reply, id, payload)
	*at = openSlot{s, o.round, int32(len(o.packets))}
	o.packets = append(o.packets, Packet{Addr: to})
	o.packing = append(o.packing, packing{s: s, p: p})
	o.drops = &e.drops
	return true
}
