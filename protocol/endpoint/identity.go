package endpoint

import (
	"container/list"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"culvert/protocol"
	"culvert/protocol/key"
)

// Identity is one of the nodes, or the operator, that this process is.
type Identity struct {
	ID     protocol.ID
	Keys   *key.Pair
	Record []byte // its Node or OperatorNode record: the certificate it shows
	Trust  *protocol.Trust
	// Revoked reports whether an ID is on the revocation list, or its domain banned. May be nil. From memory.
	Revoked func(protocol.ID) bool
	// Admit reports whether this identity talks to a certified peer that it did not call itself. May be nil: to all.
	Admit func(*protocol.CertifiedNode) bool
}

func (i *Identity) check() error {
	if i.Keys == nil || i.Keys.Signing == nil || i.Keys.Sealing == nil || i.Trust == nil {
		return fmt.Errorf("endpoint: identity %s lacks keys or trust", i.ID.Short())
	}
	if i.ID != protocol.NodeID(i.ID.Domain(), i.Keys.Signing.Public()) {
		return fmt.Errorf("%w: %s is not the ID of the key given", ErrIdentity, i.ID.Short())
	}
	return nil
}

type identityState struct {
	Identity
	receiver protocol.Receiver
}

func (s *identityState) revoked(id protocol.ID) bool { return s.Revoked != nil && s.Revoked(id) }

func (s *identityState) admits(c *protocol.CertifiedNode) bool { return s.Admit == nil || s.Admit(c) }

type identity struct {
	id         protocol.ID
	mac1       *protocol.MAC1Key
	replay     *protocol.Replay
	maxPeers   int
	state      atomic.Pointer[identityState]
	generation atomic.Uint32
	removed    atomic.Bool

	last atomic.Pointer[peer] // asked for last, if it is still among peers

	mu    sync.Mutex
	peers map[protocol.ID]*peer
	order list.List // of *peer; the front was looked at longest ago
	asked asked
}

// identityTable finds identities. It is made anew for every change, and looked at for every message: IDs are hashes, so that a
// few bytes of them are the place.
type identityTable struct {
	all    []*identity
	places []*identity // a power of two, at most half of them taken
}

func newIdentityTable(all []*identity) *identityTable {
	n := 2
	for n < 2*len(all) {
		n *= 2
	}
	t := &identityTable{all: all, places: make([]*identity, n)}
	for _, i := range all {
		k := t.place(&i.id)
		for t.places[k] != nil {
			k = (k + 1) & (len(t.places) - 1)
		}
		t.places[k] = i
	}
	return t
}

func (t *identityTable) place(id *protocol.ID) int {
	return int(binary.BigEndian.Uint32(id[len(id)-4:])) & (len(t.places) - 1)
}

func (t *identityTable) find(id *protocol.ID) *identity {
	for k := t.place(id); ; k = (k + 1) & (len(t.places) - 1) {
		if i := t.places[k]; i == nil || i.id == *id {
			return i
		}
	}
}

func newIdentity(id Identity, l Limits) *identity {
	i := &identity{
		id: id.ID, mac1: protocol.NewMAC1Key(id.ID), maxPeers: l.Peers,
		replay: protocol.NewReplay(l.ReplaySenders, l.ReplayIDs), peers: make(map[protocol.ID]*peer),
	}
	i.set(id)
	return i
}

func (i *identity) set(id Identity) {
	i.state.Store(&identityState{
		Identity: id,
		receiver: protocol.Receiver{ID: id.ID, Sealing: id.Keys.Sealing, Replay: i.replay},
	})
}

// known is the peer of that ID, if any.
func (i *identity) known(id protocol.ID) *peer {
	if p := i.last.Load(); p != nil && p.id == id {
		return p
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	p := i.peers[id]
	if p != nil {
		i.last.Store(p)
	}
	return p
}

// peer is the peer of that ID, made if need be. Who must go for it is returned, for the caller to drop.
func (i *identity) peer(id protocol.ID) (p *peer, gone *peer) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if p = i.peers[id]; p != nil {
		p.touched.Store(true)
		return p, nil
	}
	if len(i.peers) >= i.maxPeers {
		gone = i.evictLocked()
	}
	p = &peer{id: id, owner: i}
	p.element = i.order.PushBack(p)
	i.peers[id] = p
	return p, gone
}

// evictLocked gives everyone used since the last look a second chance, within bounds.
func (i *identity) evictLocked() *peer {
	for tries := 0; ; tries++ {
		front := i.order.Front()
		p := front.Value.(*peer)
		if tries < 64 && p.touched.Swap(false) {
			i.order.MoveToBack(front)
			continue
		}
		i.order.Remove(front)
		delete(i.peers, p.id)
		i.last.CompareAndSwap(p, nil)
		return p
	}
}

func (i *identity) removePeers(which func(*peer) bool) (gone []*peer) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for id, p := range i.peers {
		if which(p) {
			i.order.Remove(p.element)
			delete(i.peers, id)
			i.last.CompareAndSwap(p, nil)
			gone = append(gone, p)
		}
	}
	return gone
}

// asked remembers to which message IDs a stranger was answered with GetNode, so that only a Node asked for is looked at.
type asked struct {
	mu   sync.Mutex
	m    map[uint64]question
	ring []uint64
	next int
}

type question struct {
	sender protocol.ID
	stamp  time.Time // of the message that was not taken in
	until  time.Time
}

const (
	maxAsked  = 4096
	askedLife = 10 * time.Second
)

func (a *asked) put(now time.Time, env *protocol.Envelope) {
	id := env.MessageID
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.m == nil {
		a.m = make(map[uint64]question)
	}
	if _, ok := a.m[id]; !ok {
		if len(a.ring) < maxAsked {
			a.ring = append(a.ring, id)
		} else {
			delete(a.m, a.ring[a.next])
			a.ring[a.next] = id
			a.next = (a.next + 1) % maxAsked
		}
	}
	a.m[id] = question{env.Sender, env.Timestamp, now.Add(askedLife)}
}

func (a *asked) take(now time.Time, id uint64, sender protocol.ID) (stamp time.Time, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	q, ok := a.m[id]
	if !ok || q.sender != sender {
		return stamp, false
	}
	delete(a.m, id)
	return q.stamp, now.Before(q.until)
}
