package partition

import (
	"bytes"

	"culvert/protocol"
)

// Change is the newest record about one super-node: its place in the map, or the tombstone that took it out.
type Change struct {
	Owner  protocol.ID
	Epoch  uint64 // of the first map with this record
	Record []byte
}

// removal is the change that a tombstone makes; one that tells no epoch helps nobody.
func removal(r *protocol.Record) (Change, bool) {
	var v protocol.SuperNodeValue
	if protocol.Unmarshal(r.Value, &v) != nil || v.MapEpoch == 0 {
		return Change{}, false
	}
	return Change{Owner: r.Owner, Epoch: v.MapEpoch, Record: bytes.Clone(r.Raw())}, true
}

// Changes are what makes the map of an epoch into this one, in order of owner: all that has a record of a later epoch. Since 0
// it is the map itself. Tombstones that this map was not built with are missing: who then cannot make the map whole asks
// for all of it.
func (m *Map) Changes(since uint64) func(yield func(Change) bool) {
	return func(yield func(Change) bool) {
		for _, c := range m.changes {
			if since > 0 && c.Epoch <= since {
				continue
			}
			if since == 0 {
				if mem, ok := m.Member(c.Owner); !ok || !bytes.Equal(mem.Record, c.Record) {
					continue
				}
			}
			if !yield(c) {
				return
			}
		}
	}
}
