package protocol

// Put asks a super-node of the record's range to keep it.
type Put struct {
	Key       ID // which of the record's keys it is stored under here
	Record    []byte
	Forwarded bool // by another member of the range, which has passed it on already
}

// Stored answers Put, after the commit.
type Stored struct {
	Status   Status
	Epoch    uint64 // of the record now held
	Sequence uint64
	Map      uint64 // epoch of the map by which it was taken: who asks by an older one may have stored it at too few
}

// Command implements Payload.
func (Put) Command() Command { return CmdPut }

// Command implements Payload.
func (Stored) Command() Command { return CmdStored }

// AppendPayload implements Appender.
func (m Put) AppendPayload(b []byte) []byte {
	b = appendArray(b, 3)
	b = appendID(b, m.Key)
	b = appendBytes(b, m.Record)
	return appendBool(b, m.Forwarded)
}

// AppendPayload implements Appender.
func (m Stored) AppendPayload(b []byte) []byte {
	b = appendArray(b, 4)
	b = appendUint(b, uint64(m.Status))
	b = appendUint(b, m.Epoch)
	b = appendUint(b, m.Sequence)
	return appendUint(b, m.Map)
}

// ParsePut reads a Put; the record aliases b.
func ParsePut(b []byte) (m Put, err error) {
	r := reader{b: b}
	r.array(3)
	m.Key, m.Record, m.Forwarded = r.id(), r.bytes(), r.bool()
	return m, r.done()
}

// ParseStored reads a Stored.
func ParseStored(b []byte) (m Stored, err error) {
	r := reader{b: b}
	r.array(4)
	m.Status, m.Epoch, m.Sequence, m.Map = Status(r.byte()), r.uint(), r.uint(), r.uint()
	return m, r.done()
}
