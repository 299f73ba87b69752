package endpoint

import (
	"net/netip"
	"sync"
	"time"

	"culvert/protocol"
)

// amplify is how many bytes go to an address in a session for each that came from it, until the peer has shown that it receives
// there: a node could give another's address as its own, and have answers sent to where nobody asked.
const amplify = 3

// places are the addresses at which a session's peer has shown that it receives, the newest first: it has answered what was sent
// there. Two, for who has two ways out. Ports do not count: a NAT changes them, and behind them is the same network.
type places [2]netip.Addr

// host is the address alone, the same for IPv4 in both its forms.
func host(a netip.AddrPort) netip.Addr { return a.Addr().Unmap() }

// stray is the newest address beside a session's places.
type stray struct {
	mu    sync.Mutex
	addr  netip.Addr
	room  int // bytes that may go there
	asked time.Time
	id    uint64 // of the Ping that asks whether the peer receives there; 0: none
}

// receivesAt reports whether the session's peer has shown that it receives at the address.
func (s *session) receivesAt(a netip.Addr) bool {
	p := s.places.Load()
	return p[0] == a || p[1] == a
}

func (s *session) moved(a netip.Addr) {
	if p := s.places.Load(); p[0] != a {
		s.places.Store(&places{a, p[0]})
	}
}

// strayed notes n bytes from an address that is none of the session's places.
func (s *session) strayed(a netip.Addr, n int) {
	t := s.stray.Load()
	if t == nil {
		s.stray.CompareAndSwap(nil, new(stray))
		t = s.stray.Load()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.addr != a {
		t.addr, t.room, t.id, t.asked = a, 0, 0, time.Time{}
	}
	t.room = min(t.room+amplify*n, amplify*protocol.MaxDatagram)
}

// spend takes n bytes from what may go to the address.
func (t *stray) spend(a netip.Addr, n int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.addr != a || t.room < n {
		return false
	}
	t.room -= n
	return true
}

// within reports whether an answer with so much payload may go to where its question came from. If not, the peer is asked to
// show that it receives there; when it asks again, it has.
func (e *Endpoint) within(now time.Time, s *session, to netip.AddrPort, payload int, out *Outbox) bool {
	a := host(to)
	if s.receivesAt(a) {
		return true
	}
	t := s.stray.Load()
	if t == nil {
		return false // nothing ever came from elsewhere
	}
	if t.spend(a, protocol.PackingSize(payload)) {
		return true
	}
	e.drops.drop(Unproven)
	ping := protocol.Ping{}.AppendPayload(make([]byte, 0, 16))
	if !t.spend(a, protocol.PackingSize(len(ping))) {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if d := now.Sub(t.asked); t.id != 0 && d >= 0 && d < firstRetry {
		return false
	}
	id, err := e.rand.uint64()
	if err != nil || id == 0 {
		return false
	}
	t.id, t.asked = id, now
	out.pack(e, s, to, protocol.CmdPing, false, id, ping)
	return false
}

// shown takes in a reply to the question whether the peer receives at the newest address, and reports whether it was that.
func (s *session) shown(id uint64) bool {
	t := s.stray.Load()
	if t == nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.id == 0 || t.id != id {
		return false
	}
	t.id = 0
	s.moved(t.addr)
	return true
}
