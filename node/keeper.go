package node

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"culvert/dht"
	"culvert/discovery/keeper"
	"culvert/protocol"
)

// keeping is what this membership is at its locations: who holds bindings there, and who is silent (LOC-6).
type keeping struct {
	mu     sync.Mutex
	places map[protocol.Hash]keeper.Actions
}

// keeps reports whether this node holds bindings to super-nodes, so that it can be asked from everywhere.
func (m *membership) keeps() bool {
	if m.alwaysKeeps() {
		return true
	}
	m.keeping.mu.Lock()
	defer m.keeping.mu.Unlock()
	for _, a := range m.keeping.places {
		if a.Keep {
			return true
		}
	}
	return len(m.keeping.places) == 0
}

// announced reports whether this node is to be found at a location.
func (m *membership) announced(l protocol.Hash) bool {
	if m.alwaysKeeps() {
		return true
	}
	m.keeping.mu.Lock()
	defer m.keeping.mu.Unlock()
	a, ok := m.keeping.places[l]
	return !ok || a.List
}

// alwaysKeeps are nodes that nobody else can stand in for: super-nodes, those with a consent list of their own, and those on
// which a registered device runs.
func (m *membership) alwaysKeeps() bool {
	if s := m.node.serving.Load(); s != nil || len(m.node.cfg.Settings.Consent) > 0 {
		return true
	}
	devices, _ := m.devices.all()
	id := m.id()
	for _, d := range devices {
		if d.Value.Node == id {
			return true
		}
	}
	return false
}

// set notes what a machine wants; true where others must be told.
func (k *keeping) set(l protocol.Hash, a keeper.Actions) (changed bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.places == nil {
		k.places = make(map[protocol.Hash]keeper.Actions)
	}
	old, ok := k.places[l]
	k.places[l] = a
	return !ok || old.Keep != a.Keep || old.List != a.List
}

// only forgets the places that this node has left.
func (k *keeping) only(l []protocol.Hash) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for p := range k.places {
		if !slices.Contains(l, p) {
			delete(k.places, p)
		}
	}
}

// placeEvent is what became of something that a machine wanted done.
type placeEvent struct {
	place protocol.Hash
	event keeper.Event
}

// keeperLoop runs one keeper machine a location. It is the only one that steps them.
func (m *membership) keeperLoop(ctx context.Context) {
	machines := make(map[protocol.Hash]*keeper.Machine)
	next := make(map[protocol.Hash]time.Time)
	events := make(chan placeEvent, 64)
	seen := new(colleagues)
	step := func(p protocol.Hash, e keeper.Event) {
		mc := machines[p]
		if mc == nil {
			return // it was left meanwhile
		}
		a := mc.Step(m.node.now(), e)
		next[p] = a.Next
		for _, id := range a.Ask {
			m.tasks.start(func(ctx context.Context) {
				e := keeper.Event{Kind: keeper.Silent, ID: id}
				if m.askColleague(ctx, seen, id) == nil {
					e.Kind = keeper.Answered
				}
				tellPlace(ctx, events, placeEvent{p, e})
			})
		}
		if a.Look {
			m.tasks.start(func(ctx context.Context) {
				if ids, err := m.colleaguesAt(ctx, seen, p); err == nil {
					tellPlace(ctx, events, placeEvent{p, keeper.Event{Kind: keeper.Listed, IDs: ids}})
				}
			})
		}
		if m.keeping.set(p, a) {
			m.touch()
			m.pingNow()
			m.node.networksChanged() // a router's ports are for those who keep
		}
	}
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-events:
			step(e.place, e.event)
		case <-t.C:
		case <-m.movedNow:
		}
		places, err := m.locations()
		if err != nil {
			places = nil
		}
		m.keeping.only(places)
		for p := range machines {
			if !slices.Contains(places, p) {
				delete(machines, p)
				delete(next, p)
			}
		}
		wake := time.Minute
		for _, p := range places {
			if machines[p] == nil {
				machines[p] = keeper.New(m.id())
				step(p, keeper.Event{Kind: keeper.Tick})
			} else if !m.node.now().Before(next[p]) {
				step(p, keeper.Event{Kind: keeper.Tick})
			}
			wake = min(wake, next[p].Sub(m.node.now()))
		}
		t.Reset(max(wake, 10*time.Millisecond))
	}
}

func tellPlace(ctx context.Context, to chan<- placeEvent, e placeEvent) {
	select {
	case to <- e:
	case <-ctx.Done():
	}
}

// colleagues are the agents of this node's locations, as their NodeInfo records say.
type colleagues struct {
	mu   sync.Mutex
	info map[protocol.ID][]protocol.Candidate
}

var errNotOnLAN = errors.New("no address on a network of this machine")

// colleaguesAt reads who is announced at a location, lowest ID first.
func (m *membership) colleaguesAt(ctx context.Context, seen *colleagues, place protocol.Hash) ([]protocol.ID, error) {
	secrets, err := m.secrets(m.node.meshNow())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, lookupBudget)
	defer cancel()
	records, err := m.client.Lookup(ctx, dht.Target{
		Kind: dht.FindTunnelNodes, Key: protocol.NewID(m.domain, secrets.LocationKey(place)), Most: keeper.Most,
	})
	if err != nil && !errors.Is(err, dht.ErrNotFound) {
		return nil, err
	}
	var ids []protocol.ID
	seen.mu.Lock()
	defer seen.mu.Unlock()
	if seen.info == nil || len(seen.info) > 16*keeper.Most {
		seen.info = make(map[protocol.ID][]protocol.Candidate)
	}
	for _, r := range records {
		info, err := openNodeInfo(secrets, r.Raw())
		if err != nil || !info.Tunnel || r.Owner == m.id() || !slices.Contains(info.Locations, place) {
			continue
		}
		seen.info[r.Owner] = info.Candidates
		ids = append(ids, r.Owner)
	}
	return ids, nil
}

// askColleague pings another agent at its address on a network that this machine is in too.
func (m *membership) askColleague(ctx context.Context, seen *colleagues, id protocol.ID) error {
	ctx, cancel := context.WithTimeout(ctx, keeper.Answer)
	defer cancel()
	seen.mu.Lock()
	candidates := seen.info[id]
	seen.mu.Unlock()
	at := m.node.onOwnNetwork(candidates)
	if !at.IsValid() {
		return errNotOnLAN
	}
	cert, err := m.certified(ctx, id)
	if err != nil {
		return err
	}
	_, err = m.call(ctx, protocol.Peer{ID: id, Signing: cert.Signing, Sealing: cert.Sealing, Addr: at}, protocol.Ping{})
	return err
}

// onOwnNetwork is the first candidate that lies in the network of one of this machine's interfaces.
func (n *Node) onOwnNetwork(l []protocol.Candidate) netip.AddrPort {
	own := n.ownPrefixes()
	for _, c := range l {
		a := c.Addr.AddrPort
		if c.Kind == protocol.CandidateHost && slices.ContainsFunc(own, func(p netip.Prefix) bool { return p.Masked().Contains(a.Addr()) }) {
			return a
		}
	}
	return netip.AddrPort{}
}

// moved has the keeper's place looked at anew.
func (m *membership) moved() {
	poke(m.movedNow)
}
