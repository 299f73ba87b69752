package protocol

// SubmitSuperNode offers the sender as a super-node to the operator.
type SubmitSuperNode struct {
	// Addresses are where it believes to be reachable from everywhere, UDP and TCP; at ports 443 and 80 streams alone. None: it
	// does not serve any more.
	Addresses []Addr
	Capacity  uint64 // bytes a second that it will relay at most; 0 for no cap
}

// SuperNodeSubmitted answers SubmitSuperNode. StatusOK means taken in; the map's next epoch says where.
type SuperNodeSubmitted struct {
	Status Status
	Reason string
}

// Digest asks another member for the digests of a range of one table, cut in up to 16 equal parts.
type Digest struct {
	Table    Table
	From, To uint64 // positions, both inclusive
}

// Digests answers Digest. Epoch is of the map by which the answerer passes records on: whoever it names gets all that comes later.
type Digests struct {
	Parts []DigestPart
	Epoch uint64
}

// DigestPart is the digest of one part: how many records, and the XOR of their version hashes.
type DigestPart struct {
	From, To uint64
	Count    uint64
	Sum      [16]byte
}

// Repair asks for the records of a range that the asker may lack.
type Repair struct {
	Table    Table
	From, To uint64
	After    ID
}

// Repaired answers Repair.
type Repaired struct{ RecordList }

// TransferPartition tells a super-node of a map to ask for, if its own is older, and asks how far it is.
type TransferPartition struct{ Epoch uint64 }

// PartitionTransferred answers TransferPartition.
type PartitionTransferred struct {
	Epoch uint64 // of the map that it serves by
	// Filled: it has repaired with everybody that serves the range that it takes over, each time after both knew this epoch.
	Filled     bool
	Have, Want uint64 // records of that range held, and how many the fullest of its holders has
	Silent     []ID   // members whose repairs keep failing here, the longest silent first
}

// MaxSilent is how many silent members one PartitionTransferred names.
const MaxSilent = 4

// Busy refuses cheaply under load: ask elsewhere, or here after RetryAfter milliseconds.
type Busy struct{ RetryAfter uint32 }

// WrongRange refuses a key outside the super-node's range and tells the epoch of its map.
type WrongRange struct{ Epoch uint64 }

// Command implements Payload.
func (SubmitSuperNode) Command() Command { return CmdSubmitSuperNode }

// Command implements Payload.
func (SuperNodeSubmitted) Command() Command { return CmdSuperNodeSubmitted }

// Command implements Payload.
func (Digest) Command() Command { return CmdDigest }

// Command implements Payload.
func (Digests) Command() Command { return CmdDigests }

// Command implements Payload.
func (Repair) Command() Command { return CmdRepair }

// Command implements Payload.
func (Repaired) Command() Command { return CmdRepaired }

// Command implements Payload.
func (TransferPartition) Command() Command { return CmdTransferPartition }

// Command implements Payload.
func (PartitionTransferred) Command() Command { return CmdPartitionTransferred }

// Command implements Payload.
func (Busy) Command() Command { return CmdBusy }

// Command implements Payload.
func (WrongRange) Command() Command { return CmdWrongRange }

func (m *SubmitSuperNode) parse(r *reader) {
	r.array(2)
	n := r.list(2 * MaxAddresses)
	if n > 0 {
		m.Addresses = make([]Addr, 0, n)
	}
	for range n {
		m.Addresses = append(m.Addresses, r.addr())
	}
	m.Capacity = r.uint()
}

func (m *PartitionTransferred) parse(r *reader) {
	r.array(5)
	m.Epoch, m.Filled, m.Have, m.Want = r.uint(), r.bool(), r.uint(), r.uint()
	n := r.list(MaxSilent)
	for range n {
		m.Silent = append(m.Silent, r.id())
	}
}

// maxParts is how many digests are read from one message.
const maxParts = 16

func (m *Digests) parse(r *reader) {
	r.array(2)
	n := r.list(maxParts)
	if n > 0 {
		m.Parts = make([]DigestPart, 0, n)
	}
	for range n {
		extra := r.inner(4)
		p := DigestPart{From: r.uint(), To: r.uint(), Count: r.uint()}
		if s := r.bytes(); len(s) == len(p.Sum) {
			p.Sum = [16]byte(s)
		} else {
			r.bad = true
		}
		r.close(extra)
		if r.bad {
			m.Parts = nil
			return
		}
		m.Parts = append(m.Parts, p)
	}
	m.Epoch = r.uint()
}
