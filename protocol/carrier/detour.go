package carrier

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"time"
)

const (
	detourDial = 6 * time.Second // to find a way
	// A peer to which no way was found is left alone for a while; calls to it fail at once.
	detourRest = 20 * time.Second
	// detourShort is the life of a stream that counts as no way.
	detourShort = time.Second
)

// ErrNoStream means that a peer cannot be reached by stream now.
var ErrNoStream = errors.New("no way to the peer by stream")

type detourState int32

const (
	detourDialling detourState = iota
	detourUp
	detourFailed
)

// detour is the stream that stands for one peer's UDP address.
type detour struct {
	to      netip.AddrPort
	out     *sendQueue
	cancel  context.CancelFunc
	state   atomic.Int32
	known   chan struct{} // closed when dialling has ended
	retryAt time.Time     // of a failed one; guarded by Mux.mu
}

// Block says whether UDP counts as blocked. While it does, what is for a peer that offers streams travels on one.
func (m *Mux) Block(blocked bool) { m.blocked.Store(blocked) }

// Blocked reports what Block said last.
func (m *Mux) Blocked() bool { return m.blocked.Load() }

// Reaches reports whether, as far as is known, a peer can be reached now: by UDP while that is not blocked, else by a
// stream unless dialling it has just failed.
func (m *Mux) Reaches(to netip.AddrPort) bool {
	if !m.blocked.Load() || to.Addr().Zone() != "" {
		return true
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	l := m.detours[to]
	return l == nil || detourState(l.state.Load()) != detourFailed || !time.Now().Before(l.retryAt)
}

// Reach makes sure of a stream to a peer, whether or not UDP counts as blocked.
func (m *Mux) Reach(ctx context.Context, to netip.AddrPort) error {
	l := m.detour(to)
	if l == nil {
		return ErrNoStream
	}
	select {
	case <-l.known:
	case <-ctx.Done():
		return ctx.Err()
	}
	if detourState(l.state.Load()) == detourFailed {
		return ErrNoStream
	}
	return nil
}

// CloseDetours ends all dialled streams and forgets what failed; they are dialled anew as they are needed.
func (m *Mux) CloseDetours() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for to, l := range m.detours {
		l.cancel()
		delete(m.detours, to)
	}
}

func (m *Mux) hasDetour(to netip.AddrPort) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.detours[to] != nil
}

func (m *Mux) handDetour(to netip.AddrPort, data []byte) bool {
	l := m.detour(to)
	if l == nil || detourState(l.state.Load()) == detourFailed {
		m.counts[muxGone].Add(1)
		return false
	}
	if l.out.push(data) {
		m.counts[muxOverflow].Add(1)
	}
	return true
}

// detour finds the stream to a peer or starts to dial it; nil where there is no room.
func (m *Mux) detour(to netip.AddrPort) *detour {
	m.mu.RLock()
	l := m.usableLocked(to)
	m.mu.RUnlock()
	if l != nil {
		return l
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if l = m.usableLocked(to); l != nil {
		return l
	}
	delete(m.detours, to)
	if m.closed || m.cfg.Dial == nil || len(m.detours) >= m.cfg.Lanes && !m.dropFailedLocked() {
		m.counts[muxLanes].Add(1)
		return nil
	}
	ctx, cancel := context.WithCancel(m.ctx)
	l = &detour{to: to, out: newSendQueue(), cancel: cancel, known: make(chan struct{})}
	m.detours[to] = l
	m.wg.Go(func() { m.runLane(ctx, l) })
	return l
}

// usableLocked is the detour to a peer, if it lives or has failed lately.
func (m *Mux) usableLocked(to netip.AddrPort) *detour {
	l := m.detours[to]
	if l != nil && detourState(l.state.Load()) == detourFailed && !time.Now().Before(l.retryAt) {
		return nil
	}
	return l
}

func (m *Mux) dropFailedLocked() (dropped bool) {
	for to, l := range m.detours {
		if detourState(l.state.Load()) == detourFailed {
			delete(m.detours, to)
			dropped = true
		}
	}
	return dropped
}

// runLane dials, and moves datagrams until the stream ends.
func (m *Mux) runLane(ctx context.Context, l *detour) {
	defer l.cancel()
	dctx, cancel := context.WithTimeout(ctx, detourDial)
	conn, err := m.cfg.Dial(dctx, l.to)
	cancel()
	if err != nil {
		m.counts[muxDialFailed].Add(1)
		m.fail(l)
		close(l.known)
		return
	}
	m.counts[muxDialled].Add(1)
	l.state.Store(int32(detourUp))
	close(l.known)
	began := time.Now()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	err = newMessageStream(conn, l.to, true, m.times, l.out, m.in, ctx.Done()).run()
	if ctx.Err() == nil && !errors.Is(err, errUnused) && time.Since(began) < detourShort {
		m.fail(l)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.detours[l.to] == l {
		delete(m.detours, l.to)
	}
}

func (m *Mux) fail(l *detour) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l.retryAt = time.Now().Add(detourRest)
	l.state.Store(int32(detourFailed))
}
