package endpoint

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"culvert/protocol"
)

// What Call, Send and the like can fail with, and a CallFailed event.
var (
	ErrTimeout  = errors.New("endpoint: no answer in time")
	ErrClock    = errors.New("endpoint: no answer in time; the peer says that this machine's clock is wrong")
	ErrIdentity = errors.New("endpoint: no such identity here")
	ErrPeer     = errors.New("endpoint: peer's keys are not known or not its own")
	ErrNoRoute  = errors.New("endpoint: no address is known for the peer")
	ErrTooMany  = errors.New("endpoint: too many calls under way")
	ErrRemoved  = errors.New("endpoint: the identity was removed")
	ErrRevoked  = errors.New("endpoint: the peer is revoked")
	ErrReply    = errors.New("endpoint: reply is too long or answers a reply")
)

const (
	firstRetry   = 250 * time.Millisecond
	lastRetry    = 8 * time.Second
	openTimeout  = 10 * time.Second
	signedPeriod = 10 * time.Minute // how long a peer without sessions is believed to stay so
	sweepEvery   = 10 * time.Second // where a call has Tick run anyway, or there is much to collect
	sweepAtLeast = time.Minute      // else: what idles has minutes to do so, and looking wakes the process
	fewSessions  = 64
	oneWayKept   = 3 * time.Second // how long Send's messages are kept
)

// Config is what an endpoint is made of. Rand is required.
type Config struct {
	Rand     io.Reader
	Sessions bool
	Limits   Limits
	// Lookup finds Node records in the local store, from memory. May be nil.
	Lookup func(protocol.ID) (record []byte, ok bool)
	// ClockOffset is what an earlier run had learned; ClockLearned is told when an operator's Pong shows another one. The
	// offset is added to every time that is given in; the system's clock is never set.
	ClockOffset  time.Duration
	ClockLearned func(time.Duration)

	// RekeyAfter and IdleAfter are an hour and ten minutes where they are zero.
	RekeyAfter time.Duration
	IdleAfter  time.Duration
}

// Endpoint is safe for concurrent use. Locks are short and sharded, and no cipher runs under one.
type Endpoint struct {
	cfg        Config
	rand       source
	cookies    *protocol.CookieJar
	sessions   sessionTable
	calls      callTable
	drops      counters
	load       load
	handshakes prefixLimiter
	getNodes   prefixLimiter
	hints      prefixLimiter
	stalePongs prefixLimiter
	cookieRate prefixLimiter

	offset     atomic.Int64
	identities atomic.Pointer[identityTable]

	mu    sync.Mutex // serialises changes of identities, and sweeps
	swept time.Time
}

// New makes an endpoint without identities.
func New(cfg Config) (*Endpoint, error) {
	if cfg.Rand == nil {
		return nil, errors.New("endpoint: no source of randomness")
	}
	cfg.Limits.defaults()
	if cfg.RekeyAfter <= 0 {
		cfg.RekeyAfter = time.Hour
	}
	if cfg.IdleAfter <= 0 {
		cfg.IdleAfter = 10 * time.Minute
	}
	e := &Endpoint{cfg: cfg}
	e.rand.r = cfg.Rand
	e.cookies = protocol.NewCookieJar(&e.rand)
	l := cfg.Limits
	e.sessions.init(l.Sessions)
	e.calls.init(l.Calls)
	e.load.rate = l.PublicKeyRate
	for p, r := range map[*prefixLimiter]Rate{
		&e.handshakes: l.Handshakes, &e.getNodes: l.GetNodes, &e.hints: l.Hints, &e.stalePongs: l.StalePongs, &e.cookieRate: l.Cookies,
	} {
		p.rate = r
	}
	for _, p := range []*prefixLimiter{&e.handshakes, &e.getNodes, &e.hints, &e.stalePongs, &e.cookieRate} {
		var err error
		if p.seed, err = e.rand.uint64(); err != nil {
			return nil, err
		}
	}
	e.offset.Store(int64(cfg.ClockOffset))
	e.identities.Store(newIdentityTable(nil))
	return e, nil
}

// AddIdentity takes in an identity, or the renewed record, trust or hooks of one that is here; the sessions of a renewed one
// are replaced as they are used, so that peers learn its new certificate.
func (e *Endpoint) AddIdentity(id Identity) error {
	if err := id.check(); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if i := e.identity(id.ID); i != nil {
		i.set(id)
		i.generation.Add(1)
		return nil
	}
	e.identities.Store(newIdentityTable(append(slices.Clone(e.identities.Load().all), newIdentity(id, e.cfg.Limits))))
	return nil
}

// RemoveIdentity drops an identity with its sessions; its calls fail at the next Tick.
func (e *Endpoint) RemoveIdentity(id protocol.ID) {
	e.mu.Lock()
	i := e.identity(id)
	if i != nil {
		l := slices.DeleteFunc(slices.Clone(e.identities.Load().all), func(o *identity) bool { return o == i })
		e.identities.Store(newIdentityTable(l))
	}
	e.mu.Unlock()
	if i == nil {
		return
	}
	i.removed.Store(true)
	e.calls.fail(func(c *call) bool { return c.local == i }, ErrRemoved)
	for _, p := range i.removePeers(func(*peer) bool { return true }) {
		e.dropPeer(p)
	}
	e.endSessions(func(s *session) bool { return s.peer.owner == i })
}

// Identities are the IDs that are served.
func (e *Endpoint) Identities() []protocol.ID {
	all := e.identities.Load().all
	l := make([]protocol.ID, len(all))
	for k, i := range all {
		l[k] = i.id
	}
	return l
}

func (e *Endpoint) identity(id protocol.ID) *identity { return e.identities.Load().find(&id) }

func (e *Endpoint) local(id protocol.ID) (*identity, error) {
	if i := e.identity(id); i != nil {
		return i, nil
	}
	return nil, fmt.Errorf("%w: %s", ErrIdentity, id.Short())
}

// ForgetPeer drops a revoked peer's sessions and certificate for every identity; calls to it fail at the next Tick.
func (e *Endpoint) ForgetPeer(id protocol.ID) {
	e.forget(func(_ *identity, p *peer) bool { return p.id == id })
}

// Recheck forgets every peer that its identity's Revoked names: after a ban of a domain, or a list of revocations.
func (e *Endpoint) Recheck() {
	e.forget(func(i *identity, p *peer) bool { return i.state.Load().revoked(p.id) })
}

func (e *Endpoint) forget(which func(*identity, *peer) bool) {
	for _, i := range e.identities.Load().all {
		for _, p := range i.removePeers(func(p *peer) bool { return which(i, p) }) {
			e.calls.fail(func(c *call) bool { return c.peer == p }, ErrRevoked)
			e.dropPeer(p)
		}
	}
	// A peer that had to go from a full cache may still have a session.
	e.endSessions(func(s *session) bool { return which(s.peer.owner, s.peer) })
}

func (e *Endpoint) dropPeer(p *peer) {
	for _, s := range p.takeSessions() {
		e.sessions.remove(s)
	}
}

// Press says that more comes in than can be handled: until it is taken back, whoever has no cookie is asked for one before any
// public-key work, whatever the rate.
func (e *Endpoint) Press(on bool) { e.load.pressed.Store(on) }

// Offset is how far the mesh's clock is ahead of the times that are given in, as an operator last said.
func (e *Endpoint) Offset() time.Duration { return time.Duration(e.offset.Load()) }

func (e *Endpoint) clock(now time.Time) time.Time { return now.Add(time.Duration(e.offset.Load())) }

// Sessions is how many sessions there are.
func (e *Endpoint) Sessions() int { return e.sessions.count() }
