package operator

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"culvert/dht"
	"culvert/partition"
	"culvert/protocol"
)

// digestMesh is members of whom each says to hold something of its own making.
type digestMesh struct {
	*fakeMesh
	holds map[protocol.ID]map[protocol.Table]byte

	mu    sync.Mutex
	asked int
	stop  context.CancelFunc // once so many have been asked that they will not agree any more
}

func (m *digestMesh) Ask(ctx context.Context, to protocol.Peer, p protocol.Payload) (*protocol.Verified, error) {
	q, ok := p.(protocol.Digest)
	if !ok {
		return m.fakeMesh.Ask(ctx, to, p)
	}
	m.mu.Lock()
	if m.asked++; m.asked > 200 {
		m.stop()
	}
	m.mu.Unlock()
	holds, ok := m.holds[to.ID]
	if !ok {
		return nil, errSilent
	}
	d := protocol.Digests{Epoch: 1 << 60}
	for _, g := range (partition.Range{From: q.From, To: q.To}).Split(16) {
		d.Parts = append(d.Parts, protocol.DigestPart{From: g.From, To: g.To, Count: 1000, Sum: [16]byte{holds[q.Table]}})
	}
	b, err := protocol.AppendPayload(nil, d)
	return protocol.Local(&protocol.CertifiedNode{ID: to.ID}, to.ID, protocol.CmdDigests, b, time.Time{}), err
}

// Where two serve, one of them cannot vouch for who holds nothing: neither for what operators sign nor for where nodes are; and it
// cannot hold up who holds everything for longer than a NodeInfo lives.
func TestOneLiarOfTwoProvesNothing(t *testing.T) {
	o, c, mesh := runningOperator(t)
	var ids []protocol.ID
	var ps []partition.Placement
	for i := range 3 {
		addDomain(t, o, fmt.Sprintf("customer%d", i))
		n, _ := join(t, o, fmt.Sprintf("customer%d", i), "s")
		p := partition.Placement{Range: partition.Whole(), Fill: partition.None(), Candidate: partition.Candidate{
			ID: n.ID, Signing: n.Signing, Sealing: n.Sealing, Addresses: []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 3, byte(i)}), 7700)},
		}}
		if i == 2 {
			p.Range, p.Fill = partition.None(), partition.Whole()
		}
		ids, ps = append(ids, n.ID), append(ps, p)
	}
	honest, liar, filler := ids[0], ids[1], ids[2]
	pmap := signedMap(t, o, ps)
	mem, _ := pmap.Member(filler)
	all := map[protocol.Table]byte{protocol.TableNode: 1, protocol.TableEndDevice: 2, protocol.TableNodeInfo: 3}
	noInfo := map[protocol.Table]byte{protocol.TableNode: 1, protocol.TableEndDevice: 2, protocol.TableNodeInfo: 9}
	nothing := map[protocol.Table]byte{protocol.TableNode: 9, protocol.TableEndDevice: 9, protocol.TableNodeInfo: 9}
	for _, tc := range []struct {
		name   string
		holds  map[protocol.ID]map[protocol.Table]byte
		later  time.Duration
		proven bool
	}{
		{"all hold everything", map[protocol.ID]map[protocol.Table]byte{o.id: all, honest: all, liar: all, filler: all}, 0, true},
		{"one is away", map[protocol.ID]map[protocol.Table]byte{o.id: all, honest: all, filler: all}, 0, true},
		{"the filler lacks where nodes are", map[protocol.ID]map[protocol.Table]byte{o.id: all, honest: all, liar: noInfo, filler: noInfo}, 0, false},
		{"the filler lacks everything, later", map[protocol.ID]map[protocol.Table]byte{o.id: all, honest: all, liar: nothing, filler: nothing}, dht.MaxLife, false},
		{"both servers lie", map[protocol.ID]map[protocol.Table]byte{o.id: all, honest: nothing, liar: nothing, filler: nothing}, 0, false},
		{"the liar holds it up", map[protocol.ID]map[protocol.Table]byte{o.id: all, honest: all, liar: nothing, filler: all}, 0, false},
		{"the liar holds it up, later", map[protocol.ID]map[protocol.Table]byte{o.id: all, honest: all, liar: nothing, filler: all}, dht.MaxLife, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c.add(tc.later)
			defer c.add(-tc.later)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			if got := o.handOver.prove(ctx, &digestMesh{fakeMesh: mesh, holds: tc.holds, stop: stop}, pmap, mem); got != tc.proven {
				t.Errorf("proven: %v", got)
			}
		})
	}
}

// signedMap is a map of these placements signed by the operator.
func signedMap(t *testing.T, o *Operator, ps []partition.Placement) *partition.Map {
	t.Helper()
	keys, _, _ := o.Identity()
	sign := func(table protocol.Table, owner protocol.ID, v any) []byte {
		value, err := protocol.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := protocol.SignRecord(&protocol.Record{
			Table: table, Owner: owner, Signer: o.id, Epoch: 1, Sequence: 1, Issued: o.now(), Expires: o.now().Add(mapLife), Value: value,
		}, keys.Signing)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	var recs [][]byte
	for _, p := range ps {
		recs = append(recs, sign(protocol.TableSuperNode, p.ID, p.Value(1)))
	}
	hv, err := partition.Head(1, recs)
	if err != nil {
		t.Fatal(err)
	}
	m, err := partition.Build(sign(protocol.TableMapHead, partition.HeadOwner(o.root), hv), recs, func(*protocol.Record) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	return m
}
