package carrier

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"time"
)

const (
	laneDial = 6 * time.Second // to find a way
	// A peer to which no way was found is left alone for a while; calls to it fail at once.
	laneRest = 20 * time.Second
	// laneShort is the life of a stream that counts as no way.
	laneShort = time.Second
)

// ErrNoStream means that a peer cannot be reached by stream now.
var ErrNoStream = errors.New("no way to the peer by stream")

type laneState int32

const (
	laneDialling laneState = iota
	laneUp
	laneFailed
)

// lane is the stream that stands for one peer's UDP address.
type lane struct {
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
	l := m.lanes[to]
	return l == nil || laneState(l.state.Load()) != laneFailed || !time.Now().Before(l.retryAt)
}

// Reach makes sure of a stream to a peer, whether or not UDP counts as blocked.
func (m *Mux) Reach(ctx context.Context, to netip.AddrPort) error {
	l := m.lane(to)
	if l == nil {
		return ErrNoStream
	}
	select {
	case <-l.known:
	case <-ctx.Done():
		return ctx.Err()
	}
	if laneState(l.state.Load()) == laneFailed {
		return ErrNoStream
	}
	return nil
}

// CloseLanes ends all dialled streams and forgets what failed; they are dialled anew as they are needed.
func (m *Mux) CloseLanes() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for to, l := range m.lanes {
		l.cancel()
		delete(m.lanes, to)
	}
}

func (m *Mux) hasLane(to netip.AddrPort) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.lanes[to] != nil
}

func (m *Mux) handLane(to netip.AddrPort, data []byte) bool {
	l := m.lane(to)
	if l == nil || laneState(l.state.Load()) == laneFailed {
		m.counts[muxGone].Add(1)
		return false
	}
	if l.out.push(data) {
		m.counts[muxOverflow].Add(1)
	}
	return true
}

// lane finds the stream to a peer or starts to dial it; nil where there is no room.
func (m *Mux) lane(to netip.AddrPort) *lane {
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
	delete(m.lanes, to)
	if m.closed || m.cfg.Dial == nil || len(m.lanes) >= m.cfg.Lanes && !m.dropFailedLocked() {
		m.counts[muxLanes].Add(1)
		return nil
	}
	ctx, cancel := context.WithCancel(m.ctx)
	l = &lane{to: to, out: newSendQueue(), cancel: cancel, known: make(chan struct{})}
	m.lanes[to] = l
	m.wg.Go(func() { m.runLane(ctx, l) })
	return l
}

// usableLocked is the lane to a peer, if it lives or has failed lately.
func (m *Mux) usableLocked(to netip.AddrPort) *lane {
	l := m.lanes[to]
	if l != nil && laneState(l.state.Load()) == laneFailed && !time.Now().Before(l.retryAt) {
		return nil
	}
	return l
}

func (m *Mux) dropFailedLocked() (dropped bool) {
	for to, l := range m.lanes {
		if laneState(l.state.Load()) == laneFailed {
			delete(m.lanes, to)
			dropped = true
		}
	}
	return dropped
}

// runLane dials, and moves datagrams until the stream ends.
func (m *Mux) runLane(ctx context.Context, l *lane) {
	defer l.cancel()
	dctx, cancel := context.WithTimeout(ctx, laneDial)
	conn, err := m.cfg.Dial(dctx, l.to)
	cancel()
	if err != nil {
		m.counts[muxDialFailed].Add(1)
		m.fail(l)
		close(l.known)
		return
	}
	m.counts[muxDialled].Add(1)
	l.state.Store(int32(laneUp))
	close(l.known)
	began := time.Now()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	err = newMessageStream(conn, l.to, true, m.times, l.out, m.in, ctx.Done()).run()
	if ctx.Err() == nil && !errors.Is(err, errUnused) && time.Since(began) < laneShort {
		m.fail(l)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lanes[l.to] == l {
		delete(m.lanes, l.to)
	}
}

func (m *Mux) fail(l *lane) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l.retryAt = time.Now().Add(laneRest)
	l.state.Store(int32(laneFailed))
}
