package dht_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"culvert/dht"
	"culvert/dht/storetest"
	"culvert/partition"
	"culvert/protocol"
)

// longList is a domain's devices, one to a page.
type longList struct {
	raws [][]byte
	ids  []protocol.ID
}

func newLongList(t *testing.T, w *storetest.World, n int) (l longList) {
	t.Helper()
	for i := range n {
		l.raws = append(l.raws, w.Device(7, fmt.Sprint("device-", i), 1))
	}
	slices.SortFunc(l.raws, func(a, b []byte) int { return storetest.Parse(t, a).Owner.Compare(storetest.Parse(t, b).Owner) })
	for _, raw := range l.raws {
		l.ids = append(l.ids, storetest.Parse(t, raw).Owner)
	}
	return l
}

// answering is what somebody answers, after how long.
type answering = func(protocol.Payload) (time.Duration, protocol.Payload)

// page is what an honest member answers.
func (l longList) page(q protocol.Payload) protocol.Payload {
	i := 0
	if after := q.(protocol.GetEndDevices).After; !after.IsZero() {
		i = slices.Index(l.ids, after) + 1
	}
	r := protocol.RecordList{Records: l.raws[i : i+1]}
	if i+1 < len(l.ids) {
		r.Next = l.ids[i]
	}
	return protocol.EndDevices{RecordList: r}
}

// A list whose pages take longer than a wave, each of them in time, is read to its end: by the members, and by the operator
// only where they take very long; who gives it is not blamed. One who gives page after page keeps nobody from another's list.
func TestLongList(t *testing.T) {
	w := storetest.NewWorld(t)
	ms := supers(w, 3)
	short, long := newLongList(t, w, 15), newLongList(t, w, 40)
	const far = 200 * time.Millisecond // a page; a wave is 500
	slow := func(l longList) answering {
		return func(q protocol.Payload) (time.Duration, protocol.Payload) { return far, l.page(q) }
	}
	silent := func(protocol.Payload) (time.Duration, protocol.Payload) { return 0, nil }
	drips := func(q protocol.Payload) (time.Duration, protocol.Payload) {
		p := long.page(q).(protocol.EndDevices)
		if p.Next.IsZero() {
			p.Next = protocol.NewID(7, protocol.Hash{0: 0xff, 31: byte(rand.N(256))})
		}
		return 490 * time.Millisecond, p
	}
	for _, c := range []struct {
		name     string
		members  []answering
		operator answering
		want     int
		asked    bool // the operator is
		limit    time.Duration
		honest   bool
	}{
		{"all far away", []answering{slow(short), slow(short), slow(short)}, silent, 15, false, 15*far + time.Second, true},
		{"one of them", []answering{silent, slow(short), silent}, silent, 15, false, 15*far + 2*time.Second, false},
		{"very long", []answering{slow(long), slow(long), slow(long)}, silent, 40, true, 40*far + time.Second, true},
		{"one drips", []answering{drips, slow(short), silent}, silent, 15, false, 15*far + 2*time.Second, false},
		{"one drips, the operator has it", []answering{drips, silent, silent}, slow(short), 15, true, 10 * time.Second, false},
	} {
		for seed := range uint64(20) {
			s := &sim{now: start, members: ms}
			s.answer = func(peer protocol.ID, q protocol.Payload) (time.Duration, protocol.Payload) {
				if i := slices.IndexFunc(ms, func(m partition.Member) bool { return m.Peer.ID == peer }); i >= 0 {
					return c.members[i](q)
				}
				return c.operator(q)
			}
			cfg := lookupOf(w, ms, w.Node(7, "n"), rand.New(rand.NewPCG(seed, 2)))
			cfg.Target = dht.Target{Kind: dht.FindDevices, Key: protocol.NewID(7, protocol.Hash{})}
			l := dht.NewLookup(cfg)
			took := s.run(t, l)
			recs, err := l.Result()
			if err != nil || len(recs) != c.want || slices.Contains(s.asked, w.OpID) != c.asked || took > c.limit {
				t.Fatalf("%s, seed %d: %d records, %d refreshes, %v: %v", c.name, seed, len(recs), s.refresh, took, err)
			}
			for _, m := range ms {
				if c.honest && cfg.Scores.Suspect(m.Peer.ID, s.now) {
					t.Fatalf("%s, seed %d: %s is suspected", c.name, seed, m.Peer.ID.Short())
				}
			}
		}
	}
}
