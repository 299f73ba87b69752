package carrier

import (
	"encoding/binary"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Segmentation (Linux 4.18 and 5.0): the kernel takes several datagrams to one address as one piece with the length of each, and
// hands over as one piece those that came in a row. It is used where the socket has it and switched off by itself where a device
// or route refuses it.

const (
	// joinedBytes is the most in one piece: what an IP packet may hold, less its heads.
	joinedBytes = 65_000
	// joinedSize is the longest datagram that is joined with others: it passes every link of IPv6 whole, as a segment must.
	joinedSize = 1_232
	// joinedRefusals in a row end joining; one by a device that cannot do it ends it at once.
	joinedRefusals = 8

	// gatherPieces are read in one call. Each may be the longest there is; pages of it that were never written cost nothing.
	gatherPieces = 16
	gatherSize   = 1 << 16
)

// control is room for one control message: struct cmsghdr and an int.
type control [unix.SizeofCmsghdr + 8]byte

// put writes a control message with the length of the segments and returns its length. n is no longer than 16 bits.
func (c *control) put(h *unix.Msghdr, n int) {
	head := (*unix.Cmsghdr)(unsafe.Pointer(c))
	head.Level, head.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
	head.SetLen(unix.CmsgLen(2))
	binary.NativeEndian.PutUint16(c[unix.CmsgLen(0):], uint16(n))
	h.Control = &c[0]
	h.SetControllen(unix.CmsgSpace(2))
}

// segments reads from a control message of length n into how long segments a piece falls; 0: it is one datagram.
func (c *control) segments(n int) int {
	if n < unix.CmsgLen(4) {
		return 0
	}
	head := (*unix.Cmsghdr)(unsafe.Pointer(c))
	if head.Level != unix.IPPROTO_UDP || head.Type != unix.UDP_GRO {
		return 0
	}
	return int(int32(binary.NativeEndian.Uint32(c[unix.CmsgLen(0):])))
}

// segment switches segmentation on where the socket has it, or off.
func (m *mmsg) segment(on bool) {
	v := 0
	if on {
		v = 1
	}
	var sends, gathers bool
	err := m.raw.Control(func(fd uintptr) {
		_, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT)
		sends = on && err == nil
		gathers = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_GRO, v) == nil && on
	})
	m.join = joiner{on: sends && err == nil}
	m.gather = nil
	if gathers && err == nil {
		m.gather = new(gather)
	}
	for i := range m.in.hdrs {
		m.in.hdrs[i].hdr.Control = nil
		m.in.hdrs[i].hdr.SetControllen(0)
	}
}

// joiner lays datagrams of one batch together that may be one piece: to one address, of one length, the last perhaps shorter.
type joiner struct {
	on       bool
	refusals int // in a row

	v     *vector
	iovs  int            // used
	first [batchSize]int // by header, its first vector

	// Of the piece under way, which is the last header:
	to     netip.AddrPort
	size   int
	bytes  int
	closed bool // nothing may follow
}

func (j *joiner) begin(v *vector) {
	j.v, j.iovs, j.closed = v, 0, true
	v.off, v.end = 0, 0
}

// joins reports whether a datagram of n bytes may be part of the piece under way.
func (j *joiner) joins(to netip.AddrPort, n int) bool {
	return !j.closed && n <= j.size && n > 0 && j.bytes+n <= joinedBytes && j.to == to
}

// open begins a piece with b. Its address stands in the header already.
func (j *joiner) open(to netip.AddrPort, b []byte) {
	h := &j.v.hdrs[j.v.end].hdr
	h.Iov = &j.v.iovs[j.iovs]
	h.SetIovlen(1)
	h.Control = nil
	h.SetControllen(0)
	j.first[j.v.end] = j.iovs
	j.v.point(j.iovs, b)
	j.iovs++
	j.v.end++
	j.to, j.size, j.bytes, j.closed = to, len(b), len(b), !j.on || len(b) == 0 || len(b) > joinedSize
}

func (j *joiner) add(b []byte) {
	i := j.v.end - 1
	h := &j.v.hdrs[i].hdr
	j.v.point(j.iovs, b)
	j.iovs++
	if h.Control == nil {
		j.v.ctrls[i].put(h, j.size)
	}
	h.SetIovlen(j.iovs - j.first[i])
	j.bytes += len(b)
	j.closed = len(b) < j.size
}

// count is how many datagrams a header has.
func (j *joiner) count(header int) int { return int(j.v.hdrs[header].hdr.Iovlen) }

// sent notes that the kernel took a header, and returns how many datagrams that were.
func (j *joiner) sent(header int) int {
	n := j.count(header)
	if n > 1 {
		j.refusals = 0
	}
	return n
}

func (j *joiner) refused(errno syscall.Errno) {
	if j.refusals++; errno == unix.EIO || j.refusals >= joinedRefusals {
		j.on = false
	}
}

// gather holds what one call has read until it was handed out: a piece may be more datagrams than the caller has room for.
type gather struct {
	room []byte // gatherPieces of gatherSize; made by the first read
	next int    // piece to be handed out
	off  int    // in it
	n    int    // pieces
}

// aim points the vector at the pieces, all of which have been handed out.
func (g *gather) aim(v *vector) int {
	if g.room == nil {
		g.room = make([]byte, gatherPieces*gatherSize)
	}
	for i := range gatherPieces {
		v.point(i, g.piece(i))
		h := &v.hdrs[i].hdr
		h.Namelen = sockaddrLen
		h.Control = &v.ctrls[i][0]
		h.SetControllen(len(v.ctrls[i]))
	}
	return gatherPieces
}

func (g *gather) piece(i int) []byte { return g.room[i*gatherSize : (i+1)*gatherSize] }

// take notes that so many pieces were read.
func (g *gather) take(n int) { g.next, g.off, g.n = 0, 0, n }

// hand fills ms with what was read, and counts what does not fit.
func (g *gather) hand(v *vector, ms []Message, drops *udpDrops) (kept int) {
	for ; g.next < g.n; g.next, g.off = g.next+1, 0 {
		h := &v.hdrs[g.next]
		addr, ok := v.names[g.next].decode(h.hdr.Namelen)
		if !ok || h.hdr.Flags&unix.MSG_TRUNC != 0 {
			drops.oversize.Add(1)
			continue
		}
		total := min(int(h.len), gatherSize)
		size := v.ctrls[g.next].segments(int(h.hdr.Controllen))
		if size <= 0 {
			size = max(total, 1)
		}
		for piece := g.piece(g.next); g.off < total || g.off == 0; g.off += size {
			b := piece[min(g.off, total):min(g.off+size, total)]
			if kept == len(ms) {
				return kept
			}
			m := &ms[kept]
			if len(b) > len(m.Buf) {
				drops.oversize.Add(1)
				continue
			}
			m.Addr, m.N = addr, copy(m.Buf, b)
			kept++
		}
	}
	return kept
}
