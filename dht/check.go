package dht

import (
	"bytes"
	"errors"
	"time"

	"culvert/partition"
	"culvert/protocol"
)

// refusal is why a record may not be stored.
type refusal struct {
	status protocol.Status
	reason reason
}

var accepted = refusal{}

func (r refusal) ok() bool { return r.reason == 0 }

// checkCheap is all that can be said of a record without public-key work and without the store.
func (s *Server) checkCheap(now time.Time, r *protocol.Record) refusal {
	if r.Tombstone && !mayBeWithdrawn(r.Table) {
		return refusal{protocol.StatusPolicy, putRefusedTable}
	}
	if r.Expired(now) {
		return refusal{protocol.StatusExpired, putRefusedExpiry}
	}
	if r.Table == protocol.TableNodeInfo && (r.Expires.Sub(r.Issued) > MaxLife || r.Issued.After(now.Add(MaxSkew))) {
		return refusal{protocol.StatusExpired, putRefusedExpiry}
	}
	// What is withdrawn may be taken note of; an operator's word about the revoked comes in Revocation records.
	if !r.Tombstone && !r.Table.Everywhere() && s.Revoked(r.Owner) {
		return refusal{protocol.StatusRevoked, putRefusedRevoked}
	}
	return accepted
}

// mayBeWithdrawn: the map's head and revocations never shrink, they are only replaced. An operator that is withdrawn is retired.
func mayBeWithdrawn(t protocol.Table) bool {
	switch t {
	case protocol.TableNode, protocol.TableNodeInfo, protocol.TableEndDevice, protocol.TableSuperNode, protocol.TableOperatorNode:
		return true
	}
	return false
}

// checkSigner proves that whoever signed r may write it. from is the sender's certificate, which may be the owner's; coming are
// certificates that have been checked and will be stored with r or not at all.
func (s *Server) checkSigner(now time.Time, r *protocol.Record, from *protocol.CertifiedNode, coming map[protocol.ID][]byte) refusal {
	bad := refusal{protocol.StatusOwner, putRefusedSigner}
	var err error
	switch r.Table {
	case protocol.TableNodeInfo:
		if from == nil || from.ID != r.Owner {
			raw := coming[r.Owner]
			if raw == nil {
				if raw, err = s.cfg.Store.Get(protocol.TableNode, r.Owner, now); err != nil {
					return bad
				}
			}
			if from, err = s.certs.check(s.cfg.Trust, raw, r.Owner, now); err != nil {
				return bad
			}
		}
		err = protocol.CheckOwned(r, from, now)
	case protocol.TableOperatorNode:
		err = s.cfg.Trust.AddOperator(r.Raw(), s.cfg.RootKey, now)
	case protocol.TableNode:
		if r.Tombstone {
			err = s.cfg.Trust.CheckStatic(r, now)
		} else {
			_, err = s.cfg.Trust.CheckNode(r.Raw(), now)
		}
	default:
		if err = s.cfg.Trust.CheckStatic(r, now); err == nil {
			err = checkValue(r)
		}
	}
	if err != nil {
		if errors.Is(err, protocol.ErrRecordExpired) {
			return refusal{protocol.StatusExpired, putRefusedExpiry}
		}
		return bad
	}
	return accepted
}

// checkValue looks at the readable values of what an operator signed: a mistake there must not spread.
func checkValue(r *protocol.Record) error {
	if r.Tombstone {
		return nil
	}
	switch r.Table {
	case protocol.TableSuperNode:
		return partition.CheckMember(r)
	case protocol.TableMapHead:
		if r.Owner.Domain() != protocol.OperatorDomain {
			return partition.ErrMap
		}
		var v protocol.MapHeadValue
		return protocol.Unmarshal(r.Value, &v)
	case protocol.TableRevocation:
		_, err := revocationValue(r)
		return err
	}
	return nil
}

// held compares r with what is held before any signature is looked at: repeats and leftovers are most of what a busy range
// sees.
func (s *Server) held(r *protocol.Record) (st protocol.Stored, decided bool) {
	v, ok, err := s.cfg.Store.Version(r.Table, r.Owner)
	if err != nil || !ok {
		return st, false
	}
	st = protocol.Stored{Epoch: v.Epoch, Sequence: v.Sequence}
	switch mine := VersionOf(r); {
	case mine.Less(v):
		s.count.add(putSuperseded)
		st.Status = protocol.StatusSuperseded
		return st, true
	case mine == v:
		raw, err := s.cfg.Store.Get(r.Table, r.Owner, r.Issued)
		if err == nil && bytes.Equal(raw, r.Raw()) {
			s.count.add(putSame)
			return st, true
		}
	}
	return st, false
}
