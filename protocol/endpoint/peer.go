package endpoint

import (
	"bytes"
	"container/list"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"culvert/protocol"
	"culvert/protocol/key"
)

// maxHalf is how many sessions a peer may have opened towards us without having used them: its retransmits.
const maxHalf = 4

// peer is what one identity knows of one other node.
type peer struct {
	id      protocol.ID
	touched atomic.Bool
	owner   *identity

	mu       sync.Mutex
	current  *session       // the one to send on
	addr     netip.AddrPort // of the last message that proved to be the peer's
	seen     time.Time
	signing  key.Public              // cert's
	cert     *protocol.CertifiedNode // verified under the identity's trust
	element  *list.Element           // guarded by owner.mu
	previous *session                // still received on
	half     []*session
	opening  *call
	waiting  []*call
	hinted   time.Time // when a hint of the peer was last acted on
	lost     bool      // the peer has told, or its silence shows, that it lost the session
	signed   time.Time // until when it is believed to keep no sessions
	opened   time.Time // timestamp of its newest OpenSession
	skewed   time.Time // when it last said that our clock is wrong
	cookie   protocol.Cookie
	cookieAt time.Time
}

// validated notes a message that proved to be the peer's.
func (p *peer) validated(now time.Time, from netip.AddrPort) {
	p.touched.Store(true)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = now
	if from.IsValid() {
		p.addr = from
	}
}

// learn keeps a verified certificate unless a newer one is held.
func (p *peer) learn(c *protocol.CertifiedNode) {
	if c == nil || c.Record == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cert == nil || c.Sequence >= p.cert.Sequence || p.cert.Expires.Before(c.Expires) {
		p.cert, p.signing = c, c.Signing
	}
}

func (p *peer) certificate() *protocol.CertifiedNode {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cert
}

func (p *peer) cookieNow(now time.Time) *protocol.Cookie {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cookieAt.IsZero() || now.Sub(p.cookieAt) >= protocol.CookieLife || now.Before(p.cookieAt) {
		return nil
	}
	c := p.cookie
	return &c
}

func (p *peer) address() netip.AddrPort {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addr
}

func (p *peer) takeSessions() (l []*session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range append(p.half, p.current, p.previous) {
		if s != nil {
			l = append(l, s)
		}
	}
	p.half, p.current, p.previous = nil, nil, nil
	return l
}

// install makes s the session to send on and returns those that it makes superfluous.
func (p *peer) install(s *session) (gone []*session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current == s {
		return nil
	}
	// Those that the peer opened before this one are retransmits that it did not choose. Later ones, and all when this one is
	// our own, may be what it is about to send on.
	if k := slices.Index(p.half, s); k >= 0 {
		gone = append(gone, p.half[:k]...)
		p.half = slices.Clone(p.half[k+1:])
	}
	if p.previous != nil && p.previous != s {
		gone = append(gone, p.previous)
	}
	p.current, p.previous = s, p.current
	return gone
}

// addHalf keeps a session that the peer has opened and not used yet.
func (p *peer) addHalf(s *session) (gone *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.half) >= maxHalf {
		gone = p.half[0]
		p.half = p.half[1:]
	}
	p.half = append(p.half, s)
	return gone
}

// forget takes a session out that has ended.
func (p *peer) forget(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current == s {
		p.current = nil
	}
	if p.previous == s {
		p.previous = nil
	}
	p.half = slices.DeleteFunc(p.half, func(h *session) bool { return h == s })
}

// Observed is from where a peer's last authentic message came to the local identity, and when.
func (e *Endpoint) Observed(local, id protocol.ID) (netip.AddrPort, time.Time, bool) {
	i := e.identity(local)
	if i == nil {
		return netip.AddrPort{}, time.Time{}, false
	}
	p := i.known(id)
	if p == nil {
		return netip.AddrPort{}, time.Time{}, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addr, p.seen, p.addr.IsValid()
}

// certificate finds the sender's certificate: what the identity's trust holds (operators), what the message offers, what was
// learned before, what the local store has.
func (e *Endpoint) certificate(local time.Time, i *identity, sender protocol.ID, offered []byte) (*protocol.CertifiedNode, error) {
	st := i.state.Load()
	if sender.Domain() == protocol.OperatorDomain {
		o, ok := st.Trust.Operator(sender)
		if !ok && len(offered) == 0 {
			return nil, errUnknownSender
		}
		if !ok && st.Trust.Introduce(bytes.Clone(offered), local) == nil { // a new one shows what the root says of it
			o, ok = st.Trust.Operator(sender)
		}
		if !ok || !local.Before(o.Expires) {
			return nil, protocol.ErrCertificate
		}
		return o.OperatorAsNode(), nil
	}
	var held *protocol.CertifiedNode
	if p := i.known(sender); p != nil {
		if held = p.certificate(); held != nil && !local.Before(held.Expires) {
			held = nil
		}
	}
	if held != nil && (len(offered) == 0 || bytes.Equal(offered, held.Record)) {
		return held, nil
	}
	if len(offered) > 0 {
		c, err := st.Trust.CheckNode(bytes.Clone(offered), local)
		if err != nil || c.ID != sender {
			return nil, protocol.ErrCertificate
		}
		if held != nil && held.Sequence > c.Sequence {
			return held, nil
		}
		return c, nil
	}
	if e.cfg.Lookup != nil {
		if raw, ok := e.cfg.Lookup(sender); ok {
			if c, err := st.Trust.CheckNode(raw, local); err == nil && c.ID == sender {
				return c, nil
			}
		}
	}
	return nil, errUnknownSender
}
