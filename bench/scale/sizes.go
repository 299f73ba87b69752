package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"culvert/bench/world"
	"culvert/partition"
	"culvert/protocol"
	"culvert/protocol/enrol"
	"culvert/protocol/key"
)

// ipUDP is what IPv4 and UDP add to every datagram.
const ipUDP = 20 + 8

// exchange is the bytes on the wire of a question and of its answer, IP and UDP included.
type exchange struct {
	Ask   int `json:"ask"`
	Reply int `json:"reply"`
}

func (e exchange) total() float64 { return float64(e.Ask + e.Reply) }

// sizes are what the real encoders make of the messages that the model counts.
type sizes struct {
	Ping        exchange `json:"ping"`         // in a session
	Probe       exchange `json:"probe"`        // signed, as the operator's from a fresh socket
	Open        exchange `json:"open_session"` //
	PutInfo     exchange `json:"put_nodeinfo"`
	GetInfo     exchange `json:"get_nodeinfo"`
	GetPlace    exchange `json:"get_tunnelnodes"` // two keepers
	GetDevice   exchange `json:"get_enddevice"`
	Revocations exchange `json:"get_revocations"` // always signed; nothing new
	MapHead     exchange `json:"map_current"`     // the asker's map is the current one
	MapPage     exchange `json:"map_page"`        // a full page of a newer one
	PutMember   exchange `json:"put_supernode"`
	PutHead     exchange `json:"put_maphead"`
	Notify      exchange `json:"transfer_partition"`
	Digest      exchange `json:"digest"`
	RepairPage  exchange `json:"repair_page"`
	Submit      exchange `json:"submit_supernode"`

	Member       int     `json:"supernode_record"` // bytes
	Info         int     `json:"nodeinfo_record"`
	Certificate  int     `json:"node_record"`
	Device       int     `json:"enddevice_record"`
	PerPage      int     `json:"supernodes_a_page"`
	PerRepair    int     `json:"nodeinfos_a_page"`
	Bundle       float64 `json:"bundle_bytes"`             // an enrolment's answer without super-nodes
	BundleMember float64 `json:"bundle_bytes_a_supernode"` // and what each adds
}

// gauge encodes messages between two nodes.
type gauge struct {
	w       *world.World
	a, b    *world.Member
	session *protocol.Session
	err     error
}

func newGauge(now time.Time) (*gauge, error) {
	w, err := world.New(now)
	if err != nil {
		return nil, err
	}
	g := &gauge{w: w}
	if g.a, err = w.Member("scale", 1); err != nil {
		return nil, err
	}
	if g.b, err = w.Member("scale", 2); err != nil {
		return nil, err
	}
	own, err := key.NewSealing(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		return nil, err
	}
	g.session, err = protocol.NewSession(protocol.SessionParams{Local: g.a.Cert.ID, Peer: g.b.Cert, Initiator: true}, own, g.b.Cert.Sealing)
	return g, err
}

func (g *gauge) sealed(p protocol.Payload, reply bool) int {
	b, err := protocol.AppendPayload(nil, p)
	if err == nil {
		b, err = g.session.AppendSealed(nil, p.Command(), reply, 1, b)
	}
	if err != nil && g.err == nil {
		g.err = fmt.Errorf("%s: %w", p.Command(), err)
	}
	return len(b) + ipUDP
}

func (g *gauge) signed(p protocol.Payload, reply bool) int {
	b, err := protocol.AppendPayload(nil, p)
	if err == nil {
		b, err = protocol.AppendSigned(nil, &protocol.Outgoing{
			Sender: g.a.Cert.ID, Receiver: g.b.Cert.ID, Sealing: g.b.Cert.Sealing, Command: p.Command(), Reply: reply,
			Timestamp: g.w.Now, MessageID: 1, Payload: b,
		}, g.a.Keys.Signing, rand.NewChaCha8([32]byte{1}))
	}
	if err != nil && g.err == nil {
		g.err = fmt.Errorf("%s: %w", p.Command(), err)
	}
	return len(b) + ipUDP
}

func (g *gauge) inSession(ask, reply protocol.Payload) exchange {
	return exchange{g.sealed(ask, false), g.sealed(reply, true)}
}

func (g *gauge) bySignature(ask, reply protocol.Payload) exchange {
	return exchange{g.signed(ask, false), g.signed(reply, true)}
}

// record signs a value as one of the operator's.
func (g *gauge) record(t protocol.Table, v any) []byte { return g.owned(t, g.a.Cert.ID, v) }

func (g *gauge) owned(t protocol.Table, owner protocol.ID, v any) []byte {
	val, err := protocol.Marshal(v)
	var raw []byte
	if err == nil {
		raw, err = protocol.SignRecord(&protocol.Record{
			Table: t, Owner: owner, Signer: g.a.Cert.ID, Epoch: 1, Sequence: 1 << 40, Issued: g.w.Now, Expires: g.w.Now.Add(time.Hour), Value: val,
		}, g.a.Keys.Signing)
	}
	if err != nil && g.err == nil {
		g.err = fmt.Errorf("%s: %w", t, err)
	}
	return raw
}

// deviceRecord is one with a name of usual length, two ports and one location.
func (g *gauge) deviceRecord() []byte {
	s := protocol.DomainSecrets{Domain: world.Domain, Keys: []protocol.DomainKey{{Epoch: 1, Key: sha256.Sum256([]byte("key"))}}}
	plain, err := protocol.Marshal(protocol.EndDeviceValue{
		Name: "printer-3rd-floor", MAC: make([]byte, 6), Ports: []protocol.Port{{Number: 631, Protocol: protocol.TCP}, {Number: 9100, Protocol: protocol.TCP}},
		Locations: []protocol.Hash{world.Location(1)}, TLSPin: make([]byte, 32),
	})
	if err != nil {
		g.err = err
		return nil
	}
	id := g.a.Cert.ID
	v, err := s.SealValue(rand.NewChaCha8([32]byte{2}), protocol.TableEndDevice, id, plain)
	if err != nil {
		g.err = err
		return nil
	}
	raw, err := protocol.SignRecord(&protocol.Record{
		Table: protocol.TableEndDevice, Owner: id, Signer: id, Epoch: 1, Sequence: 1 << 40, Issued: g.w.Now, Expires: g.w.Now.Add(time.Hour),
		Lookups: []protocol.Hash{s.NameKey("printer-3rd-floor"), world.Location(1)}, Value: v,
	}, g.a.Keys.Signing)
	if err != nil {
		g.err = err
	}
	return raw
}

// memberRecord is a super-node of the map with an address for datagrams and one for streams.
func (g *gauge) memberRecord() []byte {
	addr := func(port uint16) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 7}), port)
	}
	p := partition.Placement{
		Candidate: partition.Candidate{
			ID: g.a.Cert.ID, Signing: g.a.Cert.Signing, Sealing: g.a.Cert.Sealing, Addresses: []netip.AddrPort{addr(7700), addr(443)},
		},
		Range: partition.Range{From: 1 << 62, To: 1<<63 - 1},
	}
	return g.record(protocol.TableSuperNode, p.Value(1<<20))
}

// measure asks the encoders.
func measure() (sizes, error) {
	g, err := newGauge(time.UnixMilli(1_800_000_000_000))
	if err != nil {
		return sizes{}, err
	}
	info, err := g.w.Info(g.a, 1, rand.NewChaCha8([32]byte{3}))
	if err != nil {
		return sizes{}, err
	}
	member, device, cert := g.memberRecord(), g.deviceRecord(), g.a.Cert.Record
	head := g.record(protocol.TableMapHead, protocol.MapHeadValue{Epoch: 1 << 20, Count: 20_000, Hash: sha256.Sum256(nil)})
	seen := protocol.AddrOf(netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 7}), 7700))
	list := func(n int, raw []byte) protocol.RecordList {
		l := protocol.RecordList{Next: g.a.Cert.ID}
		for range n {
			l.Records = append(l.Records, raw)
		}
		return l
	}
	s := sizes{Member: len(member), Info: len(info), Certificate: len(cert), Device: len(device)}
	s.PerPage, s.PerRepair = pageOf(len(member)), pageOf(len(info))
	id := g.a.Cert.ID
	stored := protocol.Stored{Status: protocol.StatusOK, Epoch: 1, Sequence: 1 << 40}
	s.Ping = g.inSession(protocol.Ping{}, protocol.Pong{Time: 1 << 40, Observed: seen})
	s.Probe = g.bySignature(protocol.Ping{}, protocol.Pong{Time: 1 << 40, Observed: seen})
	s.Open = g.bySignature(protocol.OpenSession{Index: 1 << 63, Node: cert}, protocol.SessionOpened{Index: 1 << 63, Node: cert})
	s.PutInfo = g.inSession(protocol.Put{Key: id, Record: info}, stored)
	s.GetInfo = g.inSession(protocol.GetNodeInfo{ID: id}, protocol.NodeInfo{RecordList: list(1, info)})
	s.GetPlace = g.inSession(protocol.GetTunnelNodes{Location: id}, protocol.TunnelNodes{RecordList: list(2, info)})
	s.GetDevice = g.inSession(protocol.GetEndDevices{Key: id}, protocol.EndDevices{RecordList: list(1, device)})
	s.Revocations = g.bySignature(protocol.GetRevocations{Since: 1 << 20}, protocol.Revocations{})
	s.MapHead = g.inSession(protocol.GetSuperNodes{Epoch: 1 << 20}, protocol.SuperNodes{RecordList: list(1, head)})
	s.MapPage = g.inSession(protocol.GetSuperNodes{Epoch: 1 << 20, After: id}, protocol.SuperNodes{RecordList: list(s.PerPage, member)})
	s.PutMember = g.inSession(protocol.Put{Key: id, Record: member, Forwarded: true}, stored)
	s.PutHead = g.inSession(protocol.Put{Key: id, Record: head, Forwarded: true}, stored)
	s.Notify = g.bySignature(protocol.TransferPartition{Epoch: 1 << 20}, protocol.PartitionTransferred{Epoch: 1 << 20})
	parts := make([]protocol.DigestPart, 16)
	for i := range parts {
		parts[i] = protocol.DigestPart{From: 1<<62 + uint64(i), To: 1<<62 + uint64(i), Count: 10_000}
		binary.BigEndian.PutUint64(parts[i].Sum[:], 1)
	}
	s.Digest = g.inSession(protocol.Digest{Table: protocol.TableNodeInfo, From: 1 << 62, To: 1<<63 - 1}, protocol.Digests{Parts: parts})
	s.RepairPage = g.inSession(protocol.Repair{Table: protocol.TableNodeInfo, From: 1 << 62, To: 1<<63 - 1, After: id},
		protocol.Repaired{RecordList: list(s.PerRepair, info)})
	s.Submit = g.bySignature(protocol.SubmitSuperNode{Addresses: []protocol.Addr{seen}, Capacity: 1 << 20}, protocol.SuperNodeSubmitted{Status: protocol.StatusOK})
	if s.Bundle, s.BundleMember, err = bundle(cert, member, head); err != nil {
		return sizes{}, err
	}
	return s, g.err
}

// pageOf is how many records of n bytes fit one answer in a session.
func pageOf(n int) int {
	k := 0
	for lengths := []int{n}; protocol.RecordListSize(lengths...) <= protocol.MaxSessionPayload; lengths = append(lengths, n) {
		k++
	}
	return k
}

// bundle is the length of an enrolment's answer, which carries the whole map.
func bundle(cert, member, head []byte) (empty, each float64, err error) {
	size := func(n int) float64 {
		r := enrol.EnrollResponse{Certificate: cert, DomainName: "example", Bundle: enrol.Bundle{Operators: [][]byte{cert}, MapHead: head}}
		for range n {
			r.Bundle.SuperNodes = append(r.Bundle.SuperNodes, member)
		}
		b, e := json.Marshal(r)
		if e != nil {
			err = e
		}
		return float64(len(b))
	}
	const many = 10
	empty, each = size(0), (size(many)-size(0))/many
	return empty, each, err
}
