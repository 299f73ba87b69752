package discovery

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// lan is a fake machine on a fake network: a device resolves some time after it was asked.
type lan struct {
	mu       sync.Mutex
	ifs      []Interface
	hops     []nextHop
	table    []entry
	devices  map[target]MAC
	raw      bool // ARP is allowed
	delay    time.Duration
	asked    []target
	touched  []target
	at       []time.Time
	dumps    int              // of the neighbour table
	lists    int              // of interfaces
	busy     func(n int) bool // whether the n-th question finds no room
	failing  error
	impostor map[target]MAC // answers ARP too
	pingable map[target]MAC // answer to all-nodes
	wg       sync.WaitGroup
}

var _ host = (*lan)(nil)

func (l *lan) interfaces() ([]Interface, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lists++
	return slices.Clone(l.ifs), l.failing
}

func (l *lan) neighbours() ([]entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dumps++
	return slices.Clone(l.table), l.failing
}

func (l *lan) routes() ([]nextHop, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.hops), l.failing
}

func (l *lan) preferred(bool) (int, netip.Addr, bool) { return 0, netip.Addr{}, false }

func (l *lan) prober(_ context.Context, on Interface) (prober, error) {
	return &fakeProber{lan: l, on: on}, nil
}

// set replaces the device at t, and the table's line if it has one.
func (l *lan) set(t target, mac MAC) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.devices == nil {
		l.devices = make(map[target]MAC)
	}
	l.devices[t] = mac
}

func (l *lan) learn(e entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.learnLocked(e)
}

func (l *lan) learnLocked(e entry) {
	l.table = slices.DeleteFunc(l.table, func(o entry) bool { return o.Index == e.Index && o.Addr == e.Addr })
	l.table = append(l.table, e)
}

func (l *lan) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.table = nil
}

func (l *lan) questions() []target {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.asked)
}

type fakeProber struct {
	lan     *lan
	on      Interface
	answers []sighting // guarded by lan.mu
	closed  bool
}

func (p *fakeProber) touch(a netip.Addr) error {
	l := p.lan
	l.mu.Lock()
	defer l.mu.Unlock()
	t := target{p.on.Index, a}
	l.touched = append(l.touched, t)
	if mac, ok := l.devices[t]; ok {
		l.wg.Go(func() { sleep(context.Background(), l.delay); l.learn(entry{t.Index, t.Addr, mac, true}) })
	}
	return nil
}

func (p *fakeProber) ask(a netip.Addr) error {
	l := p.lan
	l.mu.Lock()
	if p.closed {
		l.mu.Unlock()
		return errors.New("asked after close")
	}
	l.asked = append(l.asked, target{p.on.Index, a})
	l.at = append(l.at, time.Now())
	if l.busy != nil && l.busy(len(l.asked)) {
		l.mu.Unlock()
		return errBusy
	}
	mac, ok := l.devices[target{p.on.Index, a}]
	l.mu.Unlock()
	if !l.raw || a.Is6() {
		return p.touch(a)
	}
	if ok {
		l.wg.Go(func() {
			sleep(context.Background(), l.delay)
			l.mu.Lock()
			defer l.mu.Unlock()
			p.answers = append(p.answers, sighting{a, mac})
			if other, ok := l.impostor[target{p.on.Index, a}]; ok {
				p.answers = append(p.answers, sighting{a, other})
			}
		})
	}
	return nil
}

func (p *fakeProber) heard() []sighting {
	p.lan.mu.Lock()
	defer p.lan.mu.Unlock()
	out := p.answers
	p.answers = nil
	return out
}

func (p *fakeProber) hears() bool { return p.lan.raw }

func (p *fakeProber) allNodes() {
	p.lan.mu.Lock()
	defer p.lan.mu.Unlock()
	for t, mac := range p.lan.pingable {
		if t.Index == p.on.Index {
			p.lan.learnLocked(entry{t.Index, t.Addr, mac, false})
		}
	}
}

func (p *fakeProber) Close() error {
	p.lan.mu.Lock()
	defer p.lan.mu.Unlock()
	p.closed = true
	return nil
}

func ip(s string) netip.Addr    { return netip.MustParseAddr(s) }
func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func mac(n byte) MAC { return MAC{2, 0, 0x5e, 0x10, 0, n} }

// office is a machine with one Ethernet of 254 addresses.
func office() *lan {
	return &lan{
		ifs:   []Interface{{Name: "eth0", Index: 2, MAC: mac(1), Prefixes: []netip.Prefix{pfx("10.1.2.30/24"), pfx("fd12::30/64"), pfx("fe80::1/64")}}},
		hops:  []nextHop{{Index: 2, Via: ip("10.1.2.1"), Metric: 100}},
		delay: 2 * time.Millisecond,
	}
}
