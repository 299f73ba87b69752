package discovery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// scan is one sweep under way: the probers, and what they heard.
type scan struct {
	f       *Finder
	mac     MAC
	ifs     []Interface
	probers map[int]prober
	steps   *sweep
	heard   map[target]MAC
}

// sweep asks all addresses in turn until the device shows itself.
func (f *Finder) sweep(ctx context.Context, mac MAC, epoch int) (Found, error) {
	all, err := f.host.interfaces()
	if err != nil {
		return Found{}, err
	}
	routes, err := f.host.routes()
	if err != nil {
		return Found{}, err
	}
	s := &scan{f: f, mac: mac, ifs: searchable(all, routes), probers: make(map[int]prober), heard: make(map[target]MAC)}
	defer s.close()
	for _, i := range s.ifs {
		if p, err := f.host.prober(ctx, i); err == nil {
			s.probers[i.Index] = p
		}
	}
	hints := guesses(s.ifs, mac)
	f.mu.Lock()
	if at, ok := f.tracker.where(mac); ok {
		hints = append([]target{at}, hints...)
	}
	if at, ok := f.heard[mac]; ok {
		hints = append([]target{at}, hints...)
	}
	f.mu.Unlock()
	passes := 1 // the kernel itself asks three times
	for _, p := range s.probers {
		if p.hears() {
			passes = 2
		}
	}
	s.steps = newSweep(time.Now(), sweepOrder(s.ifs, hints, f.config.Span), f.config.Rate, passes)
	found, err := s.run(ctx)
	if errors.Is(err, ErrNotFound) {
		found, err = s.doubtful(err)
		f.judge(mac, epoch, verdict{time.Now(), err == nil}, true)
	}
	return found, err
}

// run drives the step machine, looking for the device between its steps.
func (s *scan) run(ctx context.Context) (Found, error) {
	s.allNodes()
	look := time.Now().Add(lookEvery)
	var end time.Time
	for {
		now := time.Now()
		if err := ctx.Err(); err != nil {
			return Found{}, err
		}
		if !now.Before(look) {
			found, ok, err := s.look(ctx)
			if ok || err != nil {
				return found, err
			}
			look = now.Add(lookEvery)
		}
		t, wait, more := s.steps.step(now)
		switch {
		case more && wait == 0:
			s.ask(now, t)
			continue
		case !more && end.IsZero():
			s.allNodes() // once more: the first may have been lost
			end = now.Add(s.f.config.Linger)
		case !more && !now.Before(end):
			return Found{}, fmt.Errorf("%w: %s (%d addresses asked)", ErrNotFound, s.mac, len(s.steps.targets))
		}
		if until := look.Sub(now); !more || until < wait {
			wait = until
		}
		if !sleep(ctx, wait) {
			return Found{}, ctx.Err()
		}
	}
}

func (s *scan) allNodes() {
	for _, p := range s.probers {
		p.allNodes()
	}
}

func (s *scan) ask(now time.Time, t target) {
	p := s.probers[t.Index]
	if p == nil {
		s.steps.answer(t)
		return
	}
	switch err := p.ask(t.Addr); {
	case errors.Is(err, errBusy):
		s.steps.refuse(now)
	case err != nil:
		s.steps.answer(t) // forbidden or unreachable: asking again changes nothing
	default:
		s.steps.accept()
	}
}

// look reads what was heard and the table; a device is found when the kernel's table has it.
func (s *scan) look(ctx context.Context) (Found, bool, error) {
	for index, p := range s.probers {
		for _, h := range p.heard() {
			s.hear(target{index, h.Addr}, h.MAC)
		}
	}
	_, entries, err := s.f.look(s.mac)
	if err != nil {
		return Found{}, false, err
	}
	for _, e := range candidates(s.ifs, entries, s.mac, s.last().Addr) {
		if s.credible(e) && !s.doubts(e) {
			return s.f.accept(s.ifs, e), true, nil
		}
	}
	for t, mac := range s.heard {
		if mac != s.mac {
			continue
		}
		if e, ok := s.settle(ctx, t); ok {
			return s.f.accept(s.ifs, e), true, nil
		}
		delete(s.heard, t)
	}
	return Found{}, false, nil
}

func (s *scan) hear(t target, mac MAC) {
	if on, ok := byIndex(s.ifs, t.Index); !ok || !on.reaches(t.Addr) {
		return // an answer that nobody asked for
	}
	s.steps.answer(t)
	before, known := s.heard[t]
	if known && before != mac && (before == s.mac || mac == s.mac) {
		other := mac
		if mac == s.mac {
			other = before
		}
		s.f.contest(s.mac, t.Addr, other)
	}
	if (known && before != s.mac) || (!known && len(s.heard) < maxTargets) {
		s.heard[t] = mac // where two answer for the device's address the kernel's table decides
	}
}

// settle makes the kernel resolve an address that an ARP answer named, and compares.
func (s *scan) settle(ctx context.Context, t target) (entry, bool) {
	p := s.probers[t.Index]
	if p == nil {
		return entry{}, false
	}
	pause := 5 * time.Millisecond
	for range settleTries {
		_ = p.touch(t.Addr)
		if !sleep(ctx, pause) {
			return entry{}, false
		}
		pause *= 2
		mac, fresh := lookup(s.f.host, t.Index, t.Addr)
		if mac.IsZero() {
			continue
		}
		if mac != s.mac {
			if fresh {
				s.f.contest(s.mac, t.Addr, mac)
				return entry{}, false
			}
			continue // the old line, until the kernel has checked it
		}
		return entry{t.Index, t.Addr, mac, fresh}, true
	}
	return entry{}, false
}

// doubtful is the last resort after a sweep in vain: the table's word on where nothing answered, or a stale line.
func (s *scan) doubtful(missing error) (Found, error) {
	_, entries, err := s.f.look(s.mac)
	if err != nil {
		return Found{}, err
	}
	list := candidates(s.ifs, entries, s.mac, s.last().Addr)
	list = slices.DeleteFunc(list, func(e entry) bool { return !s.credible(e) })
	if len(list) == 0 {
		return Found{}, missing
	}
	return s.f.accept(s.ifs, list[0]), nil
}

// credible refuses a line that was not confirmed lately where asking would have been heard.
func (s *scan) credible(e entry) bool {
	p := s.probers[e.Index]
	return e.Fresh || e.Addr.Is6() || p == nil || !p.hears()
}

func (s *scan) doubts(e entry) bool {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	d, ok := s.f.suspect[s.mac]
	return ok && d.Addr == e.Addr
}

func (s *scan) last() target {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	at, _ := s.f.tracker.where(s.mac)
	return at
}

func (s *scan) close() {
	heard := make(map[MAC]target, len(s.heard))
	for t, mac := range s.heard {
		heard[mac] = t
	}
	s.f.mu.Lock()
	s.f.heard = heard
	s.f.mu.Unlock()
	for _, p := range s.probers {
		_ = p.Close() // its sockets only ever sent questions
	}
}
