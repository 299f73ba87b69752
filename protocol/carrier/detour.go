package carrier

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"time"
)

const (
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

func (d *detour) failed() bool { return detourState(d.state.Load()) == detourFailed }

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
	d := m.detours[to]
	return d == nil || !d.failed() || !time.Now().Before(d.retryAt)
}

// Reach makes sure of a stream to a peer, whether or not UDP counts as blocked.
func (m *Mux) Reach(ctx context.Context, to netip.AddrPort) error {
	d := m.detour(to)
	if d == nil {
		return ErrNoStream
	}
	select {
	case <-d.known:
	case <-ctx.Done():
		return ctx.Err()
	}
	if d.failed() {
		return ErrNoStream
	}
	return nil
}

// CloseDetours ends all dialled streams and forgets what failed; they are dialled anew as they are needed.
func (m *Mux) CloseDetours() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for to, d := range m.detours {
		d.cancel()
		delete(m.detours, to)
	}
}

func (m *Mux) hasDetour(to netip.AddrPort) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.detours[to] != nil
}

func (m *Mux) handDetour(to netip.AddrPort, data []byte) bool {
	d := m.detour(to)
	if d == nil || d.failed() {
		m.counts[muxGone].Add(1)
		return false
	}
	if d.out.push(data) {
		m.counts[muxOverflow].Add(1)
	}
	return true
}

// detour finds the stream to a peer or starts to dial it; nil where there is no room.
func (m *Mux) detour(to netip.AddrPort) *detour {
	m.mu.RLock()
	d := m.usableLocked(to)
	m.mu.RUnlock()
	if d != nil {
		return d
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if d = m.usableLocked(to); d != nil {
		return d
	}
	delete(m.detours, to)
	if m.closed || m.cfg.Dial == nil || len(m.detours) >= m.cfg.Detours && !m.dropFailedLocked() {
		m.counts[muxDetours].Add(1)
		return nil
	}
	ctx, cancel := context.WithCancel(m.ctx)
	d = &detour{to: to, out: newSendQueue(), cancel: cancel, known: make(chan struct{})}
	m.detours[to] = d
	m.wg.Go(func() { m.runDetour(ctx, d) })
	return d
}

// usableLocked is the detour to a peer, if it lives or has failed lately.
func (m *Mux) usableLocked(to netip.AddrPort) *detour {
	d := m.detours[to]
	if d != nil && d.failed() && !time.Now().Before(d.retryAt) {
		return nil
	}
	return d
}

func (m *Mux) dropFailedLocked() (dropped bool) {
	for to, d := range m.detours {
		if d.failed() {
			delete(m.detours, to)
			dropped = true
		}
	}
	return dropped
}

// runDetour dials, and moves datagrams until the stream ends.
func (m *Mux) runDetour(ctx context.Context, d *detour) {
	defer d.cancel()
	dctx, cancel := context.WithTimeout(ctx, m.times.dial)
	conn, err := m.cfg.Dial(dctx, d.to)
	cancel()
	if err != nil {
		m.counts[muxDialFailed].Add(1)
		m.fail(d)
		close(d.known)
		return
	}
	m.counts[muxDialled].Add(1)
	d.state.Store(int32(detourUp))
	close(d.known)
	began := time.Now()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	err = newMessageStream(conn, d.to, true, m.times, d.out, m.in, ctx.Done()).run()
	if ctx.Err() == nil && !errors.Is(err, errUnused) && time.Since(began) < detourShort {
		m.fail(d)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.detours[d.to] == d {
		delete(m.detours, d.to)
	}
}

func (m *Mux) fail(d *detour) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d.retryAt = time.Now().Add(detourRest)
	d.state.Store(int32(detourFailed))
}
