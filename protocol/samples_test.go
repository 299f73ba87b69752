package protocol

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"culvert/protocol/key"
)

var sampleTime = time.UnixMilli(1_790_000_000_000)

// pattern is n bytes that differ from each other and from those of another start.
func pattern(start byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = start + byte(i)
	}
	return b
}

func sampleID(d Domain, start byte) ID { return NewID(d, Hash(pattern(start, 32))) }

func sampleKeys(t testing.TB, seed byte) *key.Pair {
	p, err := key.Generate(bytes.NewReader(pattern(seed, 64)))
	must(t, err)
	return p
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func sampleRand() *rand.ChaCha8 { return rand.NewChaCha8([32]byte{42}) }

var (
	addr4 = Addr{netip.MustParseAddrPort("192.0.2.7:7700")}
	addr6 = Addr{netip.MustParseAddrPort("[2001:db8::7]:7700")}
)

// messages is one of every message, with every field set.
func messages(t testing.TB) []Payload {
	rec := samples(t)[TableNode].raw
	list := RecordList{Records: [][]byte{rec}, Next: sampleID(7, 9)}
	cands := []Candidate{{CandidateHost, TCP, addr4, 100}, {CandidateSeen, UDP, addr6, 70000}}
	return []Payload{
		Ping{}, Pong{1_790_000_000_123, addr6},
		GetNode{sampleID(7, 1)}, Node{rec},
		OpenSession{key.Public(pattern(1, 32)), 1 << 63, rec},
		SessionOpened{key.Public(pattern(2, 32)), 77, Hash(pattern(3, 32)), rec},
		GetOperatorNodes{sampleID(0, 4)}, OperatorNodes{list},
		GetSuperNodes{300, sampleID(7, 5)}, SuperNodes{list},
		SubmitSuperNode{[]Addr{addr4, addr6}, 1 << 20}, SuperNodeSubmitted{StatusPolicy, "against policy"},
		GetNodeInfo{sampleID(7, 6)}, NodeInfo{list},
		GetTunnelNodes{sampleID(7, 7), sampleID(7, 8)}, TunnelNodes{list},
		GetEndDevices{sampleID(7, 8), sampleID(7, 9)}, EndDevices{list},
		GetRevocations{70000}, Revocations{list},
		Put{sampleID(7, 10), rec, true}, Stored{StatusQuota, 3, 1 << 40, 9},
		TunnelRequest{sampleID(7, 11), 631, TCP, cands, Hash(pattern(12, 32)), sampleID(8, 13), addr4, Punch{true, MappingSequential, 300}},
		TunnelOpened{StatusNotAllowed, cands, Hash(pattern(14, 32)), Punch{true, MappingRandom, 0}},
		ForwardedTunnelRequest{sampleID(7, 15), pattern(1, 300), rec, pattern(2, 40)},
		ForwardedTunnelOpened{StatusUnreachable, pattern(3, 300), pattern(4, 40), rec},
		RelayJoin{Hash(pattern(16, 32)), sampleID(7, 17), rec},
		Digest{TableEndDevice, 1 << 60, 1<<64 - 1},
		Digests{[]DigestPart{{1 << 60, 1<<61 - 1, 70000, [16]byte(pattern(18, 16))}}, 9},
		Repair{TableNode, 5, 600, sampleID(7, 19)}, Repaired{list},
		TransferPartition{255}, PartitionTransferred{256, true, 1000, 1001, []ID{sampleID(7, 14)}},
		Busy{1500}, WrongRange{65536},
		ProbeReach{addr4, UDP, true, [16]byte(pattern(20, 16))}, ReachProbed{StatusUnreachable},
	}
}

// samples is one record of every table.
func samples(t testing.TB) map[Table]*Record {
	root, op, node := sampleKeys(t, 1), sampleKeys(t, 2), sampleKeys(t, 3)
	rootID, opID := NewID(OperatorDomain, root.Signing.Public().Hash()), NodeID(OperatorDomain, op.Signing.Public())
	nodeID := NodeID(7, node.Signing.Public())
	secrets := &DomainSecrets{Domain: 7, Keys: []DomainKey{{Epoch: 3, Key: [32]byte(pattern(5, 32))}}, Secret: [32]byte(pattern(6, 32))}
	values := map[Table]any{
		TableNode: NodeValue{node.Signing.Public(), node.Sealing.Public(), []string{"office", "print"}},
		TableNodeInfo: NodeInfoValue{
			"desk", true, []Candidate{{CandidateHost, TCP, addr4, 10}}, []ID{sampleID(8, 1)}, []Hash{Hash(pattern(7, 32))}, "1.0",
		},
		TableSuperNode: SuperNodeValue{node.Signing.Public(), node.Sealing.Public(), 0, 1<<64 - 1, 4, []Addr{addr4, addr6}, 1, 0, true},
		TableOperatorNode: OperatorNodeValue{
			op.Signing.Public(), op.Sealing.Public(), []Domain{7, 1 << 31}, []Addr{addr4}, "op.example:443",
			NodeID(OperatorDomain, node.Signing.Public()), pattern(9, 64),
		},
		TableEndDevice: EndDeviceValue{
			"printer", pattern(1, 6), netip.MustParseAddr("192.0.2.50"), nodeID, []Port{{631, TCP, []string{"print"}}, {161, UDP, nil}},
			[]Hash{Hash(pattern(7, 32))}, pattern(8, 32), []string{"office"},
		},
		TableRevocation: RevocationValue{12, RevokedNode},
		TableMapHead:    MapHeadValue{4, 12, Hash(pattern(9, 32))},
	}
	out := make(map[Table]*Record)
	for table, v := range values {
		raw, err := Marshal(v)
		must(t, err)
		r := &Record{
			Table: table, Owner: nodeID, Signer: opID, Epoch: 1, Sequence: 2,
			Issued: sampleTime, Expires: sampleTime.Add(time.Hour), Value: raw,
		}
		signer := op.Signing
		switch table {
		case TableNodeInfo:
			r.Signer, signer = nodeID, node.Signing
			r.Lookups = []Hash{secrets.LocationKey(Hash(pattern(7, 32)))}
		case TableEndDevice:
			r.Owner = sampleID(7, 30)
			r.Lookups = []Hash{secrets.NameKey("printer")}
		case TableOperatorNode:
			r.Owner, r.Signer, signer = opID, rootID, root.Signing
		case TableMapHead:
			r.Owner = rootID
		}
		if table == TableNodeInfo || table == TableEndDevice {
			r.Value, err = secrets.SealValue(sampleRand(), table, r.Owner, raw)
			must(t, err)
		}
		b, err := SignRecord(r, signer)
		must(t, err)
		p, err := ParseRecord(b)
		must(t, err)
		out[table] = p
	}
	return out
}

// parsers is how each message is read; where a message has a parser of its own, the library's reading must agree.
var parsers = map[Command]func([]byte) (Payload, error){
	CmdPing: wrap(ParsePayload[Ping]), CmdPong: wrap(ParsePong),
	CmdGetNode: wrap(ParseGetNode), CmdNode: wrap(ParseNode),
	CmdOpenSession: wrap(ParseOpenSession), CmdSessionOpened: wrap(ParseSessionOpened),
	CmdGetOperatorNodes: wrap(ParseGetOperatorNodes), CmdOperatorNodes: list(func(l RecordList) Payload { return OperatorNodes{l} }),
	CmdGetSuperNodes: wrap(ParseGetSuperNodes), CmdSuperNodes: list(func(l RecordList) Payload { return SuperNodes{l} }),
	CmdSubmitSuperNode: wrap(ParsePayload[SubmitSuperNode]), CmdSuperNodeSubmitted: wrap(ParsePayload[SuperNodeSubmitted]),
	CmdGetNodeInfo: wrap(ParseGetNodeInfo), CmdNodeInfo: list(func(l RecordList) Payload { return NodeInfo{l} }),
	CmdGetTunnelNodes: wrap(ParseGetTunnelNodes), CmdTunnelNodes: list(func(l RecordList) Payload { return TunnelNodes{l} }),
	CmdGetEndDevices: wrap(ParseGetEndDevices), CmdEndDevices: list(func(l RecordList) Payload { return EndDevices{l} }),
	CmdGetRevocations: wrap(ParseGetRevocations), CmdRevocations: list(func(l RecordList) Payload { return Revocations{l} }),
	CmdPut: wrap(ParsePut), CmdStored: wrap(ParseStored),
	CmdTunnelRequest: wrap(ParsePayload[TunnelRequest]), CmdTunnelOpened: wrap(ParsePayload[TunnelOpened]),
	CmdForwardedTunnelRequest: wrap(ParsePayload[ForwardedTunnelRequest]), CmdForwardedTunnelOpened: wrap(ParsePayload[ForwardedTunnelOpened]),
	CmdRelayJoin: wrap(ParsePayload[RelayJoin]),
	CmdDigest:    wrap(ParsePayload[Digest]), CmdDigests: wrap(ParsePayload[Digests]),
	CmdRepair: wrap(ParsePayload[Repair]), CmdRepaired: list(func(l RecordList) Payload { return Repaired{l} }),
	CmdTransferPartition: wrap(ParsePayload[TransferPartition]), CmdPartitionTransferred: wrap(ParsePayload[PartitionTransferred]),
	CmdBusy: wrap(ParsePayload[Busy]), CmdWrongRange: wrap(ParsePayload[WrongRange]),
	CmdProbeReach: wrap(ParsePayload[ProbeReach]), CmdReachProbed: wrap(ParsePayload[ReachProbed]),
}

func wrap[P Payload](f func([]byte) (P, error)) func([]byte) (Payload, error) {
	return func(b []byte) (Payload, error) { p, err := f(b); return p, err }
}

func list(as func(RecordList) Payload) func([]byte) (Payload, error) {
	return func(b []byte) (Payload, error) { l, err := ParseRecordList(b); return as(l), err }
}
