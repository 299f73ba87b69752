package dht_test

import (
	"errors"
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

// sim answers a machine's questions under a virtual clock.
type sim struct {
	now     time.Time
	answer  func(peer protocol.ID, p protocol.Payload) (after time.Duration, reply protocol.Payload) // nil reply: silence
	members []partition.Member                                                                       // after a refresh
	epoch   uint64
	placed  []dht.Placed
	asked   []protocol.ID
	refresh int
}

type stepper interface {
	Step(time.Time, dht.Event) []dht.Action
	Done() bool
	Deadline() time.Time
}

type pending struct {
	at time.Time
	e  dht.Event
}

// run returns how long the machine took.
func (s *sim) run(t testing.TB, m stepper) time.Duration {
	t.Helper()
	began := s.now
	var queue []pending
	perform := func(acts []dht.Action) {
		for _, a := range acts {
			if a.Kind == dht.ActRefresh {
				s.refresh++
				queue = append(queue, pending{s.now.Add(10 * time.Millisecond), dht.Event{Kind: dht.EventMap, Members: s.members, Epoch: s.epoch, Placed: s.placed}})
				continue
			}
			s.asked = append(s.asked, a.Peer.ID)
			d, reply := s.answer(a.Peer.ID, a.Payload)
			if reply == nil {
				continue
			}
			b, err := protocol.AppendPayload(nil, reply)
			if err != nil {
				t.Fatal(err)
			}
			queue = append(queue, pending{s.now.Add(d), dht.Event{Kind: dht.EventAnswer, Tag: a.Tag, Command: reply.Command(), Payload: b}})
		}
	}
	perform(m.Step(s.now, dht.Event{Kind: dht.EventTick}))
	for steps := 0; !m.Done(); steps++ {
		if steps > 10_000 {
			t.Fatal("the machine does not end")
		}
		slices.SortStableFunc(queue, func(a, b pending) int { return a.at.Compare(b.at) })
		e := dht.Event{Kind: dht.EventTick}
		if len(queue) > 0 && !queue[0].at.After(m.Deadline()) {
			s.now, e = queue[0].at, queue[0].e
			queue = queue[1:]
		} else {
			s.now = m.Deadline()
		}
		perform(m.Step(s.now, e))
	}
	return s.now.Sub(began)
}

func checkWith(w *storetest.World, nodes ...*storetest.Node) func(time.Time, *protocol.Record) error {
	certs := map[protocol.ID]*protocol.CertifiedNode{}
	for _, n := range nodes {
		certs[n.ID] = n.Cert
	}
	return func(now time.Time, r *protocol.Record) error {
		if r.Table == protocol.TableNodeInfo {
			if c := certs[r.Owner]; c != nil {
				return protocol.CheckOwned(r, c, now)
			}
			return protocol.ErrUntrusted
		}
		return w.Trust.CheckStatic(r, now)
	}
}

func supers(w *storetest.World, n int) []partition.Member {
	var nodes []*storetest.Node
	for i := range n {
		nodes = append(nodes, w.Node(protocol.Domain(100+i%4), fmt.Sprint("s", i)))
	}
	m, _, _ := w.Map(1, nodes...)
	return m.Members()
}

// One honest member of ten; the others lie, are stale, withhold, send another's record or keep silent, as each pleases.
func TestNineLiarsOfTen(t *testing.T) {
	w := storetest.NewWorld(t)
	ms := supers(w, 10)
	n, other := w.Node(7, "n"), w.Node(7, "other")
	now := start.Add(20 * time.Minute)
	newest := w.Info(n, 9, now.Add(-2*time.Minute))
	seen := w.Info(n, 6, now.Add(-9*time.Minute))
	forged := slices.Clone(w.Info(n, 99, now))
	forged[200] ^= 1
	lies := [][][]byte{
		{},                                       // withholds
		{w.Info(n, 8, now.Add(-7*time.Minute))},  // stale
		{w.Info(n, 5, now.Add(-9*time.Minute))},  // older than this reader has seen
		{w.Info(n, 4, now.Add(-15*time.Minute))}, // expired
		{forged}, {w.Info(other, 99, now)}, {[]byte("garbage")}, {newest, newest},
	}
	const timeout = 500 * time.Millisecond
	for _, kind := range []dht.TargetKind{dht.FindNodeInfo, dht.FindTunnelNodes} {
		for seed := range seeds(1000) {
			r := rand.New(rand.NewPCG(seed, 1))
			honest := ms[r.IntN(len(ms))].Peer.ID
			s := &sim{now: now, members: ms}
			s.answer = func(peer protocol.ID, p protocol.Payload) (time.Duration, protocol.Payload) {
				var recs [][]byte
				switch lie := r.IntN(len(lies) + 6); {
				case peer == honest:
					recs = [][]byte{newest}
				case lie >= len(lies):
					return 0, nil
				case kind == dht.FindTunnelNodes && lie == len(lies)-1:
					recs = lies[1]
				default:
					recs = lies[lie]
				}
				l := protocol.RecordList{Records: recs}
				d := time.Duration(1+r.IntN(80)) * time.Millisecond
				if p.Command() == protocol.CmdGetNodeInfo {
					return d, protocol.NodeInfo{RecordList: l}
				}
				return d, protocol.TunnelNodes{RecordList: l}
			}
			l := dht.NewLookup(dht.LookupConfig{
				Target: dht.Target{Kind: kind, Key: n.ID}, Members: ms, Own: 7, Timeout: timeout, Rand: r, Scores: dht.NewScores(),
				Check: checkWith(w, n, other),
				Seen: func(protocol.Table, protocol.ID) (dht.Version, bool) {
					return dht.VersionOf(storetest.Parse(t, seen)), true
				},
			})
			took := s.run(t, l)
			recs, err := l.Result()
			if err != nil || len(recs) != 1 || recs[0].Sequence != 9 || took > 3*timeout {
				t.Fatalf("kind %d, seed %d: %v after %v: %v", kind, seed, recs, took, err)
			}
		}
	}
}

func lookupOf(w *storetest.World, ms []partition.Member, n *storetest.Node, r *rand.Rand) dht.LookupConfig {
	op, _ := w.Trust.Operator(w.OpID)
	return dht.LookupConfig{
		Target: dht.Target{Kind: dht.FindNodeInfo, Key: n.ID}, Members: ms, Epoch: 1, Own: 7, Timeout: 500 * time.Millisecond, Rand: r,
		Scores: dht.NewScores(), Check: checkWith(w, n),
		Operators: []partition.Member{{Peer: protocol.Peer{ID: op.ID}}},
	}
}

func reply(recs ...[]byte) protocol.Payload {
	return protocol.NodeInfo{RecordList: protocol.RecordList{Records: recs}}
}

func TestLookupOutcomes(t *testing.T) {
	w := storetest.NewWorld(t)
	ms := supers(w, 3)
	n := w.Node(7, "n")
	info, stale := w.Info(n, 5, start), w.Info(n, 4, start.Add(-8*time.Minute))
	withdrawn := w.Withdrawal(n, 6, start)
	member := func(id protocol.ID) int {
		return slices.IndexFunc(ms, func(m partition.Member) bool { return m.Peer.ID == id })
	}
	for _, c := range []struct {
		name     string
		answers  []protocol.Payload // by member, then the operator
		err      error
		sequence uint64
		refresh  int
		operator bool
		limit    time.Duration
	}{
		{"all well", []protocol.Payload{reply(info), reply(info), reply(info), nil}, nil, 5, 0, false, 50 * time.Millisecond},
		{"one dead", []protocol.Payload{reply(info), nil, reply(info), nil}, nil, 5, 0, false, 600 * time.Millisecond},
		{"one behind", []protocol.Payload{reply(info), reply(stale), reply(info), nil}, nil, 5, 0, false, 50 * time.Millisecond},
		{"two dead", []protocol.Payload{nil, nil, reply(info), nil}, nil, 5, 0, false, 1100 * time.Millisecond},
		{"nobody has it", []protocol.Payload{reply(), reply(), reply(), reply(info)}, dht.ErrNotFound, 0, 0, false, 100 * time.Millisecond},
		{"one silent, others have nothing", []protocol.Payload{reply(), nil, reply(), nil}, dht.ErrUnreachable, 0, 1, true, 3 * time.Second},
		{"all dead, the operator knows", []protocol.Payload{nil, nil, nil, reply(info)}, nil, 5, 1, true, 3 * time.Second},
		{"all dead", []protocol.Payload{nil, nil, nil, nil}, dht.ErrUnreachable, 0, 1, true, 3 * time.Second},
		{"only stale", []protocol.Payload{reply(stale), reply(stale), reply(stale), nil}, nil, 4, 1, true, 3 * time.Second},
		{"withdrawn", []protocol.Payload{reply(withdrawn), reply(withdrawn), reply(info), nil}, dht.ErrNotFound, 0, 0, false, 100 * time.Millisecond},
		{"one busy", []protocol.Payload{protocol.Busy{RetryAfter: 1000}, reply(info), reply(info), nil}, nil, 5, 0, false, 50 * time.Millisecond},
		{"busy, and outside its range", []protocol.Payload{protocol.Busy{}, protocol.WrongRange{Epoch: 1}, reply(info), nil}, nil, 5, 0, false, 200 * time.Millisecond},
		{"two busy for long", []protocol.Payload{protocol.Busy{RetryAfter: 9000}, protocol.Busy{RetryAfter: 9000}, reply(info), nil}, nil, 5, 0, false, 100 * time.Millisecond},
		{"all busy for ever", []protocol.Payload{protocol.Busy{RetryAfter: 200}, protocol.Busy{RetryAfter: 200}, protocol.Busy{RetryAfter: 200}, reply(info)}, nil, 5, 1, true, 3 * time.Second},
	} {
		for seed := range uint64(20) {
			s := &sim{now: start, members: ms}
			s.answer = func(peer protocol.ID, _ protocol.Payload) (time.Duration, protocol.Payload) {
				if i := member(peer); i >= 0 {
					return 20 * time.Millisecond, c.answers[i]
				}
				return 20 * time.Millisecond, c.answers[3]
			}
			l := dht.NewLookup(lookupOf(w, ms, n, rand.New(rand.NewPCG(seed, 2))))
			took := s.run(t, l)
			recs, err := l.Result()
			var q uint64
			if len(recs) == 1 {
				q = recs[0].Sequence
			}
			if !errors.Is(err, c.err) || q != c.sequence || s.refresh != c.refresh || slices.Contains(s.asked, w.OpID) != c.operator || took > c.limit {
				// A withdrawal that meets the older record first is the same outcome by a longer way.
				t.Fatalf("%s, seed %d: sequence %d, %d refreshes, %v: %v", c.name, seed, q, s.refresh, took, err)
			}
		}
	}
}

// A record with the promise of more behind it, which never comes, is no answer, and the end of no reader.
func TestSingleRecordWithoutEnd(t *testing.T) {
	w := storetest.NewWorld(t)
	ms := supers(w, 3)
	n := w.Node(7, "n")
	endless := protocol.NodeInfo{RecordList: protocol.RecordList{Records: [][]byte{w.Info(n, 5, start)}, Next: n.ID}}
	asked := make(map[protocol.ID]bool)
	s := &sim{now: start, members: ms}
	s.answer = func(peer protocol.ID, _ protocol.Payload) (time.Duration, protocol.Payload) {
		if asked[peer] || peer == w.OpID {
			return 0, nil
		}
		asked[peer] = true
		return 20 * time.Millisecond, endless
	}
	l := dht.NewLookup(lookupOf(w, ms, n, rand.New(rand.NewPCG(1, 2))))
	s.run(t, l)
	if recs, err := l.Result(); !errors.Is(err, dht.ErrUnreachable) || len(asked) != 3 {
		t.Errorf("%d records of %d asked: %v", len(recs), len(asked), err)
	}
}

// Whoever names a newer map is asked for it, once; if it has none to show, the reading goes on and it is asked last from then on.
func TestClaimOfAMapThatIsNotThere(t *testing.T) {
	w := storetest.NewWorld(t)
	ms := supers(w, 5)
	n := w.Node(7, "n")
	info := w.Info(n, 5, start)
	for seed := range uint64(50) {
		s := &sim{now: start, members: ms}
		s.answer = func(peer protocol.ID, _ protocol.Payload) (time.Duration, protocol.Payload) {
			if peer == ms[0].Peer.ID || peer == ms[1].Peer.ID || peer == ms[2].Peer.ID {
				return 20 * time.Millisecond, protocol.WrongRange{Epoch: 1 << 60}
			}
			return 20 * time.Millisecond, reply(info)
		}
		cfg := lookupOf(w, ms, n, rand.New(rand.NewPCG(seed, 2)))
		l := dht.NewLookup(cfg)
		took := s.run(t, l)
		recs, err := l.Result()
		if err != nil || len(recs) != 1 || s.refresh > 2 || len(s.asked) > 5 || took > 300*time.Millisecond {
			t.Fatalf("seed %d: %d records, %d questions for a map, %d asked, %v: %v", seed, len(recs), s.refresh, len(s.asked), took, err)
		}
		if len(s.asked) == 5 && !cfg.Scores.Suspect(ms[0].Peer.ID, s.now) && !cfg.Scores.Suspect(ms[1].Peer.ID, s.now) && !cfg.Scores.Suspect(ms[2].Peer.ID, s.now) {
			t.Fatalf("seed %d: nobody is suspected", seed)
		}
	}
}

func TestGoodOnesAreRemembered(t *testing.T) {
	w := storetest.NewWorld(t)
	ms := supers(w, 10)
	n := w.Node(7, "n")
	info := w.Info(n, 5, start)
	dead := map[protocol.ID]bool{}
	for _, m := range ms[:7] {
		dead[m.Peer.ID] = true
	}
	scores := dht.NewScores()
	r := rand.New(rand.NewPCG(1, 3))
	now, last := start, time.Duration(0)
	for i := range 12 {
		s := &sim{now: now, members: ms, answer: func(p protocol.ID, _ protocol.Payload) (time.Duration, protocol.Payload) {
			if dead[p] {
				return 0, nil
			}
			return 20 * time.Millisecond, reply(info)
		}}
		cfg := lookupOf(w, ms, n, r)
		cfg.Scores = scores
		l := dht.NewLookup(cfg)
		last = s.run(t, l)
		if _, err := l.Result(); err != nil {
			t.Fatalf("lookup %d: %v", i, err)
		}
		now = s.now
	}
	if last > 50*time.Millisecond {
		t.Errorf("after twelve lookups one still takes %v", last)
	}
}

func TestOrder(t *testing.T) {
	w := storetest.NewWorld(t)
	ms := supers(w, 8) // domains 100 to 103
	s := dht.NewScores()
	r := rand.New(rand.NewPCG(1, 4))
	second := map[protocol.ID]int{}
	fast := ms[0]
	for _, m := range ms {
		s.Good(m.Peer.ID, 40*time.Millisecond)
	}
	s.Good(fast.Peer.ID, time.Millisecond)
	for range 400 {
		o := s.Order(ms, 7, start, r)
		if o[0].Peer.ID != fast.Peer.ID || len(o) != len(ms) {
			t.Fatal("the fastest is not asked first")
		}
		second[o[1].Peer.ID]++
	}
	if len(second) != len(ms)-1 {
		t.Errorf("second place went to %d members only", len(second))
	}
	own := fast.Domain + 1
	if own > 103 {
		own = 100
	}
	if o := s.Order(ms, own, start, r); o[0].Domain != own {
		t.Error("the own domain's is not asked first")
	}
	s.Bad(fast.Peer.ID, start)
	if o := s.Order(ms, 7, start, r); o[len(o)-1].Peer.ID != fast.Peer.ID {
		t.Error("who failed just now is not last")
	}
	if s.Suspect(fast.Peer.ID, start.Add(time.Minute)) {
		t.Error("one failure is held against it for ever")
	}
}

func TestStoreOutcomes(t *testing.T) {
	w := storetest.NewWorld(t)
	op, _ := w.Trust.Operator(w.OpID)
	ok, taken := protocol.Stored{}, protocol.Stored{Status: protocol.StatusRange}
	quota, older := protocol.Stored{Status: protocol.StatusQuota}, protocol.Stored{Status: protocol.StatusSuperseded, Sequence: 77}
	for _, c := range []struct {
		name    string
		answers []protocol.Payload // by member, the last is the operator's
		want    error
		asked   int
		refresh int
	}{
		{"two of three", []protocol.Payload{ok, ok, ok, nil}, nil, 2, 0},
		{"one of one", []protocol.Payload{ok, nil}, nil, 1, 0},
		{"two die", []protocol.Payload{nil, ok, ok, nil, ok, nil}, nil, -1, 0},
		{"refused", []protocol.Payload{quota, quota, quota, nil}, dht.ErrRejected, 3, 0},
		{"a newer one is held", []protocol.Payload{older, older, older, nil}, dht.ErrRejected, 3, 0},
		{"one liar says refused", []protocol.Payload{quota, ok, ok, nil}, nil, -1, 0},
		{"all dead, the operator keeps it", []protocol.Payload{nil, nil, nil, taken}, dht.ErrProvisional, 4, 1},
		{"all dead", []protocol.Payload{nil, nil, nil, nil}, dht.ErrUnreachable, 4, 1},
		{"one refuses, two are dead, the operator keeps it", []protocol.Payload{quota, nil, nil, taken}, dht.ErrProvisional, 4, 1},
		{"one of three", []protocol.Payload{ok, nil, nil, nil}, dht.ErrUnreachable, 4, 1},
	} {
		ms := supers(w, len(c.answers)-1)
		for seed := range uint64(20) {
			s := &sim{now: start, members: ms}
			s.answer = func(peer protocol.ID, _ protocol.Payload) (time.Duration, protocol.Payload) {
				i := slices.IndexFunc(ms, func(m partition.Member) bool { return m.Peer.ID == peer })
				if i < 0 {
					i = len(ms)
				}
				return 20 * time.Millisecond, c.answers[i]
			}
			n := w.Node(7, "n")
			o := dht.NewStoreOp(dht.StoreConfig{
				Record: w.Info(n, 1, start), Own: 7, Timeout: 500 * time.Millisecond, Rand: rand.New(rand.NewPCG(seed, 5)), Scores: dht.NewScores(),
				Placed:    []dht.Placed{{Key: n.ID, Members: ms}, {Key: protocol.NewID(7, storetest.Key("l")), Members: ms}},
				Operators: []partition.Member{{Peer: protocol.Peer{ID: op.ID}}},
			})
			s.run(t, o)
			if !errors.Is(o.Err(), c.want) || c.asked >= 0 && len(s.asked) != c.asked || s.refresh != c.refresh {
				t.Fatalf("%s, seed %d: asked %d, %d refreshes: %v", c.name, seed, len(s.asked), s.refresh, o.Err())
			}
			var rej *dht.RejectedError
			if errors.As(o.Err(), &rej) && rej.Status == protocol.StatusSuperseded && rej.Held.Sequence != 77 {
				t.Errorf("held %v", rej.Held)
			}
		}
	}
}
