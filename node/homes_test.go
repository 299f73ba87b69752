package node

import (
	"slices"
	"testing"
	"time"

	"culvert/protocol"
)

func TestChooseHomes(t *testing.T) {
	peer := func(d protocol.Domain, fill byte) protocol.Peer { return protocol.Peer{ID: testID(d, fill)} }
	a, b, c, op := peer(9, 1), peer(9, 2), peer(9, 3), peer(protocol.OperatorDomain, 4)
	good := func(p protocol.Peer) home { return home{peer: p, rtt: time.Millisecond} }
	bad := func(p protocol.Peer) home { return home{peer: p, rtt: time.Millisecond, misses: homeMisses} }
	for _, x := range []struct {
		name    string
		have    []home
		members []protocol.Peer
		want    []protocol.Peer
	}{
		{"at first", nil, []protocol.Peer{a, b, c, op}, []protocol.Peer{a, b}},
		{"the operator alone", nil, []protocol.Peer{op}, []protocol.Peer{op}},
		{"good ones stay, whatever the order", []home{good(c)}, []protocol.Peer{a, b, c, op}, []protocol.Peer{c, a}},
		{"and nothing changes by another order", []home{good(b), good(a)}, []protocol.Peer{a, b, c, op}, []protocol.Peer{b, a}},
		{"the operator goes when there are others", []home{good(op), good(a)}, []protocol.Peer{a, b, op}, []protocol.Peer{a, b}},
		{"and stays while there are not", []home{good(op), good(a)}, []protocol.Peer{a, op}, []protocol.Peer{a, op}},
		{"a silent one goes", []home{bad(a), good(b)}, []protocol.Peer{a, b, c}, []protocol.Peer{b, c}},
		{"one that left the map goes", []home{good(a), good(b)}, []protocol.Peer{b, c}, []protocol.Peer{b, c}},
		{"nobody", []home{good(a)}, nil, nil},
	} {
		t.Run(x.name, func(t *testing.T) {
			var got []protocol.Peer
			for _, h := range choose(x.have, x.members) {
				got = append(got, h.peer)
			}
			if !slices.Equal(got, x.want) {
				t.Errorf("got %v, want %v", got, x.want)
			}
		})
	}
}
