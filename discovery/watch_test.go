package discovery

import (
	"errors"
	"io"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

// bell is an event source that the test rings.
type bell struct {
	ring chan error
	gone chan struct{}
}

func newBell() *bell { return &bell{make(chan error), make(chan struct{})} }

func (b *bell) wait() error {
	select {
	case err := <-b.ring:
		return err
	case <-b.gone:
		return io.EOF
	}
}
func (b *bell) Close() error { close(b.gone); return nil }

var _ events = (*bell)(nil)

func TestWatcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, b := office(), newBell()
		l.set(target{2, ip("10.1.2.1")}, mac(1))
		w := newWatcher(l, b, WatchConfig{})
		first := <-w.Changes()
		if len(first.Gateways) != 1 || first.Gateways[0].MAC != mac(1) || len(first.Added) != 1 {
			t.Fatalf("first %+v", first)
		}
		for range 100 { // a burst is one reading
			b.ring <- nil
		}
		synctest.Wait()
		n := l.dumps
		sleep(t.Context(), time.Second)
		if l.dumps > n+2 {
			t.Errorf("%d readings after a burst", l.dumps-n)
		}
		select {
		case c := <-w.Changes():
			t.Errorf("nothing changed: %+v", c)
		default:
		}
		l.mu.Lock()
		l.ifs = append(l.ifs, Interface{Name: "wlan0", Index: 3, MAC: mac(3), Prefixes: []netip.Prefix{pfx("10.9.0.7/22")}})
		l.hops = append(l.hops, nextHop{Index: 3, Via: ip("10.9.0.1"), Metric: 600})
		l.mu.Unlock()
		l.set(target{3, ip("10.9.0.1")}, mac(30))
		start := time.Now()
		b.ring <- nil
		second := <-w.Changes()
		if took := time.Since(start); took < 250*time.Millisecond || took > time.Second {
			t.Errorf("told after %s", took)
		}
		if len(second.Gateways) != 2 || len(second.Added) != 1 || second.Added[0].Interface != "wlan0" || len(second.Removed)+len(second.Changed) != 0 {
			t.Errorf("second %+v", second)
		}
		if n := len(Locate(second.Gateways, [32]byte{1})); n != 2 {
			t.Errorf("%d locations on two networks", n)
		}
		if err := errors.Join(w.Close(), w.Close(), w.Wait()); err != nil {
			t.Error(err)
		}
		if _, open := <-w.Changes(); open {
			t.Error("a change after close")
		}
		l.wg.Wait()
	})
}

// What was not received is replaced, and the difference is to what was.
func TestWatcherLatestWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, b := office(), newBell()
		l.set(target{2, ip("10.1.2.1")}, mac(1))
		l.set(target{2, ip("10.1.2.2")}, mac(2))
		w := newWatcher(l, b, WatchConfig{})
		<-w.Changes()
		for _, hops := range [][]nextHop{nil, {{Index: 2, Via: ip("10.1.2.1")}}, {{Index: 2, Via: ip("10.1.2.2")}}} {
			l.mu.Lock()
			l.hops = hops
			l.mu.Unlock()
			b.ring <- nil
			sleep(t.Context(), 5*time.Second)
		}
		c := <-w.Changes()
		if len(c.Gateways) != 1 || len(c.Added) != 1 || len(c.Removed) != 1 || c.Added[0].Addr != ip("10.1.2.2") || c.Removed[0].Addr != ip("10.1.2.1") {
			t.Errorf("%+v", c)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		l.wg.Wait()
	})
}

func TestWatcherPolls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := office()
		l.set(target{2, ip("10.1.2.1")}, mac(1))
		w := newWatcher(l, nil, WatchConfig{Refresh: 5 * time.Second})
		<-w.Changes()
		start := time.Now()
		l.learn(entry{2, ip("10.1.2.1"), mac(77), true}) // another router at the same address
		c := <-w.Changes()
		if took := time.Since(start); len(c.Changed) != 1 || c.Gateways[0].MAC != mac(77) || took > 6*time.Second {
			t.Errorf("%+v after %s", c, took)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		l.wg.Wait()
	})
}

// Where the kernel tells of changes, most refreshes read no more than whose MAC the gateway has; and see another router all the same.
func TestWatcherReadsMACs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, b := office(), newBell()
		l.set(target{2, ip("10.1.2.1")}, mac(1))
		w := newWatcher(l, b, WatchConfig{Refresh: time.Minute})
		<-w.Changes()
		sleep(t.Context(), 20*time.Minute+time.Second)
		l.mu.Lock()
		lists := l.lists
		l.mu.Unlock()
		if most := 1 + 20/(macsOnly+1); lists > most {
			t.Errorf("%d times all was read, want %d", lists, most)
		}
		start := time.Now()
		l.learn(entry{2, ip("10.1.2.1"), mac(77), true})
		c := <-w.Changes()
		if took := time.Since(start); len(c.Changed) != 1 || c.Gateways[0].MAC != mac(77) || took > time.Minute+2*time.Second {
			t.Errorf("%+v after %s", c, took)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		l.wg.Wait()
	})
}

// A gateway that does not answer at first (the port is not forwarding yet) is asked again soon.
func TestWatcherRetriesUnknownMAC(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, b := office(), newBell()
		w := newWatcher(l, b, WatchConfig{})
		if c := <-w.Changes(); len(c.Gateways) != 1 || !c.Gateways[0].MAC.IsZero() {
			t.Fatalf("%+v", c)
		}
		l.set(target{2, ip("10.1.2.1")}, mac(1))
		start := time.Now()
		if c := <-w.Changes(); c.Gateways[0].MAC != mac(1) || time.Since(start) > 3*time.Second {
			t.Errorf("%+v after %s", c, time.Since(start))
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		l.wg.Wait()
	})
}

func TestWatcherFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, b := office(), newBell()
		w := newWatcher(l, b, WatchConfig{})
		fault := errors.New("socket broke")
		b.ring <- fault
		if err := w.Wait(); !errors.Is(err, fault) {
			t.Errorf("%v", err)
		}
		if err := w.Close(); !errors.Is(err, fault) {
			t.Errorf("close hides the fault: %v", err)
		}
		l.wg.Wait()
	})
}

func TestPlan(t *testing.T) {
	now := time.Unix(1000, 0)
	p := plan{settle: 250 * time.Millisecond, refresh: time.Minute}
	for n := range 1000 { // events every 10 ms for ever
		p.event(now.Add(time.Duration(n) * 10 * time.Millisecond))
	}
	if d := p.due.Sub(now); d != 2*time.Second {
		t.Errorf("read after %s of events", d)
	}
	var waits []time.Duration
	for range 8 {
		p.result(now, false)
		waits = append(waits, p.due.Sub(now))
	}
	if waits[0] != time.Second || waits[1] != 2*time.Second || waits[7] != time.Minute {
		t.Errorf("retries after %v", waits)
	}
	p.result(now, true)
	if p.due.Sub(now) != time.Minute {
		t.Errorf("refresh after %s", p.due.Sub(now))
	}
	p.event(now)
	p.result(now, false)
	if p.due.Sub(now) != time.Second {
		t.Errorf("an event does not reset the retry: %s", p.due.Sub(now))
	}
}

func TestCompareAndCarry(t *testing.T) {
	a := Gateway{Interface: "eth0", Index: 2, Addr: ip("10.1.2.1"), Prefix: pfx("10.1.2.0/24"), MAC: mac(1)}
	silent, other, moved := a, a, a
	silent.MAC, other.MAC, moved.Prefix, moved.MAC = MAC{}, mac(2), pfx("10.1.0.0/16"), MAC{}
	if got := carry([]Gateway{a}, []Gateway{silent}); got[0] != a {
		t.Errorf("a pause: %+v", got)
	}
	if got := carry([]Gateway{a}, []Gateway{moved}); !got[0].MAC.IsZero() {
		t.Errorf("another prefix: %+v", got)
	}
	if got := carry(nil, []Gateway{other}); got[0] != other {
		t.Errorf("nothing before: %+v", got)
	}
	if d := compare([]Gateway{a}, []Gateway{a}); !d.Empty() {
		t.Errorf("%+v", d)
	}
	if d := compare([]Gateway{a}, []Gateway{other}); len(d.Changed) != 1 || d.Changed[0] != other || len(d.Added)+len(d.Removed) != 0 {
		t.Errorf("%+v", d)
	}
	if d := compare([]Gateway{a}, nil); len(d.Removed) != 1 || d.Empty() {
		t.Errorf("%+v", d)
	}
	if resolved([]Gateway{a, silent}) || !resolved([]Gateway{a, {Layer3: true}}) {
		t.Error("resolved")
	}
}

func TestWatchThisMachine(t *testing.T) {
	defer goleak.VerifyNone(t)
	w, err := Watch(WatchConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if _, open := <-w.Changes(); !open {
		t.Errorf("ended: %v", w.Wait())
	}
	if err := errors.Join(w.Close(), w.Close()); err != nil {
		t.Error(err)
	}
}
