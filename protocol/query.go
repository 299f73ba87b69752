package protocol

// GetNode asks for the Node record of ID. Unsolicited, with the reply flag, it asks a stranger for its own.
type GetNode struct{ ID ID }

// Node answers GetNode.
type Node struct{ Record []byte }

// GetNodeInfo asks where a node is now.
type GetNodeInfo struct{ ID ID }

// GetTunnelNodes asks for the NodeInfo records at a location's lookup key.
type GetTunnelNodes struct{ Location, After ID }

// GetEndDevices asks for the device at a lookup key (its ID or its name's key), or with a zero hash for all of the domain.
type GetEndDevices struct{ Key, After ID }

// GetSuperNodes asks for the partition map: the MapHead, and SuperNode records after After.
type GetSuperNodes struct {
	Epoch uint64 // of the map already held: only a newer one is sent
	After ID
}

// GetOperatorNodes asks for the operator chain.
type GetOperatorNodes struct{ After ID }

// GetRevocations asks for revocations numbered higher than Since.
type GetRevocations struct{ Since uint64 }

// NodeInfo answers GetNodeInfo with no or one record.
type NodeInfo struct{ RecordList }

// TunnelNodes answers GetTunnelNodes.
type TunnelNodes struct{ RecordList }

// EndDevices answers GetEndDevices.
type EndDevices struct{ RecordList }

// SuperNodes answers GetSuperNodes; the MapHead comes first on the first page, alone when the asker's epoch is current.
type SuperNodes struct{ RecordList }

// OperatorNodes answers GetOperatorNodes.
type OperatorNodes struct{ RecordList }

// Revocations answers GetRevocations in order of their numbers.
type Revocations struct{ RecordList }

// Command implements Payload.
func (GetNode) Command() Command { return CmdGetNode }

// Command implements Payload.
func (Node) Command() Command { return CmdNode }

// Command implements Payload.
func (GetNodeInfo) Command() Command { return CmdGetNodeInfo }

// Command implements Payload.
func (GetTunnelNodes) Command() Command { return CmdGetTunnelNodes }

// Command implements Payload.
func (GetEndDevices) Command() Command { return CmdGetEndDevices }

// Command implements Payload.
func (GetSuperNodes) Command() Command { return CmdGetSuperNodes }

// Command implements Payload.
func (GetOperatorNodes) Command() Command { return CmdGetOperatorNodes }

// Command implements Payload.
func (GetRevocations) Command() Command { return CmdGetRevocations }

// Command implements Payload.
func (NodeInfo) Command() Command { return CmdNodeInfo }

// Command implements Payload.
func (TunnelNodes) Command() Command { return CmdTunnelNodes }

// Command implements Payload.
func (EndDevices) Command() Command { return CmdEndDevices }

// Command implements Payload.
func (SuperNodes) Command() Command { return CmdSuperNodes }

// Command implements Payload.
func (OperatorNodes) Command() Command { return CmdOperatorNodes }

// Command implements Payload.
func (Revocations) Command() Command { return CmdRevocations }

// AppendPayload implements Appender.
func (m GetNode) AppendPayload(b []byte) []byte { return appendID(appendArray(b, 1), m.ID) }

// AppendPayload implements Appender.
func (m Node) AppendPayload(b []byte) []byte { return appendBytes(appendArray(b, 1), m.Record) }

// AppendPayload implements Appender.
func (m GetNodeInfo) AppendPayload(b []byte) []byte { return appendID(appendArray(b, 1), m.ID) }

// AppendPayload implements Appender.
func (m GetTunnelNodes) AppendPayload(b []byte) []byte {
	return appendID(appendID(appendArray(b, 2), m.Location), m.After)
}

// AppendPayload implements Appender.
func (m GetEndDevices) AppendPayload(b []byte) []byte {
	return appendID(appendID(appendArray(b, 2), m.Key), m.After)
}

// AppendPayload implements Appender.
func (m GetSuperNodes) AppendPayload(b []byte) []byte {
	return appendID(appendUint(appendArray(b, 2), m.Epoch), m.After)
}

// AppendPayload implements Appender.
func (m GetOperatorNodes) AppendPayload(b []byte) []byte { return appendID(appendArray(b, 1), m.After) }

// AppendPayload implements Appender.
func (m GetRevocations) AppendPayload(b []byte) []byte { return appendUint(appendArray(b, 1), m.Since) }

// AppendPayload implements Appender.
func (m RecordList) AppendPayload(b []byte) []byte {
	b = appendArray(b, 2)
	b = appendArray(b, len(m.Records))
	for _, r := range m.Records {
		b = appendBytes(b, r)
	}
	return appendID(b, m.Next)
}

// RecordListSize is what a RecordList takes with records of these lengths: how a server knows when a page is full.
func RecordListSize(lengths ...int) int {
	n := 1 + 3 + 2 + IDSize
	for _, l := range lengths {
		n += 3 + l
	}
	return n
}

// ParseGetNode reads a GetNode.
func ParseGetNode(b []byte) (m GetNode, err error) {
	r := reader{b: b}
	r.array(1)
	m.ID = r.id()
	return m, r.done()
}

// ParseNode reads a Node; the record aliases b.
func ParseNode(b []byte) (m Node, err error) {
	r := reader{b: b}
	r.array(1)
	m.Record = r.bytes()
	return m, r.done()
}

// ParseGetNodeInfo reads a GetNodeInfo.
func ParseGetNodeInfo(b []byte) (m GetNodeInfo, err error) {
	n, err := ParseGetNode(b)
	return GetNodeInfo(n), err
}

// ParseGetTunnelNodes reads a GetTunnelNodes.
func ParseGetTunnelNodes(b []byte) (m GetTunnelNodes, err error) {
	r := reader{b: b}
	r.array(2)
	m.Location, m.After = r.id(), r.id()
	return m, r.done()
}

// ParseGetEndDevices reads a GetEndDevices.
func ParseGetEndDevices(b []byte) (m GetEndDevices, err error) {
	q, err := ParseGetTunnelNodes(b)
	return GetEndDevices{Key: q.Location, After: q.After}, err
}

// ParseGetSuperNodes reads a GetSuperNodes.
func ParseGetSuperNodes(b []byte) (m GetSuperNodes, err error) {
	r := reader{b: b}
	r.array(2)
	m.Epoch, m.After = r.uint(), r.id()
	return m, r.done()
}

// ParseGetOperatorNodes reads a GetOperatorNodes.
func ParseGetOperatorNodes(b []byte) (m GetOperatorNodes, err error) {
	n, err := ParseGetNode(b)
	return GetOperatorNodes{After: n.ID}, err
}

// ParseGetRevocations reads a GetRevocations.
func ParseGetRevocations(b []byte) (m GetRevocations, err error) {
	r := reader{b: b}
	r.array(1)
	m.Since = r.uint()
	return m, r.done()
}

// ParseRecordList reads the answer to any query for records; the records alias b.
func ParseRecordList(b []byte) (m RecordList, err error) {
	r := reader{b: b}
	r.array(2)
	n := r.length()
	if most := len(r.b) / minRecord; n <= most {
		m.Records = make([][]byte, 0, n)
	}
	for range n {
		rec := r.bytes()
		if len(rec) < minRecord || len(rec) > MaxRecord {
			r.bad = true // also keeps a short message from asking for a long list
		}
		if r.bad {
			break
		}
		m.Records = append(m.Records, rec)
	}
	m.Next = r.id()
	return m, r.done()
}
