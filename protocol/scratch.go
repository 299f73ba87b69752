package protocol

// Scratch is memory in which the handlers of one goroutine make their answers, so that a query allocates nothing. What was
// answered in it is valid until the next handler is given it.
type Scratch struct {
	out     [1]Out
	payload []byte
}

// Room is empty room for a reply's payload of n bytes, in v.Scratch if it has one.
func (v *Verified) Room(n int) []byte {
	s := v.Scratch
	if s == nil {
		return make([]byte, 0, n)
	}
	if cap(s.payload) < n {
		s.payload = make([]byte, 0, max(n, MaxSessionPayload))
	}
	return s.payload[:0]
}

// Answer is the one-element answer of a handler that has made its payload in Room.
func (v *Verified) Answer(c Command, payload []byte) []Out {
	if v.Scratch == nil {
		return []Out{{Reply: true, Command: c, Payload: payload}}
	}
	v.Scratch.out[0] = Out{Reply: true, Command: c, Payload: payload}
	return v.Scratch.out[:]
}
