package partition

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"culvert/protocol"
	"culvert/protocol/key"
)

var (
	// ErrIncomplete marks a set of SuperNode records that is not the one its MapHead names.
	ErrIncomplete = errors.New("partition: records are not the map that its head names")
	// ErrMap marks a record that has no place in a map.
	ErrMap = errors.New("partition: not a valid map record")
)

// Keeps reports whether records at key belong at m: because it serves them, or is to.
func (m Member) Keeps(key protocol.ID) bool {
	return m.Range.ContainsKey(key) || m.Fill.ContainsKey(key)
}

// Member is one server of a range.
type Member struct {
	Peer      protocol.Peer // Addr is the first of Addresses
	Addresses []netip.AddrPort
	Range     Range // what it serves
	Fill      Range // what it is to serve next and takes over meanwhile
	Isolated  bool  // keeps its range, and readers pass it by
	Domain    protocol.Domain
	Epoch     uint64 // of the map that placed it there
	Record    []byte // the SuperNode record, as signed
}

// Map says who serves which range. It never changes; a new epoch is a new Map.
type Map struct {
	epoch    uint64
	head     []byte
	members  []Member // in order of ID
	segments []segment
	changes  []Change
}

type segment struct {
	to      uint64 // last position; the first is one past the segment before
	serving []Member
	keeping []Member
}

// HeadOwner is the owner of the MapHead record of the mesh beneath this root.
func HeadOwner(root protocol.Hash) protocol.ID { return protocol.NewID(protocol.OperatorDomain, root) }

// HeadHash is the hash that a MapHead carries over these SuperNode records, in whatever order they are given.
func HeadHash(records [][]byte) (protocol.Hash, error) {
	rs := make([]*protocol.Record, len(records))
	for i, raw := range records {
		r, err := protocol.ParseRecord(raw)
		if err != nil {
			return protocol.Hash{}, err
		}
		rs[i] = r
	}
	return headHash(rs), nil
}

func headHash(rs []*protocol.Record) protocol.Hash {
	rs = slices.Clone(rs)
	slices.SortFunc(rs, func(a, b *protocol.Record) int { return a.Owner.Compare(b.Owner) })
	h := sha256.New()
	for _, r := range rs {
		s := sha256.Sum256(r.Raw())
		h.Write(s[:])
	}
	return protocol.Hash(h.Sum(nil))
}

// Head is the value of the MapHead over these SuperNode records.
func Head(epoch uint64, records [][]byte) (protocol.MapHeadValue, error) {
	h, err := HeadHash(records)
	return protocol.MapHeadValue{Epoch: epoch, Count: uint64(len(records)), Hash: h}, err
}

// Build puts a map together. check proves each record's signer (Trust.CheckStatic at the reader's time); anything that does
// not belong makes it fail. Tombstones among records make no members: they are kept for Changes.
func Build(head []byte, records [][]byte, check func(*protocol.Record) error) (*Map, error) {
	return Update(nil, head, records, check)
}

// Update is Build for who holds an older map: records may be the whole of the new one, or only what has changed since,
// tombstones included. What old has already is not checked again.
func Update(old *Map, head []byte, records [][]byte, check func(*protocol.Record) error) (*Map, error) {
	hr, err := protocol.ParseRecord(head)
	if err != nil {
		return nil, err
	}
	if hr.Table != protocol.TableMapHead || hr.Tombstone || hr.Owner.Domain() != protocol.OperatorDomain {
		return nil, fmt.Errorf("%w: head", ErrMap)
	}
	if err := check(hr); err != nil {
		return nil, fmt.Errorf("partition: head: %w", err)
	}
	var hv protocol.MapHeadValue
	if err := protocol.Unmarshal(hr.Value, &hv); err != nil {
		return nil, err
	}
	m := &Map{epoch: hv.Epoch, head: bytes.Clone(head)}
	rs := make([]*protocol.Record, 0, len(records))
	touched := make(map[protocol.ID]bool, len(records))
	for _, raw := range records {
		r, err := protocol.ParseRecord(raw)
		if err != nil {
			return nil, err
		}
		if r.Table != protocol.TableSuperNode {
			return nil, fmt.Errorf("%w: %s", ErrMap, r.Table)
		}
		if touched[r.Owner] = true; !r.Tombstone {
			rs = append(rs, r)
		} else if c, ok := removal(r); ok {
			m.changes = append(m.changes, c)
		}
	}
	whole := func() bool { return uint64(len(rs)) == hv.Count && headHash(rs) == hv.Hash }
	if !whole() && old != nil {
		for i := range old.members {
			if touched[old.members[i].Peer.ID] {
				continue
			}
			r, err := protocol.ParseRecord(old.members[i].Record)
			if err != nil {
				return nil, err
			}
			rs = append(rs, r)
		}
	}
	if !whole() {
		return nil, fmt.Errorf("%w: %d records for epoch %d of %d", ErrIncomplete, len(rs), hv.Epoch, hv.Count)
	}
	for _, r := range rs {
		if old != nil {
			if mem, ok := old.Member(r.Owner); ok && bytes.Equal(mem.Record, r.Raw()) {
				m.members = append(m.members, mem)
				continue
			}
		}
		if err := check(r); err != nil {
			return nil, fmt.Errorf("partition: super-node %s: %w", r.Owner.Short(), err)
		}
		mem, err := member(r)
		if err != nil {
			return nil, err
		}
		m.members = append(m.members, mem)
	}
	slices.SortFunc(m.members, func(a, b Member) int { return a.Peer.ID.Compare(b.Peer.ID) })
	for i := 1; i < len(m.members); i++ {
		if m.members[i].Peer.ID == m.members[i-1].Peer.ID {
			return nil, fmt.Errorf("%w: %s twice", ErrMap, m.members[i].Peer.ID.Short())
		}
	}
	for i := range m.members {
		m.changes = append(m.changes, Change{m.members[i].Peer.ID, m.members[i].Epoch, m.members[i].Record})
	}
	slices.SortFunc(m.changes, func(a, b Change) int { return a.Owner.Compare(b.Owner) })
	m.segments = cut(m.members)
	return m, nil
}

// CheckMember proves that r is a well-formed entry of a map: that its value is sound and its owner is its key's ID.
func CheckMember(r *protocol.Record) error {
	_, err := member(r)
	return err
}

// PlacementOf is the placement that r records.
func PlacementOf(r *protocol.Record) (Placement, error) {
	m, err := member(r)
	c := Candidate{ID: m.Peer.ID, Signing: m.Peer.Signing, Sealing: m.Peer.Sealing, Addresses: m.Addresses}
	return Placement{Candidate: c, Range: m.Range, Fill: m.Fill, Isolated: m.Isolated}, err
}

func member(r *protocol.Record) (Member, error) {
	var v protocol.SuperNodeValue
	if err := protocol.Unmarshal(r.Value, &v); err != nil {
		return Member{}, err
	}
	if err := key.CheckPublic(v.Signing); err != nil {
		return Member{}, err
	}
	rg, fill := Range{v.From, v.To}, Range{v.FillFrom, v.FillTo}
	if r.Owner != protocol.NodeID(r.Owner.Domain(), v.Signing) || !rg.Valid() && !fill.Valid() {
		return Member{}, fmt.Errorf("%w: %s", ErrMap, r.Owner.Short())
	}
	m := Member{
		Peer:  protocol.Peer{ID: r.Owner, Signing: v.Signing, Sealing: v.Sealing},
		Range: rg, Fill: fill, Isolated: v.Isolated, Epoch: v.MapEpoch, Domain: r.Owner.Domain(), Record: bytes.Clone(r.Raw()),
	}
	for _, a := range v.Addresses {
		if a.IsValid() {
			m.Addresses = append(m.Addresses, a.AddrPort)
		}
	}
	if len(m.Addresses) == 0 {
		return Member{}, fmt.Errorf("%w: %s has no address", ErrMap, r.Owner.Short())
	}
	m.Peer.Addr = m.Addresses[max(slices.IndexFunc(m.Addresses, func(a netip.AddrPort) bool { return !protocol.StreamsOnly(a) }), 0)]
	return m, nil
}

// cut finds the positions at which the set of servers changes, so that a look-up is one binary search.
func cut(members []Member) []segment {
	ends := []uint64{Whole().To}
	for _, m := range members {
		for _, g := range []Range{m.Range, m.Fill} {
			if !g.Valid() {
				continue
			}
			ends = append(ends, g.To)
			if g.From > 0 {
				ends = append(ends, g.From-1)
			}
		}
	}
	slices.Sort(ends)
	ends = slices.Compact(ends)
	segs := make([]segment, len(ends))
	for i, to := range ends {
		segs[i].to = to
	}
	// Each member touches the segments of its own ranges alone, so that many ranges of few members stay cheap.
	for i := range members {
		m := &members[i]
		each := func(g Range, fn func(*segment)) {
			if !g.Valid() {
				return
			}
			for k, _ := slices.BinarySearch(ends, g.From); k < len(ends) && ends[k] <= g.To; k++ {
				fn(&segs[k])
			}
		}
		each(m.Range, func(s *segment) {
			if !m.Isolated {
				s.serving = append(s.serving, *m)
			}
			s.keeping = append(s.keeping, *m)
		})
		each(m.Fill, func(s *segment) {
			if !m.Range.Contains(s.to) {
				s.keeping = append(s.keeping, *m)
			}
		})
	}
	return segs
}

// Epoch numbers the map; a higher one replaces it.
func (m *Map) Epoch() uint64 { return m.epoch }

// Head is the MapHead record, as signed.
func (m *Map) Head() []byte { return m.head }

// Members are all servers, in order of ID. The caller does not change them.
func (m *Map) Members() []Member { return m.members }

// Serving are the members whose range holds key and whom readers ask, in order of ID. The caller does not change them.
func (m *Map) Serving(key protocol.ID) []Member { return m.segment(key).serving }

// Keeping are the members to which records at key are passed on: those who serve them, those who are to and the isolated, in
// order of ID.
// The caller does not change them.
func (m *Map) Keeping(key protocol.ID) []Member { return m.segment(key).keeping }

func (m *Map) segment(key protocol.ID) *segment {
	i, _ := slices.BinarySearchFunc(m.segments, key.Position(), func(s segment, p uint64) int {
		if s.to < p {
			return -1
		}
		return 1
	})
	return &m.segments[i] // the last segment ends at the last position
}

// Part is a run of positions with the same members.
type Part struct {
	Range   Range
	Serving []Member // as in Map.Serving
}

// Parts cuts r where those who serve it change.
func (m *Map) Parts(r Range) []Part {
	var out []Part
	from := uint64(0)
	for _, s := range m.segments {
		if both, ok := r.Intersect(Range{from, s.to}); ok {
			out = append(out, Part{both, s.serving})
		}
		from = s.to + 1
	}
	return out
}

// Sharing are the members that serve some of r, the isolated too, in order of ID.
func (m *Map) Sharing(r Range) []Member {
	var out []Member
	i, _ := slices.BinarySearchFunc(m.segments, r.From, func(s segment, p uint64) int { return cmp.Compare(s.to, p) })
	for ; r.Valid() && i < len(m.segments); i++ {
		for _, mem := range m.segments[i].keeping {
			if overlaps(mem.Range, r) {
				out = append(out, mem)
			}
		}
		if m.segments[i].to >= r.To {
			break
		}
	}
	slices.SortFunc(out, func(a, b Member) int { return a.Peer.ID.Compare(b.Peer.ID) })
	return slices.CompactFunc(out, func(a, b Member) bool { return a.Peer.ID == b.Peer.ID })
}

// Member finds a member by ID.
func (m *Map) Member(id protocol.ID) (Member, bool) {
	i, ok := slices.BinarySearchFunc(m.members, id, func(a Member, id protocol.ID) int { return a.Peer.ID.Compare(id) })
	if !ok {
		return Member{}, false
	}
	return m.members[i], true
}

// Keeps reports whether self keeps records at key.
func (m *Map) Keeps(self, key protocol.ID) bool {
	mem, ok := m.Member(self)
	return ok && mem.Keeps(key)
}

// Covers reports whether self serves key.
func (m *Map) Covers(self, key protocol.ID) bool {
	mem, ok := m.Member(self)
	return ok && mem.Range.ContainsKey(key)
}
