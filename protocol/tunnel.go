package protocol

// TunnelRequest asks a tunnel-node for one device. It is always a signed message, so that a super-node can hand it on whole
// and the link that follows can be bound to its hash.
type TunnelRequest struct {
	Device     ID
	Port       uint16
	Protocol   Transport
	Candidates []Candidate // where the requester's own TCP port may be dialled; at most 4
	Token      Hash        // names the pair at the relay; minted by the requester, used once
	Relay      ID          // super-node at which to meet, zero for none
	RelayAddr  Addr
	Punch      Punch // the requester's part of a meeting by UDP, over Candidates of that protocol
}

// Mapping is how a NAT maps the flows of one socket to outside ports, in the words of RFC 4787.
type Mapping byte

const (
	MappingUnknown     Mapping = 0
	MappingIndependent Mapping = 1 // one port whatever the destination; also where nothing is translated
	MappingSequential  Mapping = 2 // another port for each destination, in steps that can be foreseen
	MappingRandom      Mapping = 3 // another port for each destination
)

// Punch is what one side tells the other about its NAT before both send through it. The zero value: no meeting by UDP.
type Punch struct {
	Wanted  bool
	Mapping Mapping
	Step    uint16 // MappingSequential: how far the next flow's port is from the last one's; candidates show the last one's
}

// TunnelOpened answers TunnelRequest.
type TunnelOpened struct {
	Status     Status
	Candidates []Candidate // where the tunnel-node may be dialled
	Request    Hash        // SHA-256 of the TunnelRequest message answered
	Punch      Punch       // the tunnel-node's part
}

// ForwardedTunnelRequest hands a TunnelRequest to a tunnel-node through a home super-node: the requester sends it with an
// empty Cookie, the super-node passes it on with its own.
type ForwardedTunnelRequest struct {
	Target  ID
	Request []byte // the whole signed TunnelRequest message, addressed to Target
	Node    []byte // the requester's Node record
	Cookie  []byte // opaque, of the super-node: where the answer goes
}

// ForwardedTunnelOpened is the way back: the tunnel-node returns Cookie and its whole signed TunnelOpened message.
type ForwardedTunnelOpened struct {
	Status Status
	Answer []byte
	Cookie []byte
	Node   []byte // the tunnel-node's Node record
}

// RelayJoin is said on a TCP connection to a relay, by each of the two ends.
type RelayJoin struct {
	Token Hash
	Peer  ID
	Node  []byte // the sender's Node record
}

// Command implements Payload.
func (TunnelRequest) Command() Command { return CmdTunnelRequest }

// Command implements Payload.
func (TunnelOpened) Command() Command { return CmdTunnelOpened }

// Command implements Payload.
func (ForwardedTunnelRequest) Command() Command { return CmdForwardedTunnelRequest }

// Command implements Payload.
func (ForwardedTunnelOpened) Command() Command { return CmdForwardedTunnelOpened }

// Command implements Payload.
func (RelayJoin) Command() Command { return CmdRelayJoin }

// maxCandidatesRead is more than a message of today holds, and little enough to keep what is allocated near what was sent.
const maxCandidatesRead = 2 * MaxCandidates

func (m *TunnelRequest) parse(r *reader) {
	r.array(8)
	m.Device, m.Port, m.Protocol = r.id(), uint16(r.below(0xffff)), Transport(r.byte())
	m.Candidates = r.candidates()
	m.Token, m.Relay, m.RelayAddr, m.Punch = r.hash(), r.id(), r.addr(), r.punch()
}

func (m *TunnelOpened) parse(r *reader) {
	r.array(4)
	m.Status, m.Candidates, m.Request, m.Punch = Status(r.byte()), r.candidates(), r.hash(), r.punch()
}

func (r *reader) punch() (p Punch) {
	extra := r.inner(3)
	p.Wanted, p.Mapping, p.Step = r.bool(), Mapping(r.byte()), uint16(r.below(0xffff))
	r.close(extra)
	return p
}

func (r *reader) candidates() (l []Candidate) {
	n := r.list(maxCandidatesRead)
	if n > 0 {
		l = make([]Candidate, 0, n)
	}
	for range n {
		extra := r.inner(4)
		l = append(l, Candidate{CandidateKind(r.byte()), Transport(r.byte()), r.addr(), uint32(r.below(1<<32 - 1))})
		r.close(extra)
		if r.bad {
			return nil
		}
	}
	return l
}
