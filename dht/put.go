package dht

import (
	"bytes"
	"runtime"
	"time"

	"culvert/partition"
	"culvert/protocol"
)

// incoming is one Put on its way through Puts.
type incoming struct {
	v     *protocol.Verified
	put   protocol.Put
	r     *protocol.Record
	batch []*protocol.Record // r, and what comes along with it; none where it is decided
	taken Counts             // of r's domain, until the commit
	out   []protocol.Out
}

func (s *Server) put(now time.Time, v *protocol.Verified) []protocol.Out {
	return s.Puts(now, []*protocol.Verified{v}, nil)[0]
}

// Puts takes the records of many Puts in, each for itself but with one commit, after which they are answered. It calls wait,
// where there is one, once what remains is to wait for that.
func (s *Server) Puts(now time.Time, vs []*protocol.Verified, wait func()) [][]protocol.Out {
	l := make([]incoming, len(vs))
	records := make([]*protocol.Record, 0, 2*len(vs))
	coming := make(map[protocol.ID][]byte)
	for i, v := range vs {
		if l[i].v = v; !s.admits(v) {
			continue
		}
		s.check(now, &l[i], coming)
		runtime.Gosched() // a commit that everybody waits for must not wait until a whole batch of signatures is checked
		for _, r := range l[i].batch {
			records = append(records, r)
			if r.Table == protocol.TableNode && !r.Tombstone {
				coming[r.Owner] = r.Raw()
			}
		}
	}
	if wait != nil {
		wait()
	}
	var res []Result
	var err error
	if len(records) > 0 {
		ctx, cancel := s.commitContext()
		defer cancel()
		res, err = s.cfg.Store.Put(ctx, records)
	}
	outs := make([][]protocol.Out, len(vs))
	for i := range l {
		p := &l[i]
		s.reserved.release(p)
		switch n := len(p.batch); {
		case n == 0:
		case err != nil:
			s.count.add(dropStore)
			p.out = protocol.Reply(protocol.Stored{Status: protocol.StatusInternal})
		default:
			p.out = s.stored(now, p, res[:n])
			res = res[n:]
		}
		outs[i] = p.out
	}
	return outs
}

// check leaves in p what is to be stored, or an answer. What costs nothing is asked first and public-key work last: rate, shape,
// domain, range, key, table, expiry, revocation, version, signer, quota.
func (s *Server) check(now time.Time, p *incoming, coming map[protocol.ID][]byte) {
	v := p.v
	m, err := protocol.ParsePut(v.Payload)
	if err != nil {
		p.out = s.drop(dropMalformed)
		return
	}
	replicates := s.replicates(v.Sender)
	if !replicates && !s.rates.allow(now, v.Sender) {
		p.out = s.refuse(refusal{protocol.StatusLimit, putRefusedRate})
		return
	}
	r, err := protocol.ParseRecord(bytes.Clone(m.Record)) // the payload is only ours until we return
	if err != nil {
		p.out = s.drop(dropMalformed)
		return
	}
	switch {
	case !replicates && (v.Sender.Domain() != r.Owner.Domain() || v.Sender.Domain() != m.Key.Domain()):
		p.out = s.drop(dropForeignDomain)
		return
	case m.Forwarded && !replicates:
		p.out = s.drop(dropNotMember)
		return
	case !s.belongs(r, m):
		p.out = s.outside(v, dropOutside)
		return
	case !r.HasKey(m.Key) && !s.leaves(r, m.Key, now):
		p.out = s.refuse(refusal{protocol.StatusOwner, putRefusedKey})
		return
	}
	if ref := s.checkCheap(now, r); !ref.ok() {
		p.out = s.refuse(ref)
		return
	}
	if st, decided := s.held(r); decided {
		p.out = protocol.Reply(s.byMap(st, r, m.Key))
		return
	}
	if ref := s.checkSigner(now, r, v.Node, coming); !ref.ok() {
		p.out = s.refuse(ref)
		return
	}
	p.put, p.r, p.batch = m, r, []*protocol.Record{r}
	if cert := s.freshCertificate(now, v, r); cert != nil {
		p.batch = append(p.batch, cert)
	}
	ref := s.reserved.take(s, p)
	if !ref.ok() {
		s.collect(now) // what has expired goes first
		ref = s.reserved.take(s, p)
	}
	if !ref.ok() {
		p.out, p.batch = s.refuse(ref), nil
	}
}

// belongs reports whether r may be kept at its key. A certificate that a fellow passes on may lie outside: a NodeInfo that is
// kept here by another key rests on it.
func (s *Server) belongs(r *protocol.Record, m protocol.Put) bool {
	return r.Table.Everywhere() || s.keeps(m.Key) || r.Table == protocol.TableNode && m.Forwarded
}

func (s *Server) refuse(ref refusal) []protocol.Out {
	s.count.add(ref.reason)
	return protocol.Reply(protocol.Stored{Status: ref.status})
}

// leaves reports whether an older record of r's owner is held under k: a node that has moved replaces it there too.
func (s *Server) leaves(r *protocol.Record, k protocol.ID, now time.Time) bool {
	raw, err := s.cfg.Store.Get(r.Table, r.Owner, now)
	if err != nil {
		return false
	}
	old, err := protocol.ParseRecord(raw)
	return err == nil && old.HasKey(k)
}

// stored lets take effect what has been stored, passes it on and answers.
func (s *Server) stored(now time.Time, p *incoming, res []Result) []protocol.Out {
	v, m, r, batch := p.v, p.put, p.r, p.batch
	st := s.settle(now, r, res[0])
	if res[0].Outcome == Stored && ofMap(r.Table) {
		s.mapStored(now)
	}
	out := protocol.Reply(s.byMap(st, r, m.Key))
	if !s.belongs(r, m) {
		// The map changed meanwhile, and whoever took the range over may have fetched the last of it before the commit. He is
		// handed the record, but it is not confirmed.
		out = s.outside(v, dropOutside)
	}
	if res[0].Outcome != Stored || m.Forwarded {
		return out
	}
	for i := len(batch) - 1; i >= 0; i-- { // the certificate first: the record rests on it
		if res[i].Outcome == Stored {
			if i == 0 && s.stranger(r, m.Key) {
				for _, k := range r.Keys() {
					out = s.passOn(out, v.Sender, k, r)
				}
				continue
			}
			out = s.passOn(out, v.Sender, m.Key, batch[i])
			if i > 0 && batch[i].Owner.Position() != m.Key.Position() {
				out = s.passOn(out, v.Sender, batch[i].Owner, batch[i])
			}
		}
	}
	return out
}

// stranger reports whether this is an operator that takes r though the map gives k to others: it is the last resort, or the
// sender's map is of another day.
func (s *Server) stranger(r *protocol.Record, k protocol.ID) bool {
	m := s.Map()
	return s.cfg.Operator && !r.Table.Everywhere() && m != nil && !m.Keeps(s.cfg.Self, k)
}

// byMap is st with the map by which it holds. What a stranger has taken confirms nothing that readers will be told of where
// they ask.
func (s *Server) byMap(st protocol.Stored, r *protocol.Record, k protocol.ID) protocol.Stored {
	st.Map = s.epoch()
	if st.Status == protocol.StatusOK && s.stranger(r, k) {
		st.Status = protocol.StatusRange
	}
	return st
}

// freshCertificate is the sender's own Node record where it is not held: an owner's put brings it along, so that the others
// of the range can check what is passed on to them. It may belong to another range than the key of the put.
func (s *Server) freshCertificate(now time.Time, v *protocol.Verified, r *protocol.Record) *protocol.Record {
	if r.Table != protocol.TableNodeInfo || v.Sender != r.Owner {
		return nil
	}
	c, err := protocol.ParseRecord(v.Node.Record)
	if err != nil || c.Table != protocol.TableNode || c.Tombstone || c.Expired(now) {
		return nil
	}
	if held, ok, err := s.cfg.Store.Version(c.Table, c.Owner); err != nil || ok && !held.Less(VersionOf(c)) {
		return nil
	}
	return c
}

// settle counts an outcome and lets a stored record take effect.
func (s *Server) settle(now time.Time, r *protocol.Record, res Result) protocol.Stored {
	st := protocol.Stored{Epoch: res.Held.Epoch, Sequence: res.Held.Sequence}
	switch res.Outcome {
	case Stored:
		s.count.add(putStored)
		s.takeEffect(now, r)
	case Same:
		s.count.add(putSame)
	case Superseded:
		s.count.add(putSuperseded)
		st.Status = protocol.StatusSuperseded
	case NoRoom:
		s.count.add(putRefusedQuota)
		st.Status = protocol.StatusQuota
	case Conflict:
		s.count.add(putConflict)
		st.Status = protocol.StatusConflict
		if s.cfg.OnConflict != nil {
			s.cfg.OnConflict(r)
		}
	}
	return st
}

func (s *Server) takeEffect(now time.Time, r *protocol.Record) {
	switch r.Table {
	case protocol.TableRevocation:
		if v, ok := s.banned.Add(r); ok && s.cfg.OnRevocation != nil {
			s.cfg.OnRevocation(r, v)
		}
	case protocol.TableOperatorNode:
		if s.cfg.OnOperator != nil {
			s.cfg.OnOperator(r)
		}
	}
}

func ofMap(t protocol.Table) bool { return t == protocol.TableSuperNode || t == protocol.TableMapHead }

// mapStored makes what has been stored of a map the current one, if it is whole by now.
func (s *Server) mapStored(now time.Time) {
	if err := s.rebuildMap(now); err != nil {
		s.count.add(dropStore)
	}
}

// passOn hands r to the others who keep it.
func (s *Server) passOn(out []protocol.Out, sender, k protocol.ID, r *protocol.Record) []protocol.Out {
	m := s.Map()
	if m == nil {
		return out
	}
	var members []partition.Member
	if r.Table.Everywhere() {
		members = m.Members()
	} else {
		members = s.keeping(m, k)
	}
	if r.Table == protocol.TableNode {
		k = r.Owner
	}
	payload := protocol.Put{Key: k, Record: r.Raw(), Forwarded: true}.AppendPayload(nil)
	for _, mem := range members {
		if id := mem.Peer.ID; id != s.cfg.Self && id != sender {
			out = append(out, protocol.Out{To: id, Command: protocol.CmdPut, Payload: payload})
		}
	}
	return out
}
