package protocol

// Ping asks for a sign of life; it also keeps a NAT's binding open.
type Ping struct{}

// Command implements Payload.
func (Ping) Command() Command { return CmdPing }

// AppendPayload implements Appender.
func (Ping) AppendPayload(b []byte) []byte { return appendArray(b, 0) }

// Pong answers Ping, and any stale but validly signed message.
type Pong struct {
	Time     int64 // the answerer's clock, ms since 1970
	Observed Addr  // from where the question came
}

// Command implements Payload.
func (Pong) Command() Command { return CmdPong }

// MaxPong is the longest encoding of a Pong.
const MaxPong = 1 + 9 + 2 + 18

// AppendPayload implements Appender.
func (m Pong) AppendPayload(b []byte) []byte {
	b = appendArray(b, 2)
	b = appendUint(b, uint64(max(m.Time, 0)))
	return appendAddr(b, m.Observed)
}

// ParsePong reads a Pong.
func ParsePong(b []byte) (m Pong, err error) {
	r := reader{b: b}
	r.array(2)
	m.Time = int64(r.uint())
	err = m.Observed.parse(r.bytes())
	if e := r.done(); e != nil {
		err = e
	}
	return m, err
}
