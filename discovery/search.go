package discovery

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"
)

const (
	lookEvery   = 50 * time.Millisecond // how often a sweep reads the table
	settleTries = 8                     // 5 ms doubling to 640 ms
	confirmWait = 300 * time.Millisecond
)

// search is one flight: the table, then, if it is time for one, a sweep.
func (f *Finder) search(ctx context.Context, mac MAC) (Found, error) {
	started, epoch := time.Now(), f.network()
	if found, ok, err := f.fromTable(ctx, mac); ok || err != nil {
		return found, err
	}
	if err := f.recentlyMissing(mac, started); err != nil {
		return Found{}, err
	}
	if err := acquire(ctx, f.sweeps); err != nil {
		return Found{}, err
	}
	defer func() { <-f.sweeps }()
	// The sweep that was waited for may have shown this device too.
	if found, ok, err := f.fromTable(ctx, mac); ok || err != nil {
		return found, err
	}
	if f.coveredSince(mac, started) {
		f.judge(mac, epoch, verdict{at: time.Now()}, false)
		return Found{}, fmt.Errorf("%w: %s", ErrNotFound, mac)
	}
	return f.sweep(ctx, mac, epoch)
}

// coveredSince reports whether another device's sweep asked everybody since then, and did not hear this one.
func (f *Finder) coveredSince(mac MAC, then time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, heard := f.heard[mac]
	_, doubted := f.suspect[mac]
	return !heard && !doubted && f.covered.After(then)
}

func (f *Finder) recentlyMissing(mac MAC, now time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, doubted := f.suspect[mac]; doubted {
		return nil
	}
	if v, ok := f.swept[mac]; ok && !v.found && now.Sub(v.at) < f.config.Quiet {
		return fmt.Errorf("%w: %s (swept %s ago)", ErrNotFound, mac, now.Sub(v.at).Round(time.Second))
	}
	return nil
}

// fromTable answers from the neighbour table if it has a line for mac that nobody doubts. A line that was not confirmed lately
// is confirmed where raw sockets are allowed; where they are not it counts: the kernel checks it with the first packet.
func (f *Finder) fromTable(ctx context.Context, mac MAC) (Found, bool, error) {
	ifs, entries, err := f.look(mac)
	if err != nil {
		return Found{}, false, err
	}
	f.mu.Lock()
	last, _ := f.tracker.where(mac)
	doubted, isDoubted := f.suspect[mac]
	f.mu.Unlock()
	for _, e := range candidates(ifs, entries, mac, last.Addr) {
		if isDoubted && doubted.Addr == e.Addr {
			continue
		}
		if e.Fresh || f.confirm(ctx, ifs, e) {
			return f.accept(ifs, e), true, nil
		}
	}
	return Found{}, false, ctx.Err()
}

// look reads the machine's state and lets the tracker see it.
func (f *Finder) look(mac MAC) ([]Interface, []entry, error) {
	ifs, err := f.host.interfaces()
	if err != nil {
		return nil, nil, err
	}
	entries, err := f.host.neighbours()
	if err != nil {
		return nil, nil, err
	}
	f.mu.Lock()
	alerts := f.tracker.observe(time.Now(), mac, entries)
	f.mu.Unlock()
	f.report(alerts)
	return ifs, entries, nil
}

// confirm asks whether a stale line still holds. Without a means to hear an answer it does.
func (f *Finder) confirm(ctx context.Context, ifs []Interface, e entry) bool {
	on, ok := byIndex(ifs, e.Index)
	if !ok {
		return false
	}
	p, err := f.host.prober(ctx, on)
	if err != nil {
		return true
	}
	defer p.Close()
	if !p.hears() || e.Addr.Is6() {
		_ = p.touch(e.Addr) // so that the kernel checks it soon
		return true
	}
	end := time.Now().Add(confirmWait)
	for pause := 5 * time.Millisecond; time.Now().Before(end); pause *= 2 {
		_ = p.ask(e.Addr)
		if !sleep(ctx, pause) {
			return false
		}
		verdict := false
		for _, s := range p.heard() {
			if s.Addr != e.Addr {
				continue
			}
			if s.MAC != e.MAC {
				f.contest(e.MAC, s.Addr, s.MAC)
				return false
			}
			verdict = true
		}
		if verdict {
			return true
		}
	}
	return false
}

func (f *Finder) contest(mac MAC, addr netip.Addr, other MAC) {
	f.mu.Lock()
	alerts := f.tracker.contested(time.Now(), mac, addr, other)
	f.mu.Unlock()
	f.report(alerts)
}

// accept notes a result.
func (f *Finder) accept(ifs []Interface, e entry) Found {
	f.mu.Lock()
	alerts := f.tracker.found(time.Now(), e.MAC, target{e.Index, e.Addr})
	delete(f.suspect, e.MAC)
	f.mu.Unlock()
	f.report(alerts)
	on, _ := byIndex(ifs, e.Index)
	return Found{Addr: e.Addr, MAC: e.MAC, Interface: on.Name, Index: e.Index}
}

// judge notes what a sweep showed about mac, unless the network changed since; whole: everybody was asked, which also counts for the
// searches that waited.
func (f *Finder) judge(mac MAC, epoch int, v verdict, whole bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if epoch != f.epoch {
		return
	}
	if whole {
		f.covered = v.at
	}
	if len(f.swept) >= maxTracked {
		maps.DeleteFunc(f.swept, func(_ MAC, old verdict) bool { return v.at.Sub(old.at) >= f.config.Quiet })
	}
	if len(f.swept) < maxTracked {
		f.swept[mac] = v
	}
	delete(f.suspect, mac)
}

// network numbers the networks between resets.
func (f *Finder) network() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.epoch
}

func byIndex(ifs []Interface, index int) (Interface, bool) {
	k := slices.IndexFunc(ifs, func(i Interface) bool { return i.Index == index })
	if k < 0 {
		return Interface{}, false
	}
	return ifs[k], true
}
