package protocol

import (
	"encoding/binary"
	"fmt"
)

// Messages of the query path encode and parse themselves: the same MessagePack, without reflection or allocation. A test
// holds them to the bytes that the library would write.

// Appender is a Payload with an encoding of its own.
type Appender interface{ AppendPayload(b []byte) []byte }

// AppendPayload appends p's encoding to b.
func AppendPayload(b []byte, p Payload) ([]byte, error) {
	if a, ok := p.(Appender); ok {
		return a.AppendPayload(b), nil
	}
	m, err := Marshal(p)
	return append(b, m...), err
}

// ParsePayload reads b into p, with the library unless the message parses itself: those with lists of structs do, since the
// library would allocate many times their length. Query messages have ParseX functions, whose results alias b.
func ParsePayload[P Payload](b []byte) (p P, err error) {
	if s, ok := any(&p).(selfParser); ok {
		r := reader{b: b}
		s.parse(&r)
		return p, r.done()
	}
	err = Unmarshal(b, &p)
	return p, err
}

type selfParser interface{ parse(r *reader) }

func appendArray(b []byte, n int) []byte {
	if n < 16 {
		return append(b, 0x90|byte(n))
	}
	return append(b, 0xdc, byte(n>>8), byte(n))
}

func appendUint(b []byte, v uint64) []byte {
	switch {
	case v < 0x80:
		return append(b, byte(v))
	case v <= 0xff:
		return append(b, 0xcc, byte(v))
	case v <= 0xffff:
		return binary.BigEndian.AppendUint16(append(b, 0xcd), uint16(v))
	case v <= 0xffffffff:
		return binary.BigEndian.AppendUint32(append(b, 0xce), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xcf), v)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 0xc3)
	}
	return append(b, 0xc2)
}

func appendBytes(b, v []byte) []byte {
	if len(v) <= 0xff {
		b = append(b, 0xc4, byte(len(v)))
	} else {
		b = append(b, 0xc5, byte(len(v)>>8), byte(len(v)))
	}
	return append(b, v...)
}

func appendID(b []byte, id ID) []byte { return appendBytes(b, id[:]) }

func appendAddr(b []byte, a Addr) []byte {
	var buf [18]byte
	return appendBytes(b, a.appendBinary(buf[:0]))
}

// reader parses one payload; the first violation sticks and everything after reads as zero.
type reader struct {
	b   []byte
	bad bool
	// extra counts elements that a later version appended to the outermost array.
	extra int
}

func (r *reader) next(n int) []byte {
	if r.bad || n > len(r.b) {
		r.bad = true
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) byte1() byte {
	if v := r.next(1); v != nil {
		return v[0]
	}
	return 0
}

func (r *reader) length() int {
	c := r.byte1()
	n := 0
	switch {
	case c >= 0x90 && c <= 0x9f:
		n = int(c & 0x0f)
	case c == 0xdc:
		if v := r.next(2); v != nil {
			n = int(binary.BigEndian.Uint16(v))
		}
	default:
		r.bad = true
	}
	if n > maxElements || n > len(r.b) {
		r.bad = true
		return 0
	}
	return n
}

func (r *reader) array(want int) {
	if len(r.b) > MaxPayload {
		r.bad = true
	}
	n := r.length()
	if n < want {
		r.bad = true
	}
	r.extra = n - want
}

// inner opens an array inside the outermost one; close skips what a later version appended to it.
func (r *reader) inner(want int) (extra int) {
	n := r.length()
	if n < want {
		r.bad = true
	}
	return n - want
}

func (r *reader) close(extra int) {
	for range extra {
		rest, ok := skipValue(r.b, 2)
		if r.bad || !ok {
			r.bad = true
			return
		}
		r.b = rest
	}
}

// list is the length of a list of at most limit elements; nil is an empty one.
func (r *reader) list(limit int) int {
	if len(r.b) > 0 && r.b[0] == 0xc0 {
		r.b = r.b[1:]
		return 0
	}
	n := r.length()
	if n > limit {
		r.bad = true
	}
	if r.bad {
		return 0
	}
	return n
}

func (r *reader) uint() uint64 {
	c := r.byte1()
	switch {
	case c < 0x80:
		return uint64(c)
	case c == 0xcc:
		return uint64(r.byte1())
	case c == 0xcd:
		if v := r.next(2); v != nil {
			return uint64(binary.BigEndian.Uint16(v))
		}
	case c == 0xce:
		if v := r.next(4); v != nil {
			return uint64(binary.BigEndian.Uint32(v))
		}
	case c == 0xcf:
		if v := r.next(8); v != nil {
			return binary.BigEndian.Uint64(v)
		}
	}
	r.bad = true
	return 0
}

func (r *reader) byte() byte { return byte(r.below(0xff)) }

// below is an unsigned integer up to limit.
func (r *reader) below(limit uint64) uint64 {
	v := r.uint()
	if v > limit {
		r.bad = true
		return 0
	}
	return v
}

func (r *reader) addr() (a Addr) {
	if a.parse(r.bytes()) != nil {
		r.bad = true
	}
	return a
}

func (r *reader) bool() bool {
	switch r.byte1() {
	case 0xc3:
		return true
	case 0xc2:
		return false
	}
	r.bad = true
	return false
}

func (r *reader) bytes() []byte {
	switch r.byte1() {
	case 0xc4:
		return r.next(int(r.byte1()))
	case 0xc5:
		if v := r.next(2); v != nil {
			return r.next(int(binary.BigEndian.Uint16(v)))
		}
	case 0xc0:
		return nil
	}
	r.bad = true
	return nil
}

func (r *reader) id() (id ID) {
	if v := r.bytes(); len(v) == IDSize {
		return ID(v)
	}
	r.bad = true
	return id
}

func (r *reader) hash() (h Hash) {
	if v := r.bytes(); len(v) == len(h) {
		return Hash(v)
	}
	r.bad = true
	return h
}

func (r *reader) done() error {
	for range r.extra {
		rest, ok := skipValue(r.b, 1)
		if r.bad || !ok {
			r.bad = true
			break
		}
		r.b = rest
	}
	if r.bad || len(r.b) != 0 {
		return fmt.Errorf("%w: shape", ErrPayload)
	}
	return nil
}
