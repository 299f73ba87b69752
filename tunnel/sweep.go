package tunnel

import (
	"sync"
	"time"

	"culvert/protocol"
	"culvert/tunnel/link"
)

// quietSweep is how often is swept what is only remembered.
const quietSweep = time.Minute

// sweepLoop looks after what ends with time: often while there is something, else hardly ever, so that an idle node sleeps.
func (m *Manager) sweepLoop() {
	often := min(m.cfg.IdleLink/4, m.cfg.Retry/2, 5*time.Second)
	rarely := max(often, quietSweep)
	resting := true
	tick := time.NewTimer(rarely)
	defer tick.Stop()
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-m.stir:
			if resting { // else a stream of news would put the sweep off for ever
				resting = false
				tick.Reset(often)
			}
			continue
		case <-tick.C:
		}
		m.sweep()
		if resting = m.Quiet(); resting {
			tick.Reset(rarely)
		} else {
			tick.Reset(often)
		}
	}
}

// Quiet reports whether there is nothing but memories that could end or change with time.
func (m *Manager) Quiet() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.links)+len(m.tunnels)+len(m.expected) == 0
}

// stirred is called after a link, tunnel or expectation has come: there is something to sweep.
func (m *Manager) stirred() {
	select {
	case m.stir <- struct{}{}:
	default:
	}
}

// began is stirred for what makes this node busy in a domain.
func (m *Manager) began(d protocol.Domain) {
	m.stirred()
	if m.cfg.Stirred != nil {
		m.cfg.Stirred(d)
	}
}

func (m *Manager) sweep() {
	m.crew.Rest()
	now := m.cfg.Now()
	m.mu.Lock()
	for h, x := range m.expected {
		if time.Since(x.since) > expectFor {
			delete(m.expected, h)
		}
	}
	var all []*entry
	for _, e := range m.links {
		all = append(all, e)
	}
	m.forgetServedLocked(now)
	m.forgetSearchesLocked(time.Now())
	m.mu.Unlock()
	var ends sync.WaitGroup
	for _, e := range all {
		why := link.ReasonNone
		peer := e.link.Peer()
		switch {
		case !now.Before(peer.Expires):
			why = link.ReasonExpired
		case m.cfg.Revoked(peer.ID) || m.cfg.Revoked(e.link.Local()):
			why = link.ReasonRevoked
		case m.unused(e):
			why = link.ReasonIdle
		}
		if why != link.ReasonNone {
			ends.Go(func() { e.link.Close(why) })
		} else if m.cfg.IdleFlow > 0 {
			e.link.ResetIdle(m.cfg.IdleFlow)
		}
	}
	ends.Wait()
	for _, t := range m.tunnelsWhere(func(*Tunnel) bool { return true }) {
		t.lookByItself(time.Now())
	}
}
