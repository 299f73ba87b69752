package protocol

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// next draws the counter of one more datagram.
func (s *Session) next() (uint64, error) {
	counter := s.sent.Add(1)
	if counter > maxPackets {
		s.sent.Store(maxPackets)
		return 0, ErrExhausted
	}
	return counter, nil
}

func appendSealedHead(dst []byte, t byte, index, counter uint64) []byte {
	dst = append(dst, t, wireVersion, 0, 0)
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(dst, index), counter)
}

func appendInner(dst []byte, c Command, reply bool, id uint64) []byte {
	flags := byte(0)
	if reply {
		flags = flagReply
	}
	return binary.BigEndian.AppendUint64(append(dst, byte(c), flags), id)
}

// seal seals in place the datagram that begins at start, whose head and plaintext are there.
func (s *Session) seal(dst []byte, start int) []byte {
	end, text := len(dst), start+sealedHead
	// The nonce stands behind the tag's place: there it needs no memory of its own.
	var room [tagSize + nonceSize]byte
	dst = append(dst, room[:]...)
	nonce := dst[end+tagSize:]
	copy(nonce[4:], dst[start+12:text])
	s.send.Seal(dst[text:text], nonce, dst[text:end], dst[start:text])
	return dst[:end+tagSize]
}

// ParseSealed checks the shape of a sealed message or bundle and tells which session it claims.
func ParseSealed(b []byte) (index, counter uint64, err error) {
	switch {
	case len(b) > MaxDatagram:
		return 0, 0, ErrOversized
	case len(b) < MinSealed || b[0] != TypeSealed && b[0] != TypeBundle || b[0] == TypeBundle && len(b) < MinBundle:
		return 0, 0, malformed("length or type")
	case b[1] != wireVersion:
		return 0, 0, ErrVersion
	case b[2] != 0 || b[3] != 0:
		return 0, 0, malformed("reserved bytes")
	}
	return binary.BigEndian.Uint64(b[4:]), binary.BigEndian.Uint64(b[12:]), nil
}

// Open opens a sealed message or bundle in place and makes v its first message: b is overwritten and v.Payload aliases it. The
// window moves only after the tag was right. An error is ErrWindow, ErrOpen or one of ParseSealed's. It allocates nothing.
func (s *Session) Open(v *Verified, b []byte, from netip.AddrPort) error {
	if err := s.Unseal(v, b, from); err != nil {
		return err
	}
	_, err := v.Next()
	return err
}

// Unseal is Open but for the messages, which v.Next brings one by one.
func (s *Session) Unseal(v *Verified, b []byte, from netip.AddrPort) error {
	v.rest = nil
	index, counter, err := ParseSealed(b)
	if err != nil {
		return err
	}
	if index != s.Index {
		return ErrOpen
	}
	if counter > maxPackets || !s.fits(counter) {
		return ErrWindow
	}
	nonce := v.nonce[:]
	clear(nonce[:4])
	binary.BigEndian.PutUint64(nonce[4:], counter)
	p, err := s.recv.Open(b[sealedHead:sealedHead], nonce, b[sealedHead:], b[:sealedHead])
	if err != nil {
		return ErrOpen
	}
	if !s.take(counter) {
		return ErrWindow // another goroutine opened the same packet meanwhile
	}
	if v.bundled = b[0] == TypeBundle; v.bundled && !wholeBundle(p) {
		return errBundle
	}
	v.rest = p
	v.Receiver, v.Sender, v.From, v.Session, v.Raw, v.Node = s.Local, s.sender, from, s.Index, nil, s.Peer
	v.ReplyLimit = MaxSessionPayload
	return nil
}

// Made once: these errors come by the datagram, and a datagram must cost little.
var (
	errBundle  = malformed("bundle")
	errCommand = malformed("command or flags")
)

// wholeBundle reports whether p is two messages or more and nothing else.
func wholeBundle(p []byte) bool {
	n := 0
	for ; len(p) > 0; n++ {
		if len(p) < bundleEach+sealedInner {
			return false
		}
		size := int(binary.BigEndian.Uint16(p))
		if size < sealedInner || size > len(p)-bundleEach {
			return false
		}
		p = p[bundleEach+size:]
	}
	return n >= 2
}

// Next makes v the next message of the datagram that was opened into it; more is false where there is none. An error is that
// message's alone.
func (v *Verified) Next() (more bool, err error) {
	p := v.rest
	if len(p) == 0 {
		return false, nil
	}
	v.rest = nil
	if v.bundled {
		size := bundleEach + int(binary.BigEndian.Uint16(p))
		p, v.rest = p[bundleEach:size], p[size:]
	}
	c := Command(p[0])
	if c == 0 || c >= CmdEnd || p[1]&^flagReply != 0 {
		return true, errCommand
	}
	v.Command, v.Reply = c, p[1] == flagReply
	v.MessageID, v.Payload = binary.BigEndian.Uint64(p[2:]), p[sealedInner:]
	return true, nil
}

const (
	nonceSize = 12

	// PackingRoom is how much memory a full Packing needs: two bytes more than a datagram, and the nonce.
	PackingRoom = bundleEach + MaxDatagram + nonceSize
)

// PackingSize is how much memory a Packing needs for one message with n bytes of payload.
func PackingSize(n int) int { return bundleEach + MinSealed + n + nonceSize }

// Packing is a datagram of a session while messages are put into it: one becomes a sealed message, several a bundle. The first
// message stands where a bundle wants it, so that another one moves nothing:
//
//	bundle   head 20 ‖ length 2 ‖ message ‖ length 2 ‖ message …
//	alone    2 unused ‖ head 20 ‖ message
type Packing struct {
	b []byte
	n int
}

// Begin empties p; it is built in the memory of room, of PackingRoom bytes or of PackingSize for what is put in.
func (p *Packing) Begin(room []byte) { p.b, p.n = room[:sealedHead], 0 }

// Move goes on in the memory of room.
func (p *Packing) Move(room []byte) { p.b = append(room[:0], p.b...) }

// Fits reports whether the datagram has a place for a message with n bytes of payload.
func (p *Packing) Fits(n int) bool {
	size := len(p.b) + bundleEach + sealedInner + n
	if p.n == 0 {
		size -= bundleEach
	}
	return size <= MaxDatagram-tagSize
}

// Add puts a message in, or reports that it has no place there, or its memory none for it. One that has no place in an empty
// datagram has none anywhere.
func (p *Packing) Add(c Command, reply bool, id uint64, payload []byte) bool {
	if !p.Fits(len(payload)) || len(p.b)+bundleEach+sealedInner+len(payload)+tagSize+nonceSize > cap(p.b) {
		return false
	}
	p.b = binary.BigEndian.AppendUint16(p.b, uint16(sealedInner+len(payload)))
	p.b = append(appendInner(p.b, c, reply, id), payload...)
	p.n++
	return true
}

// Seal makes the datagram, in the memory that was given to Begin.
func (p *Packing) Seal(s *Session) ([]byte, error) {
	if p.n == 0 {
		return nil, errEmpty
	}
	counter, err := s.next()
	if err != nil {
		return nil, err
	}
	start, t := bundleEach, TypeSealed
	if p.n > 1 {
		start, t = 0, TypeBundle
	}
	appendSealedHead(p.b[:start], t, s.Remote, counter)
	return s.seal(p.b, start)[start:], nil
}

var errEmpty = errors.New("protocol: datagram without a message")
