package dht

import (
	"slices"

	"culvert/partition"
	"culvert/protocol"
)

// duty is what a server owes others besides what its map says: it follows from the maps that came before.
type duty struct {
	// former is what it served once and still has whole: those who took it over fetch the last of it from here, readers
	// and stores are sent away. It ends when the records are dropped.
	former []partition.Range
	// had is what it served before a map gave it more; the rest is not answered until Release: whoever left that rest may
	// have confirmed a store last that has not come here yet.
	had     []partition.Range
	waiting bool
	// earlier are the maps before, until Settled: their readers may still be answered by who has no newer one, so stores are
	// passed on to those too.
	earlier []*partition.Map
}

// maxEarlier bounds how many maps are remembered.
const maxEarlier = 3

// takeOverLocked makes m the current map.
func (s *Server) takeOverLocked(m *partition.Map) {
	var d duty
	if old := s.Map(); old != nil {
		before, was := old.Member(s.cfg.Self)
		after, is := m.Member(s.cfg.Self)
		last := s.duty.Load()
		served, serves := one(before.Range), one(after.Range)
		if !was {
			served = nil
		}
		if !is {
			serves = nil
		}
		d.former = without(merged(append(served, last.former...)...), serves)
		if len(d.former) > maxFormer {
			d.former = nil // nobody fetches from a member that is moved about like that
		}
		if last.waiting {
			served = common(served, last.had)
		}
		d.earlier = append([]*partition.Map{old}, last.earlier[:min(len(last.earlier), maxEarlier-1)]...)
		if s.holdsBack.Load() && was && len(without(serves, served)) > 0 {
			d.waiting, d.had = true, served
		}
	}
	s.duty.Store(&d)
	s.pmap.Store(m)
	if s.cfg.OnMap != nil {
		s.cfg.OnMap(m)
	}
}

// maxFormer bounds the ranges that are remembered.
const maxFormer = 8

// HoldBack makes the server keep silent about a range that a new map gives it, until Release: for one with a Replica, which
// fetches the last of it first.
func (s *Server) HoldBack() { s.holdsBack.Store(true) }

// Release ends the silence that the map of this epoch began.
func (s *Server) Release(epoch uint64) {
	s.mapMu.Lock()
	defer s.mapMu.Unlock()
	if d := s.duty.Load(); d.waiting && s.epoch() == epoch {
		s.duty.Store(&duty{former: d.former, earlier: d.earlier})
	}
}

// Settled says that the map of this epoch has reached everybody who can be reached.
func (s *Server) Settled(epoch uint64) {
	s.mapMu.Lock()
	defer s.mapMu.Unlock()
	if d := *s.duty.Load(); len(d.earlier) > 0 && s.epoch() == epoch {
		d.earlier = nil
		s.duty.Store(&d)
	}
}

// keeping are the members to which a record at k is passed on.
func (s *Server) keeping(m *partition.Map, k protocol.ID) []partition.Member {
	members := m.Keeping(k)
	for _, e := range s.duty.Load().earlier {
		for _, mem := range e.Serving(k) {
			if !s.Revoked(mem.Peer.ID) && !slices.ContainsFunc(members, func(x partition.Member) bool { return x.Peer.ID == mem.Peer.ID }) {
				members = append(slices.Clip(members), mem)
			}
		}
	}
	return members
}

// disown ends what is owed of ranges that others have taken over by the map of this epoch; false where there is another.
func (s *Server) disown(epoch uint64) bool {
	s.mapMu.Lock()
	defer s.mapMu.Unlock()
	if s.epoch() != epoch {
		return false
	}
	d := *s.duty.Load()
	d.former = nil
	s.duty.Store(&d)
	return true
}

// covers reports whether readers of k are answered here.
func (s *Server) covers(k protocol.ID) bool {
	if s.cfg.Operator {
		return true
	}
	m := s.Map()
	if m == nil || !m.Covers(s.cfg.Self, k) {
		return false
	}
	d := s.duty.Load()
	return !d.waiting || within(d.had, k.Position(), k.Position())
}

// keeps reports whether records at k belong here, be it that they are only being taken over.
func (s *Server) keeps(k protocol.ID) bool {
	if s.cfg.Operator {
		return true
	}
	m := s.Map()
	return m != nil && m.Keeps(s.cfg.Self, k)
}

// compares reports whether id may compare from…to of a table with what is held here, and fetch it. To a member that is an
// assurance: everything stored so far is here, and all that is stored from now on is passed on to him, because the map names
// him. So neither holds of a range that this node only fills; an operator may look at its digests.
func (s *Server) compares(id protocol.ID, t protocol.Table, from, to uint64, fetch bool) bool {
	if t.Everywhere() {
		return true
	}
	op := s.isOperator(id)
	m := s.Map()
	if m == nil {
		return s.cfg.Operator && op
	}
	if asker, ok := m.Member(id); !op && (!ok || !within(merged(asker.Range, asker.Fill), from, to)) {
		return false
	}
	if s.cfg.Operator {
		return true
	}
	self, _ := m.Member(s.cfg.Self)
	whole := s.duty.Load().former
	if self.Peer.ID == s.cfg.Self {
		whole = append(slices.Clone(whole), self.Range)
		if op && !fetch {
			whole = append(whole, self.Fill)
		}
	}
	return within(merged(whole...), from, to)
}

// Progress is how far a member is with what it takes over.
type Progress struct {
	Epoch      uint64 // of the map that says what
	Filled     bool
	Have, Want uint64
	Silent     []protocol.ID
}

// SetProgress is for the answer to TransferPartition.
func (s *Server) SetProgress(p Progress) { s.progress.Store(&p) }

// ranged are the tables that are not everywhere, what others rest on first.
var ranged = [...]protocol.Table{protocol.TableNode, protocol.TableEndDevice, protocol.TableNodeInfo}

// counted is how many (key, record) pairs are held of ranges.
func counted(st Digester, l []partition.Range) uint64 {
	var n uint64
	for _, g := range l {
		for _, t := range ranged {
			n += st.Digest(t, g.From, g.To).Count
		}
	}
	return n
}

// transferred answers TransferPartition.
func (s *Server) transferred() protocol.PartitionTransferred {
	out := protocol.PartitionTransferred{Epoch: s.epoch()}
	p, m := s.progress.Load(), s.Map()
	if p == nil || m == nil || p.Epoch != out.Epoch {
		return out
	}
	out.Filled, out.Want = p.Filled, p.Want
	out.Silent = p.Silent[:min(len(p.Silent), protocol.MaxSilent)]
	if self, ok := m.Member(s.cfg.Self); ok {
		out.Have = counted(s.cfg.Store, without(one(self.Fill), one(self.Range)))
	}
	return out
}
