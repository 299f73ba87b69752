package keeper_test

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"culvert/discovery/keeper"
	"culvert/protocol"
	"culvert/protocol/carrier/memnet"
	"culvert/protocol/endpoint"
	"culvert/protocol/key"
)

const (
	perLocation = 50
	supers      = 3
	homes       = 2

	keepAlive   = 20 * time.Second
	natForgets  = 30 * time.Second // the shortest that is met in the field
	silentPing  = 5 * time.Minute
	announcing  = 5 * time.Minute
	udpOverhead = 28 // IPv4 and UDP headers
)

var begin = time.UnixMilli(1_790_000_000_000)

// fleet is a customer's agents at their locations and some super-nodes, each with a real endpoint on the in-memory network.
// What a node's loops do is done here by timers of the network's virtual clock, so that one goroutine drives them all.
type fleet struct {
	t        *testing.T
	net      *memnet.Net
	rand     *rand.ChaCha8
	op       *key.Pair
	opID     protocol.ID
	root     *key.Pair
	trust    *protocol.Trust
	supers   []*machine
	agents   []*machine
	table    [locations]map[protocol.ID][]byte // NodeInfo records by location, on every super-node
	internet int64                             // bytes that agents exchanged with super-nodes, with headers
	lan      int64
}

// machine is one process: an agent or a super-node.
type machine struct {
	f     *fleet
	peer  protocol.Peer
	keys  *key.Pair
	node  []byte
	addr  netip.AddrPort // on its own network
	place int            // of an agent; -1 for super-nodes
	host  *memnet.Host
	sock  *memnet.Socket
	e     *endpoint.Endpoint
	out   endpoint.Outbox
	tick  *memnet.Timer
	calls map[endpoint.CallID]func(*protocol.Verified)

	keeper *keeper.Machine
	act    keeper.Actions
	wake   *memnet.Timer
	homes  *memnet.Timer
	seq    uint64
	off    bool
}

func (f *fleet) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fleet) keys() *key.Pair {
	p, err := key.Generate(f.rand)
	f.must(err)
	return p
}

func newFleet(t *testing.T, seed uint64) *fleet {
	f := &fleet{t: t, net: memnet.New(seed, begin), rand: rand.NewChaCha8([32]byte{byte(seed)})}
	f.root, f.op = f.keys(), f.keys()
	f.opID = protocol.NodeID(protocol.OperatorDomain, f.op.Signing.Public())
	v, err := protocol.Marshal(protocol.OperatorNodeValue{Signing: f.op.Signing.Public(), Sealing: f.op.Sealing.Public()})
	f.must(err)
	rec, err := protocol.SignRecord(&protocol.Record{
		Table: protocol.TableOperatorNode, Owner: f.opID, Signer: protocol.NewID(protocol.OperatorDomain, f.root.Signing.Public().Hash()),
		Epoch: 1, Sequence: 1, Issued: begin.Add(-time.Hour), Expires: begin.AddDate(1, 0, 0), Value: v,
	}, f.root.Signing)
	f.must(err)
	f.trust = protocol.NewTrust(f.root.Signing.Public().Hash())
	f.must(f.trust.AddOperator(rec, f.root.Signing.Public(), begin))
	for i := range supers {
		f.supers = append(f.supers, f.machine(9, -1, f.net.Host(nil, netip.AddrFrom4([4]byte{198, 51, 100, byte(1 + i)}))))
	}
	nat := memnet.PortRestricted()
	nat.Timeout = natForgets
	for l := range locations {
		f.table[l] = make(map[protocol.ID][]byte)
		router := f.net.NAT(nat, nil, netip.AddrFrom4([4]byte{203, 0, 113, byte(1 + l)}))
		for i := range perLocation {
			f.agents = append(f.agents, f.machine(7, l, f.net.Host(router, netip.AddrFrom4([4]byte{192, 168, 1, byte(10 + i)}))))
		}
	}
	return f
}

func (f *fleet) machine(d protocol.Domain, place int, h *memnet.Host) *machine {
	m := &machine{f: f, host: h, keys: f.keys(), place: place, tick: new(memnet.Timer), wake: new(memnet.Timer), homes: new(memnet.Timer)}
	m.peer = protocol.Peer{ID: protocol.NodeID(d, m.keys.Signing.Public()), Signing: m.keys.Signing.Public(), Sealing: m.keys.Sealing.Public()}
	v, err := protocol.Marshal(protocol.NodeValue{Signing: m.peer.Signing, Sealing: m.peer.Sealing})
	f.must(err)
	m.node, err = protocol.SignRecord(&protocol.Record{
		Table: protocol.TableNode, Owner: m.peer.ID, Signer: f.opID, Epoch: 1, Sequence: 1,
		Issued: begin.Add(-time.Minute), Expires: begin.AddDate(0, 1, 0), Value: v,
	}, f.op.Signing)
	f.must(err)
	m.sock = h.Listen(7700, m.receive)
	m.addr = m.sock.Addr()
	m.peer.Addr = m.addr
	m.start()
	return m
}

// start gives the machine a fresh endpoint, as a new process has.
func (m *machine) start() {
	var seed [32]byte
	m.f.rand.Read(seed[:])
	e, err := endpoint.New(endpoint.Config{Sessions: true, Rand: rand.NewChaCha8(seed)})
	m.f.must(err)
	m.f.must(e.AddIdentity(endpoint.Identity{ID: m.peer.ID, Keys: m.keys, Record: m.node, Trust: m.f.trust}))
	m.e, m.calls = e, make(map[endpoint.CallID]func(*protocol.Verified))
	m.host.SetUp(true)
	m.off = false
	m.ticked()
	if m.place >= 0 {
		m.keeper = keeper.New(m.peer.ID)
		m.step(keeper.Event{Kind: keeper.Tick})
		m.ping()
		m.every(announcing, m.announce)
	}
}

func (m *machine) stop() {
	m.off = true
	m.host.SetUp(false)
	for _, t := range []*memnet.Timer{m.tick, m.wake, m.homes} {
		t.Stop()
	}
}

func (m *machine) every(d time.Duration, do func()) {
	do()
	m.f.net.After(d, func() {
		if !m.off {
			m.every(d, do)
		}
	})
}

func (m *machine) flush() {
	for _, p := range m.out.Packets() {
		n := int64(len(p.Data) + udpOverhead)
		if m.place >= 0 && p.Addr.Addr().IsPrivate() {
			m.f.lan += n
		} else {
			m.f.internet += n
		}
		m.sock.Send(p.Addr, p.Data)
	}
	m.out.Reset()
}

func (m *machine) ticked() {
	for _, ev := range m.e.Tick(m.f.net.Now(), nil, &m.out) {
		m.event(&ev)
	}
	m.flush()
	d := time.Second
	if next := m.e.Next(); !next.IsZero() {
		d = min(d, max(next.Sub(m.f.net.Now()), 5*time.Millisecond))
	}
	m.tick = m.f.net.After(d, m.ticked)
}

func (m *machine) receive(now time.Time, from netip.AddrPort, b []byte) {
	var ev endpoint.Event
	m.e.Receive(now, from, b, &ev, &m.out)
	for ok := true; ok; ok = m.e.More(now, &ev, &m.out) {
		m.event(&ev)
	}
	m.flush()
}

func (m *machine) event(ev *endpoint.Event) {
	switch ev.Kind {
	case endpoint.EventRequest:
		if p := m.answer(&ev.Verified); p != nil {
			b, err := protocol.AppendPayload(nil, p)
			m.f.must(err)
			m.f.must(m.e.Reply(m.f.net.Now(), &ev.Verified, p.Command(), b, &m.out))
		}
	case endpoint.EventCallDone, endpoint.EventCallFailed:
		done := m.calls[ev.Call]
		delete(m.calls, ev.Call)
		if done == nil {
			return
		}
		if ev.Kind == endpoint.EventCallFailed {
			done(nil)
			return
		}
		done(ev.Verified.Clone())
	}
}

// answer is what the roles of both kinds of machine answer here.
func (m *machine) answer(v *protocol.Verified) protocol.Payload {
	switch v.Command {
	case protocol.CmdPing:
		return protocol.Pong{Time: m.f.net.Now().UnixMilli(), Observed: protocol.AddrOf(v.From)}
	case protocol.CmdPut:
		p, err := protocol.ParsePut(v.Payload)
		m.f.must(err)
		r, err := protocol.ParseRecord(bytes.Clone(p.Record))
		m.f.must(err)
		for l := range m.f.table {
			delete(m.f.table[l], r.Owner)
		}
		if len(r.Lookups) > 0 {
			m.f.table[r.Lookups[0][0]-1][r.Owner] = r.Raw()
		}
		return protocol.Stored{}
	case protocol.CmdGetTunnelNodes:
		q, err := protocol.ParseGetTunnelNodes(v.Payload)
		m.f.must(err)
		return protocol.TunnelNodes{RecordList: m.f.page(int(q.Location.Hash()[0])-1, q.After, v.ReplyLimit)}
	case protocol.CmdGetRevocations:
		return protocol.Revocations{}
	}
	m.f.t.Errorf("nobody answers %s here", v.Command)
	return nil
}

// page is the next part of a location's list, lowest ID first.
func (f *fleet) page(place int, after protocol.ID, room int) (l protocol.RecordList) {
	var ids []protocol.ID
	for id := range f.table[place] {
		if id.Compare(after) > 0 {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, protocol.ID.Compare)
	room -= protocol.RecordListSize()
	for i, id := range ids {
		raw := f.table[place][id]
		if room -= len(raw) + 3; room < 0 {
			l.Next = ids[i-1]
			break
		}
		l.Records = append(l.Records, raw)
	}
	return l
}

func (m *machine) call(to protocol.Peer, p protocol.Payload, timeout time.Duration, done func(*protocol.Verified)) {
	b, err := protocol.AppendPayload(nil, p)
	m.f.must(err)
	id, err := m.e.Call(m.f.net.Now(), m.peer.ID, to, p.Command(), b, timeout, &m.out)
	m.f.must(err)
	m.calls[id] = done
	m.flush()
}

// step gives the keeper machine an event and does what it wants.
func (m *machine) step(e keeper.Event) {
	if m.off {
		return
	}
	was := m.act
	m.act = m.keeper.Step(m.f.net.Now(), e)
	for _, id := range m.act.Ask {
		m.call(m.f.find(id).peer, protocol.Ping{}, keeper.Answer, func(v *protocol.Verified) {
			e := keeper.Event{Kind: keeper.Answered, ID: id}
			if v == nil {
				e.Kind = keeper.Silent
			}
			m.step(e)
		})
	}
	if m.act.Look {
		m.look(protocol.ID{}, nil)
	}
	if m.act.Keep && !was.Keep {
		m.ping()
	}
	if m.act.Keep != was.Keep || m.act.List != was.List {
		m.announce()
	}
	m.wake.Stop()
	m.wake = m.f.net.After(m.act.Next.Sub(m.f.net.Now()), func() { m.step(keeper.Event{Kind: keeper.Tick}) })
}

func (f *fleet) find(id protocol.ID) *machine {
	return f.agents[slices.IndexFunc(f.agents, func(m *machine) bool { return m.peer.ID == id })]
}

// look reads the location's list page by page, as far as the machine cares for it.
func (m *machine) look(after protocol.ID, have []protocol.ID) {
	var h protocol.Hash
	h[0] = byte(1 + m.place)
	q := protocol.GetTunnelNodes{Location: protocol.NewID(7, h), After: after}
	m.call(m.home(0), q, 3*time.Second, func(v *protocol.Verified) {
		if v == nil || m.off {
			return
		}
		l, err := protocol.ParseRecordList(v.Payload)
		m.f.must(err)
		for _, raw := range l.Records {
			r, err := protocol.ParseRecord(raw)
			m.f.must(err)
			have = append(have, r.Owner)
		}
		if !l.Next.IsZero() && len(have) < keeper.Most {
			m.look(l.Next, have)
			return
		}
		m.step(keeper.Event{Kind: keeper.Listed, IDs: have})
	})
}

func (m *machine) home(i int) protocol.Peer {
	h := m.peer.ID.Hash()
	return m.f.supers[(int(h[31])+i)%supers].peer
}

// ping keeps the bindings to the homes open, often while this agent is a keeper.
func (m *machine) ping() {
	m.homes.Stop()
	for i := range homes {
		m.call(m.home(i), protocol.Ping{}, 2*time.Second, func(*protocol.Verified) {})
	}
	d := silentPing
	if m.act.Keep {
		d = keepAlive
	}
	m.homes = m.f.net.After(d, m.ping)
}

// announce stores a NodeInfo of the usual size, and asks for revocations.
func (m *machine) announce() {
	m.seq++
	r := &protocol.Record{
		Table: protocol.TableNodeInfo, Owner: m.peer.ID, Signer: m.peer.ID, Sequence: m.seq,
		Issued: m.f.net.Now(), Expires: m.f.net.Now().Add(2 * announcing), Value: make([]byte, 160),
	}
	if m.act.List {
		var h protocol.Hash
		h[0] = byte(1 + m.place)
		r.Lookups = []protocol.Hash{h}
	}
	raw, err := protocol.SignRecord(r, m.keys.Signing)
	m.f.must(err)
	for i := range homes {
		m.call(m.home(i), protocol.Put{Key: m.peer.ID, Record: raw}, 3*time.Second, func(*protocol.Verified) {})
	}
	m.call(m.home(0), protocol.GetRevocations{}, 3*time.Second, func(*protocol.Verified) {})
}

// reachable are the agents of a location that a super-node reaches through the NAT now.
func (f *fleet) reachable(place int) (l []*machine) {
	for _, a := range f.agents {
		if a.place != place || a.off || !a.act.Keep {
			continue
		}
		for _, s := range f.supers {
			at, _, ok := s.e.Observed(s.peer.ID, a.peer.ID)
			if !ok {
				continue
			}
			to := a.peer
			to.Addr = at
			var got bool
			s.call(to, protocol.Ping{}, 500*time.Millisecond, func(v *protocol.Verified) { got = v != nil })
			f.net.RunFor(time.Millisecond)
			if got {
				l = append(l, a)
				break
			}
		}
	}
	return l
}

// A thousand agents at twenty locations: each place can be reached from outside all the time, by two of its agents, also when
// those are switched off; and what that costs.
func TestFleet(t *testing.T) {
	f := newFleet(t, 1)
	f.net.RunFor(2 * time.Minute)
	for l := range locations {
		if got := f.reachable(l); len(got) != keeper.Keepers {
			t.Fatalf("location %d: %d agents hold bindings", l, len(got))
		}
	}
	f.internet, f.lan = 0, 0
	const watched = 12 * time.Minute
	for range 6 {
		f.net.RunFor(watched/6 - time.Second)
		before, lan := f.internet, f.lan
		for l := range locations {
			if len(f.reachable(l)) == 0 {
				t.Errorf("location %d cannot be reached", l)
			}
		}
		f.internet, f.lan = before, lan // the test's own questions do not count
	}
	hours := watched.Hours()
	perAgent := float64(f.internet) / float64(len(f.agents)) / hours
	t.Logf("%d agents at %d locations: %.0f bytes an agent and hour to and from super-nodes, %.0f on the LAN (IP and UDP headers counted); "+
		"if every agent held two bindings of its own: %.0f", len(f.agents), locations, perAgent,
		float64(f.lan)/float64(len(f.agents))/hours, perAgent+alone())
	if perAgent > 60_000 {
		t.Errorf("%.0f bytes an agent and hour", perAgent)
	}
	// The keepers of all places are switched off at once.
	for _, a := range slices.Clone(f.agents) {
		if a.act.Keep {
			a.stop()
		}
	}
	f.net.RunFor(5 * time.Second)
	for l := range locations {
		if len(f.reachable(l)) == 0 {
			t.Errorf("location %d cannot be reached five seconds after its keepers were switched off", l)
		}
	}
}

// alone is what two pings and their answers every twenty seconds cost in an hour.
func alone() float64 {
	const ping, pong = 46 + 1 + udpOverhead, 46 + 15 + udpOverhead
	return homes * (ping + pong) * float64(time.Hour/keepAlive)
}
