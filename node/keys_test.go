package node

import (
	"slices"
	"testing"

	client "culvert/node/enrol"
	"culvert/protocol"
	"culvert/protocol/enrol"
)

// Keys that an answer lacks stay readable, two of them; the others and none twice.
func TestKeysOfBeforeAreKept(t *testing.T) {
	keys := func(epochs ...uint32) (l []enrol.DomainKey) {
		for _, e := range epochs {
			l = append(l, enrol.DomainKey{Epoch: e})
		}
		return l
	}
	var f membershipFile
	for _, c := range []struct{ answer, want []uint32 }{
		{[]uint32{1}, []uint32{1}},
		{[]uint32{2, 1}, []uint32{2, 1}},
		{[]uint32{4, 3}, []uint32{4, 3, 2, 1}},
		{[]uint32{1000, 3}, []uint32{1000, 3, 4, 2}},
		{[]uint32{1001, 1000}, []uint32{1001, 1000, 4, 3}},
	} {
		f.take(&client.Membership{Node: &protocol.CertifiedNode{}, Secrets: enrol.Secrets{Keys: keys(c.answer...)}})
		if !slices.Equal(f.Secrets.Keys, keys(c.want...)) {
			t.Errorf("after %v: %v", c.answer, f.Secrets.Keys)
		}
	}
}
