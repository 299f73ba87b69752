package operator

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"culvert/operator/care"
	"culvert/operator/sqlite"
	"culvert/partition"
	"culvert/protocol"
)

const (
	// A spy announces itself as agents do, from some time after its first question on.
	spyAnnounce   = 5 * time.Minute
	spyLife       = 10 * time.Minute
	firstAnnounce = time.Minute
	// spyAnnouncers bounds the announcements begun in one tick, and spyIdle is how long one goes on that asks nothing any more.
	spyAnnouncers = 4
	spyIdle       = 30 * time.Minute
	// asideOf questions for records there is one for something else that agents want to know.
	asideOf = 6
)

// told is what a spy has announced. It is where nobody looks: its locations are nobody's.
type told struct {
	due      time.Time // of the next announcement
	used     time.Time
	sequence uint64
	last     []announcement // newest last, two of them
}

// announcement is one version, and who has confirmed it.
type announcement struct {
	record *protocol.Record
	at     time.Time
	has    map[protocol.ID]bool
}

// announceDue are the domains whose spies are to announce themselves now.
func (s *spies) announceDue(now time.Time) (ds []protocol.Domain) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for d, p := range s.of {
		if len(ds) == spyAnnouncers {
			break
		}
		if !now.Before(p.told.due) && now.Sub(p.told.used) < spyIdle {
			p.told.due = now.Add(spyAnnounce)
			ds = append(ds, d)
		}
	}
	return ds
}

// announce stores where a spy is at two of those who serve each of its keys, as every node does.
func (a *auditor) announce(ctx context.Context, mesh Mesh, pmap *partition.Map, d protocol.Domain) error {
	p, err := a.spies.get(ctx, d)
	if err != nil {
		return err
	}
	r, err := a.selfDescription(ctx, p, pmap, d)
	if err != nil {
		return err
	}
	n := announcement{record: r, at: a.o.now(), has: make(map[protocol.ID]bool)}
	for _, k := range r.Keys() {
		servers := slices.DeleteFunc(slices.Clone(pmap.Serving(k)), func(m partition.Member) bool { return m.Peer.ID == a.o.id })
		rand.Shuffle(len(servers), func(i, j int) { servers[i], servers[j] = servers[j], servers[i] })
		for _, m := range servers[:min(len(servers), 2)] {
			cctx, cancel := context.WithTimeout(ctx, spyTimeout)
			v, err := mesh.AskAs(cctx, p.keys, p.record, m.Peer, protocol.Put{Key: k, Record: r.Raw()})
			cancel()
			if err != nil || v.Command != protocol.CmdStored {
				continue
			}
			if st, err := protocol.ParseStored(v.Payload); err == nil && st.Status == protocol.StatusOK && k == r.Owner {
				n.has[m.Peer.ID] = true
			}
		}
	}
	a.spies.mu.Lock()
	defer a.spies.mu.Unlock()
	if p.told.last = append(p.told.last, n); len(p.told.last) > 2 {
		p.told.last = p.told.last[1:]
	}
	return nil
}

// selfDescription is a NodeInfo such as an agent behind a router has. Only its own domain could read it.
func (a *auditor) selfDescription(ctx context.Context, p spy, pmap *partition.Map, d protocol.Domain) (*protocol.Record, error) {
	id := protocol.NodeID(d, p.keys.Signing.Public())
	var sealed []byte
	var key protocol.Hash
	err := a.o.db.View(ctx, func(tx *sqlite.Tx) error {
		dom, err := tx.Domain(d)
		if err != nil {
			return err
		}
		given, err := a.o.secrets(tx, dom)
		if err != nil {
			return err
		}
		secrets, err := given.At(a.o.now())
		if err != nil {
			return err
		}
		place := sha256.Sum256(a.o.keys.Signing.Sign(fmt.Appendf(nil, "culvert 1 spy's location\x00%08x", uint32(d))))
		key = secrets.LocationKey(place)
		h := id.Hash()
		v := protocol.NodeInfoValue{
			Name: fmt.Sprintf("node-%x", h[:4]), Tunnel: true, Locations: []protocol.Hash{place},
			Candidates: []protocol.Candidate{{
				Kind: protocol.CandidateHost, Protocol: protocol.UDP, Priority: 250,
				Addr: protocol.AddrOf(netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 168, h[4], h[5]}), 7700)),
			}},
		}
		for _, m := range pmap.Serving(id) {
			if len(v.Homes) < 2 && m.Peer.ID != a.o.id {
				v.Homes = append(v.Homes, m.Peer.ID)
			}
		}
		plain, err := protocol.Marshal(v)
		if err == nil {
			sealed, err = secrets.SealValue(a.o.rand, protocol.TableNodeInfo, id, plain)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	now := a.o.now()
	a.spies.mu.Lock()
	p.told.sequence = max(p.told.sequence+1, uint64(max(now.UnixMilli(), 1)))
	r := &protocol.Record{
		Table: protocol.TableNodeInfo, Owner: id, Signer: id, Sequence: p.told.sequence, Issued: now.Truncate(time.Millisecond),
		Expires: now.Add(spyLife).Truncate(time.Millisecond), Lookups: []protocol.Hash{key}, Value: sealed,
	}
	a.spies.mu.Unlock()
	raw, err := protocol.SignRecord(r, p.keys.Signing)
	if err != nil {
		return nil, err
	}
	return protocol.ParseRecord(raw)
}

// own is what a spy of the domain has announced itself so long ago that all who serve it must have it. certain: the super-node has
// confirmed it, so that its being there is nobody's word.
func (s *spies) own(d protocol.Domain, mem protocol.ID, now time.Time) (r *protocol.Record, certain bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.of[d]
	if !ok {
		return nil, false
	}
	for _, n := range slices.Backward(p.told.last) {
		if now.Sub(n.at) >= care.Settled && len(n.has) > 0 && n.record.Expires.Sub(now) >= lasting {
			return n.record, n.has[mem]
		}
	}
	return nil, false
}
