package dht

import (
	"bytes"
	"time"

	"culvert/partition"
	"culvert/protocol"
)

// put takes a record in. What costs nothing is asked first and public-key work last: rate, shape, domain, range, key, table,
// expiry, revocation, version, signer, quota. It answers after the commit.
func (s *Server) put(now time.Time, v *protocol.Verified) []protocol.Out {
	m, err := protocol.ParsePut(v.Payload)
	if err != nil {
		return s.drop(dropMalformed)
	}
	replicates := s.replicates(v.Sender)
	if !replicates && !s.rates.allow(now, v.Sender) {
		return s.refuse(refusal{protocol.StatusLimit, putRefusedRate})
	}
	r, err := protocol.ParseRecord(bytes.Clone(m.Record)) // the payload is only ours until we return
	if err != nil {
		return s.drop(dropMalformed)
	}
	switch {
	case !replicates && (v.Sender.Domain() != r.Owner.Domain() || v.Sender.Domain() != m.Key.Domain()):
		return s.drop(dropForeignDomain)
	case m.Forwarded && !replicates:
		return s.drop(dropNotMember)
	case !s.belongs(r, m):
		return s.outside(v, dropOutside)
	case !r.HasKey(m.Key) && !s.leaves(r, m.Key, now):
		return s.refuse(refusal{protocol.StatusOwner, putRefusedKey})
	}
	if ref := s.checkCheap(now, r); !ref.ok() {
		return s.refuse(ref)
	}
	if st, decided := s.held(r); decided {
		return protocol.Reply(s.byMap(st, r, m.Key))
	}
	if ref := s.checkSigner(now, r, v.Node); !ref.ok() {
		return s.refuse(ref)
	}
	if ref := s.checkQuota(r); !ref.ok() {
		if s.collect(now); !s.checkQuota(r).ok() { // what has expired goes first
			return s.refuse(ref)
		}
	}
	return s.storeAndPassOn(now, v, m, r)
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

func (s *Server) storeAndPassOn(now time.Time, v *protocol.Verified, m protocol.Put, r *protocol.Record) []protocol.Out {
	batch := []*protocol.Record{r}
	if cert := s.freshCertificate(now, v, r); cert != nil {
		batch = append(batch, cert)
	}
	ctx, cancel := s.commitContext()
	defer cancel()
	res, err := s.cfg.Store.Put(ctx, batch)
	if err != nil {
		s.count.add(dropStore)
		return protocol.Reply(protocol.Stored{Status: protocol.StatusInternal})
	}
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
