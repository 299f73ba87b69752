package main

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sort"
	"time"

	"culvert/dht"
	"culvert/partition"
	"culvert/protocol"
	"culvert/protocol/key"
)

// bigMap is signed records of many super-nodes, as an operator would send them.
type bigMap struct {
	g       *gauge
	members [][]byte // in order of owner
}

// newBigMap makes n super-nodes, three to a range.
func newBigMap(n int) (*bigMap, error) {
	g, err := newGauge(time.UnixMilli(1_800_000_000_000))
	if err != nil {
		return nil, err
	}
	b := &bigMap{g: g}
	ranges := partition.Whole().Split(max(1, n/codeReplicas))
	for i := range n {
		var seed [8]byte
		binary.BigEndian.PutUint64(seed[:], uint64(i))
		p, err := key.Generate(rand.NewChaCha8(sha256.Sum256(seed[:])))
		if err != nil {
			return nil, err
		}
		addr := netip.AddrFrom4([4]byte{192, byte(i >> 16), byte(i >> 8), byte(i)})
		pl := partition.Placement{
			Candidate: partition.Candidate{
				ID: protocol.NodeID(protocol.Domain(1+i), p.Signing.Public()), Signing: p.Signing.Public(), Sealing: p.Sealing.Public(),
				Addresses: []netip.AddrPort{netip.AddrPortFrom(addr, 7700), netip.AddrPortFrom(addr, 443)},
			},
			Range: ranges[i%len(ranges)],
		}
		b.members = append(b.members, g.owned(protocol.TableSuperNode, pl.ID, pl.Value(1)))
	}
	sort.Slice(b.members, func(i, j int) bool { return owner(b.members[i]).Compare(owner(b.members[j])) < 0 })
	return b, g.err
}

// owner reads a record's owner, which stands at its bytes 4 to 40.
func owner(raw []byte) protocol.ID { return protocol.ID(raw[4:40]) }

// head is the MapHead over the first n.
func (b *bigMap) head(n int) ([]byte, error) {
	v, err := partition.Head(1, b.members[:n])
	if err != nil {
		return nil, err
	}
	raw := b.g.owned(protocol.TableMapHead, partition.HeadOwner(protocol.Hash{1}), v)
	return raw, b.g.err
}

// page is what a super-node answers: as much as a datagram of a session holds.
func (b *bigMap) page(head []byte, n int, after protocol.ID) (list protocol.RecordList) {
	var lengths []int
	add := func(raw []byte) bool {
		lengths = append(lengths, len(raw))
		if protocol.RecordListSize(lengths...) > protocol.MaxSessionPayload {
			return false
		}
		list.Records = append(list.Records, raw)
		return true
	}
	if after.IsZero() {
		add(head)
	}
	for i := sort.Search(n, func(i int) bool { return owner(b.members[i]).Compare(after) > 0 }); i < n; i++ {
		if !add(b.members[i]) {
			list.Next = owner(b.members[i-1])
			break
		}
	}
	return list
}

// taken reports whether a real reader takes in a map of the first n, when every page comes at once.
func (b *bigMap) taken(n int) (bool, error) {
	head, err := b.head(n)
	if err != nil {
		return false, err
	}
	now := b.g.w.Now
	addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, 1}), 7700)
	var members []partition.Member
	for i := range codeReadQuorum {
		id := protocol.NewID(1, protocol.Hash{byte(i + 1)})
		members = append(members, partition.Member{Peer: protocol.Peer{ID: id, Addr: addr}, Range: partition.Whole()})
	}
	l := dht.NewLookup(dht.LookupConfig{
		Target: dht.Target{Kind: dht.FindMap}, Members: members, Rand: rand.New(rand.NewPCG(1, 1)), Scores: dht.NewScores(),
		Check: func(time.Time, *protocol.Record) error { return nil }, NoRefresh: true,
	})
	todo := l.Step(now, dht.Event{Kind: dht.EventTick})
	for len(todo) > 0 && !l.Done() {
		a := todo[0]
		ask, ok := a.Payload.(protocol.GetSuperNodes)
		if !ok {
			return false, fmt.Errorf("asked %T for the map", a.Payload)
		}
		list := b.page(head, n, ask.After)
		todo = append(todo[1:], l.Step(now, dht.Event{
			Kind: dht.EventAnswer, Tag: a.Tag, Command: protocol.CmdSuperNodes, Payload: list.AppendPayload(nil),
		})...)
	}
	return l.Map() != nil && len(l.Map().Members()) == n, nil
}

// mapLimit is how many super-nodes a reader's map may have, at most; most where it takes that.
func mapLimit(most int) (int, error) {
	b, err := newBigMap(most)
	if err != nil {
		return 0, err
	}
	var failed error
	n := sort.Search(most, func(i int) bool {
		ok, err := b.taken(i + 1)
		if err != nil {
			failed = err
		}
		return !ok
	})
	return n, failed
}
