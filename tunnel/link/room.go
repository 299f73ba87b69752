package link

import (
	"sync"
	"time"
)

// rooms are the sizes of the buffers that hold one record with its header and tag: how much of a busy direction's bytes is
// sealed at once. A direction starts with a small one.
var rooms = [...]int{1 << 10, 16 << 10, 64 << 10, recordSent}

const (
	roomIdle = 0 // kept by sources that cannot wait without a buffer
	roomLink = 2 // the largest that is of use on a link
	roomMost = len(rooms) - 1

	// A record that takes longer than slowRecord to go away is too long: what waits behind it, and whoever waits for all of
	// it at the other end, would feel it. Up to quickRecord it may become longer.
	quickRecord = 4 * time.Millisecond
	slowRecord  = 16 * time.Millisecond
)

// pools lend rooms to all links: a buffer that one has no use for is another's. They hold none for long.
var pools [len(rooms)]sync.Pool

// room is a borrowed buffer.
type room struct {
	b    []byte
	size int8 // its place in rooms; -1 for one that no pool takes back
}

func takeRoom(size int) *room {
	if r, ok := pools[size].Get().(*room); ok {
		return r
	}
	return &room{b: make([]byte, recordHeader+rooms[size]+recordTag), size: int8(size)}
}

// roomFor is a room that holds n bytes, at most recordMax.
func roomFor(n int) *room {
	for i, size := range rooms {
		if n <= recordHeader+size+recordTag {
			return takeRoom(i)
		}
	}
	return &room{b: make([]byte, n), size: -1}
}

func (r *room) give() {
	if r != nil && r.size >= 0 {
		pools[r.size].Put(r)
	}
}

// outgoing is where the bytes of a direction are read into and sealed. It chooses how many at once.
type outgoing struct {
	size, least int
	room        *room
}

// Lend implements rawtcp.Lender.
func (o *outgoing) Lend() []byte {
	if o.room == nil {
		o.room = takeRoom(o.size)
	}
	return o.room.b[recordHeader : len(o.room.b)-recordTag]
}

// Return implements rawtcp.Lender.
func (o *outgoing) Return() {
	o.room.give()
	o.room = nil
}

// sent chooses the next size after n bytes have taken so long to send: as many as come at once, as long as they leave at once.
func (o *outgoing) sent(n, most int, took time.Duration) {
	full := n == rooms[o.size]
	switch {
	case o.size > o.least && (n < rooms[o.size]/4 || o.size > 1 && took > slowRecord):
		o.size--
	case o.size < most && full && took < quickRecord:
		o.size++
	default:
		return
	}
	o.Return()
}
