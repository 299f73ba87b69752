package node

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"culvert/protocol"
)

const (
	// wantHomes is with how many super-nodes a tunnel-node keeps in contact, so that it can be asked from outside.
	wantHomes = 2
	// activePing is how often homes are pinged while this node is an end of a tunnel: a NAT that has lost its table, or moved to
	// another address, leaves a node deaf until it says something itself, and connections are to work again within five seconds.
	activePing  = 2 * time.Second
	pingTimeout = 2 * time.Second
	// A home that was silent this often in a row is replaced.
	homeMisses = 2
)

// homes are the super-nodes that keep in contact with this node.
type homes struct {
	mu   sync.Mutex
	list []home
}

type home struct {
	peer   protocol.Peer
	rtt    time.Duration
	misses int
	seen   protocol.Addr // as the super-node saw this node
}

func (h *homes) ids() []protocol.ID {
	h.mu.Lock()
	defer h.mu.Unlock()
	var l []protocol.ID
	for _, x := range h.list {
		if x.rtt > 0 {
			l = append(l, x.peer.ID)
		}
	}
	return l
}

func (h *homes) snapshot() []home {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.list)
}

// homesLoop chooses homes and pings them, at intervals and when the map changes. Nodes without the tunnel role ping too: it is
// how they know what is reachable.
func (m *membership) homesLoop(ctx context.Context) {
	t := time.NewTimer(time.Hour)
	defer t.Stop()
	for {
		m.tendHomes(ctx)
		last := time.Now()
		t.Reset(m.pingEvery())
		for due := false; !due; {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				due = true
			case <-m.homesDue:
				t.Reset(max(m.pingEvery()-time.Since(last), 0))
			case <-m.homesNow:
				due = true
			}
		}
	}
}

// silentInterval is how often a node looks after its homes that is not to be asked from outside: often enough to know whom it
// could reach, and that it could.
const silentInterval = 5 * time.Minute

// pingEvery is how often homes are pinged now: while tunnels live so often that a router which forgot its bindings is open again
// in seconds, else as seldom as the NAT allows.
func (m *membership) pingEvery() time.Duration {
	switch {
	case m.node.tunnels.Busy(m.domain):
		return activePing
	case m.serves() != nil: // where others see it is to be in the map within a minute
		return min(m.node.keepaliveInterval(), followEvery)
	case !m.node.cfg.Settings.Tunnel || !m.keeps():
		return silentInterval
	}
	return m.node.keepaliveInterval()
}

// pingNow has the homes pinged at once.
func (m *membership) pingNow() {
	poke(m.homesNow)
}

func (m *membership) tendHomes(ctx context.Context) {
	for round := 0; round < 2*wantHomes; round++ {
		changed := m.chooseHomes()
		lost := m.pingHomes(ctx)
		m.node.observed()
		if changed || lost {
			m.touch() // NodeInfo names the homes
		}
		if !lost || ctx.Err() != nil {
			return
		}
	}
}

// chooseHomes brings the list in line with the map.
func (m *membership) chooseHomes() (changed bool) {
	members := m.peers()
	m.homes.mu.Lock()
	defer m.homes.mu.Unlock()
	next := choose(m.homes.list, members)
	same := slices.EqualFunc(m.homes.list, next, func(a, b home) bool { return a.peer.ID == b.peer.ID })
	m.homes.list = next
	return !same
}

// choose keeps the homes that answer and are still in members, as they are, fills up from members in their order, and lets
// operators, who come last there, go as soon as enough others are there. members come in another order each time: what follows
// it would be announced as a change.
func choose(have []home, members []protocol.Peer) []home {
	var next []home
	for _, operator := range []bool{false, true} {
		of := func(p protocol.Peer) bool { return (p.ID.Domain() == protocol.OperatorDomain) == operator }
		for _, h := range have {
			i := slices.IndexFunc(members, func(p protocol.Peer) bool { return p.ID == h.peer.ID })
			if i >= 0 && of(h.peer) && h.misses < homeMisses {
				h.peer = members[i] // its address may have changed
				next = append(next, h)
			}
		}
		for _, p := range members {
			if of(p) && !slices.ContainsFunc(have, func(h home) bool { return h.peer.ID == p.ID }) {
				next = append(next, home{peer: p})
			}
		}
	}
	return next[:min(len(next), wantHomes)]
}

// peers are the members of the map in random order, operators last, without this process itself and the revoked; operators
// alone before there is a map.
func (m *membership) peers() []protocol.Peer {
	var supers, operators []protocol.Peer
	if pm := m.mesh.pmap.Load(); pm != nil {
		for _, mem := range pm.Members() {
			switch {
			case mem.Isolated || m.node.isLocal(mem.Peer.ID) || m.mesh.isRevoked(mem.Peer.ID):
			case mem.Domain == protocol.OperatorDomain:
				operators = append(operators, mem.Peer)
			default:
				supers = append(supers, mem.Peer)
			}
		}
	}
	if len(supers)+len(operators) == 0 {
		for _, p := range m.mesh.contacts() {
			if !m.node.isLocal(p.ID) {
				operators = append(operators, p)
			}
		}
	}
	rand.Shuffle(len(supers), func(i, j int) { supers[i], supers[j] = supers[j], supers[i] })
	return m.node.carriedFirst(append(supers, operators...))
}

// excuse lets homes stay that fell silent all at once while no other super-node answers either: then this machine's own network
// is down, and when it is up again they are where others look for this node.
func (m *membership) excuse(ctx context.Context, list []home) {
	known := false
	for _, h := range list {
		if h.misses == 0 {
			return
		}
		known = known || h.rtt > 0
	}
	if !known || m.anyAnswers(ctx, list) {
		return
	}
	for i := range list {
		if list[i].rtt > 0 {
			list[i].misses = min(list[i].misses, homeMisses-1)
		}
	}
}

// anyAnswers reports whether one of a few super-nodes besides those of list gives a sign of life.
func (m *membership) anyAnswers(ctx context.Context, list []home) bool {
	others := slices.DeleteFunc(m.peers(), func(p protocol.Peer) bool {
		return slices.ContainsFunc(list, func(h home) bool { return h.peer.ID == p.ID })
	})
	var wg sync.WaitGroup
	var answered atomic.Bool
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	for _, p := range others[:min(len(others), wantHomes)] {
		wg.Go(func() {
			if _, err := m.call(ctx, p, protocol.Ping{}); err == nil {
				answered.Store(true)
				cancel()
			}
		})
	}
	wg.Wait()
	return answered.Load()
}

// pingHomes asks all homes for a sign of life at once.
func (m *membership) pingHomes(ctx context.Context) (lost bool) {
	list := m.homes.snapshot()
	var wg sync.WaitGroup
	for i := range list {
		wg.Go(func() {
			h := &list[i]
			ctx, cancel := context.WithTimeout(ctx, pingTimeout)
			defer cancel()
			began := time.Now()
			v, err := m.call(ctx, h.peer, protocol.Ping{})
			if err == nil {
				var pong protocol.Pong
				if pong, err = protocol.ParsePong(v.Payload); err == nil {
					if h.seen = pong.Observed; m.node.mux.Blocked() {
						h.seen = protocol.Addr{} // a stream's end says nothing of where UDP would come from
					}
				}
			}
			if err != nil {
				h.misses++
				return
			}
			h.misses, h.rtt = 0, max(time.Since(began), 1)
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return false
	}
	m.excuse(ctx, list)
	m.node.pingedHomes(list)
	again := false
	defer func() {
		if again {
			m.node.networksChanged()
		}
	}()
	m.homes.mu.Lock()
	defer m.homes.mu.Unlock()
	for _, h := range list {
		for i := range m.homes.list {
			if old := &m.homes.list[i]; old.peer.ID == h.peer.ID {
				if old.rtt == 0 && h.rtt > 0 {
					lost = false
					m.touch()
				}
				// Somebody can verify a mapping now; or the router has another address than before.
				again = again || old.rtt == 0 && h.rtt > 0 || old.seen.IsValid() && old.seen.Addr() != h.seen.Addr()
				*old = h
			}
		}
		lost = lost || h.misses >= homeMisses || h.misses > 0 && h.rtt == 0
	}
	// One that never answered is not waited for twice.
	m.homes.list = slices.DeleteFunc(m.homes.list, func(h home) bool { return h.rtt == 0 && h.misses > 0 })
	return lost
}
