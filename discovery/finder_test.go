package discovery

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

// alerts collects reports; the searching goroutine writes, the test reads.
type alerts struct {
	mu   sync.Mutex
	list []Alert
}

func (a *alerts) add(x Alert) { a.mu.Lock(); defer a.mu.Unlock(); a.list = append(a.list, x) }
func (a *alerts) kinds() []AlertKind {
	a.mu.Lock()
	defer a.mu.Unlock()
	return kinds(a.list)
}

// withFinder runs fn in a bubble of virtual time, which also proves that Close leaves no goroutine.
func withFinder(t *testing.T, l *lan, fn func(t *testing.T, f *Finder, said *alerts)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		said := new(alerts)
		f := newFinder(l, FinderConfig{Report: said.add})
		fn(t, f, said)
		if err := f.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		l.wg.Wait()
	})
}

func TestFindInTable(t *testing.T) {
	l := office()
	l.table = []entry{{2, ip("fd12::9"), mac(9), true}, {2, ip("10.1.2.9"), mac(9), true}, {2, ip("10.1.2.8"), mac(8), false}, {2, ip("10.9.9.9"), mac(7), true}}
	withFinder(t, l, func(t *testing.T, f *Finder, _ *alerts) {
		start := time.Now()
		for m, want := range map[byte]string{9: "10.1.2.9", 8: "10.1.2.8"} {
			if got, err := f.Find(t.Context(), mac(m)); err != nil || got != (Found{ip(want), mac(m), "eth0", 2}) {
				t.Errorf("%d: %+v %v", m, got, err)
			}
		}
		if n := len(l.questions()); n != 0 || time.Since(start) != 0 {
			t.Errorf("%d questions in %s for what the table knows", n, time.Since(start))
		}
		if _, err := f.Find(t.Context(), mac(7)); !errors.Is(err, ErrNotFound) {
			t.Errorf("a line that is not on-link: %v", err)
		}
		for _, m := range []MAC{{}, {1, 0, 0, 0, 0, 1}, {255, 255, 255, 255, 255, 255}} {
			if _, err := f.Find(t.Context(), m); !errors.Is(err, ErrMAC) {
				t.Errorf("%s: %v", m, err)
			}
		}
	})
}

func TestFindBySweep(t *testing.T) {
	for _, raw := range []bool{false, true} {
		t.Run(fmt.Sprintf("raw=%v", raw), func(t *testing.T) {
			l := office()
			l.raw = raw
			l.set(target{2, ip("10.1.2.200")}, mac(20))
			withFinder(t, l, func(t *testing.T, f *Finder, _ *alerts) {
				start := time.Now()
				got, err := f.Find(t.Context(), mac(20))
				if err != nil || got.Addr != ip("10.1.2.200") {
					t.Fatalf("%+v %v", got, err)
				}
				if took := time.Since(start); took > 1500*time.Millisecond {
					t.Errorf("took %s", took)
				}
				for k := 1; k < len(l.at); k++ {
					if gap := l.at[k].Sub(l.at[k-1]); gap < 5*time.Millisecond {
						t.Fatalf("questions %s apart", gap)
					}
				}
				n := len(l.questions())
				if got, err := f.Find(t.Context(), mac(20)); err != nil || got.Addr != ip("10.1.2.200") || len(l.questions()) != n {
					t.Errorf("cached: %+v %v, %d more questions", got, err, len(l.questions())-n)
				}
				l.forget() // the kernel drops the line: the last address is asked first
				start = time.Now()
				if got, err := f.Find(t.Context(), mac(20)); err != nil || got.Addr != ip("10.1.2.200") || l.questions()[n].Addr != got.Addr {
					t.Errorf("again: %+v %v", got, err)
				}
				if took := time.Since(start); took > 200*time.Millisecond {
					t.Errorf("the known address took %s", took)
				}
			})
		})
	}
}

func TestFindNothing(t *testing.T) {
	l := office()
	withFinder(t, l, func(t *testing.T, f *Finder, _ *alerts) {
		_, err := f.Find(t.Context(), mac(20))
		if n := len(l.questions()); !errors.Is(err, ErrNotFound) || n < 253 || n > 256 {
			t.Fatalf("%v after %d questions", err, n)
		}
		n, start := len(l.questions()), time.Now()
		if _, err := f.Find(t.Context(), mac(20)); !errors.Is(err, ErrNotFound) || len(l.questions()) != n || time.Since(start) != 0 {
			t.Errorf("at once: %v, %d more questions", err, len(l.questions())-n)
		}
		l.learn(entry{2, ip("10.1.2.20"), mac(20), true}) // it spoke to us
		if got, err := f.Find(t.Context(), mac(20)); err != nil || got.Addr != ip("10.1.2.20") {
			t.Errorf("in the table meanwhile: %+v %v", got, err)
		}
		l.forget()
		l.set(target{2, ip("10.1.2.21")}, mac(20))
		f.Reset() // another network
		if got, err := f.Find(t.Context(), mac(20)); err != nil || got.Addr != ip("10.1.2.21") {
			t.Errorf("after a reset: %+v %v", got, err)
		}
	})
}

func TestFindQuietEnds(t *testing.T) {
	l := office()
	withFinder(t, l, func(t *testing.T, f *Finder, _ *alerts) {
		if _, err := f.Find(t.Context(), mac(20)); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
		l.set(target{2, ip("10.1.2.21")}, mac(20))
		sleep(t.Context(), 31*time.Second)
		if got, err := f.Find(t.Context(), mac(20)); err != nil || got.Addr != ip("10.1.2.21") {
			t.Errorf("%+v %v", got, err)
		}
	})
}

func TestFindMoved(t *testing.T) {
	l := office()
	l.raw = true
	l.table = []entry{{2, ip("10.1.2.9"), mac(9), false}} // stale
	l.set(target{2, ip("10.1.2.9")}, mac(7))              // somebody else has it by now
	l.set(target{2, ip("10.1.2.77")}, mac(9))
	withFinder(t, l, func(t *testing.T, f *Finder, said *alerts) {
		got, err := f.Find(t.Context(), mac(9))
		if err != nil || got.Addr != ip("10.1.2.77") {
			t.Errorf("%+v %v", got, err)
		}
		if k := said.kinds(); len(k) != 1 || k[0] != AddressTaken {
			t.Errorf("alerts %v", k)
		}
	})
}

func TestFindDistrusted(t *testing.T) {
	l := office()
	l.table = []entry{{2, ip("10.1.2.9"), mac(9), false}}
	withFinder(t, l, func(t *testing.T, f *Finder, _ *alerts) {
		old, err := f.Find(t.Context(), mac(9))
		if err != nil || old.Addr != ip("10.1.2.9") {
			t.Fatalf("%+v %v", old, err)
		}
		l.set(target{2, ip("10.1.2.77")}, mac(9))
		f.Distrust(old) // nothing answered there
		got, err := f.Find(t.Context(), mac(9))
		if err != nil || got.Addr != ip("10.1.2.77") {
			t.Errorf("moved: %+v %v", got, err)
		}
	})
}

// A device whose port is closed stays where it is: one sweep, not one for every attempt.
func TestFindDistrustedButThere(t *testing.T) {
	l := office()
	l.table = []entry{{2, ip("10.1.2.9"), mac(9), true}}
	l.set(target{2, ip("10.1.2.9")}, mac(9))
	withFinder(t, l, func(t *testing.T, f *Finder, _ *alerts) {
		for range 5 {
			got, err := f.Find(t.Context(), mac(9))
			if err != nil || got.Addr != ip("10.1.2.9") {
				t.Fatalf("%+v %v", got, err)
			}
			f.Distrust(got)
		}
		if n := len(l.questions()); n == 0 || n > 256 {
			t.Errorf("%d questions", n)
		}
	})
}

func TestFindIPv6(t *testing.T) {
	l := office()
	a, _ := mac(20).eui64(pfx("fd12::/64"))
	l.set(target{2, a}, mac(20))
	l.pingable = map[target]MAC{{2, ip("fd12::abcd")}: mac(21)}
	withFinder(t, l, func(t *testing.T, f *Finder, _ *alerts) {
		if got, err := f.Find(t.Context(), mac(20)); err != nil || got.Addr != a || len(l.questions()) > 20 {
			t.Errorf("made from the MAC: %+v %v after %d questions", got, err, len(l.questions()))
		}
		if got, err := f.Find(t.Context(), mac(21)); err != nil || got.Addr != ip("fd12::abcd") {
			t.Errorf("answered all nodes: %+v %v", got, err)
		}
	})
}

func TestFindTwoAnswerForOneAddress(t *testing.T) {
	l := office()
	l.raw = true
	at := target{2, ip("10.1.2.33")}
	l.set(at, mac(9))
	l.impostor = map[target]MAC{at: mac(66)}
	withFinder(t, l, func(t *testing.T, f *Finder, said *alerts) {
		got, err := f.Find(t.Context(), mac(9))
		l.wg.Wait()
		if err == nil {
			if m, _ := lookup(l, got.Index, got.Addr); m != mac(9) {
				t.Errorf("%+v although the kernel would send to %s", got, m)
			}
		}
		if k := said.kinds(); len(k) != 1 || k[0] != AddressTaken {
			t.Errorf("alerts %v (%v)", k, err)
		}
	})
}

func TestFindShared(t *testing.T) {
	l := office()
	l.set(target{2, ip("10.1.2.200")}, mac(20))
	withFinder(t, l, func(t *testing.T, f *Finder, _ *alerts) {
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if got, err := f.Find(t.Context(), mac(20)); err != nil || got.Addr != ip("10.1.2.200") {
					t.Errorf("%+v %v", got, err)
				}
			})
		}
		for n := range 20 { // others, which are not there: no sweep for each
			wg.Go(func() {
				if _, err := f.Find(t.Context(), mac(byte(100+n))); !errors.Is(err, ErrNotFound) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := len(l.questions()); n > 3*256 {
			t.Errorf("%d questions for 21 devices", n)
		}
	})
}

func TestFindContext(t *testing.T) {
	l := office()
	withFinder(t, l, func(t *testing.T, f *Finder, _ *alerts) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		start := time.Now()
		if _, err := f.Find(ctx, mac(20)); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 100*time.Millisecond {
			t.Errorf("%v after %s", err, time.Since(start))
		}
		synctest.Wait()
		n := len(l.questions())
		sleep(t.Context(), time.Second)
		if m := len(l.questions()); m != n {
			t.Errorf("%d more questions that nobody waits for", m-n)
		}
		if _, err := f.Find(ctx, mac(20)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ended context: %v", err)
		}
		// An abandoned search is no verdict.
		l.set(target{2, ip("10.1.2.31")}, mac(20))
		if got, err := f.Find(t.Context(), mac(20)); err != nil || got.Addr != ip("10.1.2.31") {
			t.Errorf("afterwards: %+v %v", got, err)
		}
	})
}

func TestFindClosed(t *testing.T) {
	l := office()
	withFinder(t, l, func(t *testing.T, f *Finder, _ *alerts) {
		ended := make(chan error)
		go func() {
			_, err := f.Find(t.Context(), mac(20))
			ended <- err
		}()
		synctest.Wait()
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, ErrClosed) {
			t.Errorf("search under way: %v", err)
		}
		if _, err := f.Find(t.Context(), mac(20)); !errors.Is(err, ErrClosed) {
			t.Errorf("after close: %v", err)
		}
	})
}

func TestFindWithFullNeighbourTable(t *testing.T) {
	l := office()
	l.busy = func(n int) bool { return n > 20 && n < 30 }
	l.set(target{2, ip("10.1.2.60")}, mac(20))
	withFinder(t, l, func(t *testing.T, f *Finder, _ *alerts) {
		if got, err := f.Find(t.Context(), mac(20)); err != nil || got.Addr != ip("10.1.2.60") {
			t.Errorf("%+v %v", got, err)
		}
	})
}

func TestFindWithoutNetwork(t *testing.T) {
	l := &lan{}
	withFinder(t, l, func(t *testing.T, f *Finder, _ *alerts) {
		if _, err := f.Find(t.Context(), mac(20)); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
		l.mu.Lock()
		l.failing = errors.New("no netlink")
		l.mu.Unlock()
		if _, err := f.Find(t.Context(), mac(21)); !errors.Is(err, l.failing) || errors.Is(err, ErrNotFound) {
			t.Errorf("a fault must be told apart: %v", err)
		}
	})
}

// On any machine: nobody has this MAC, and the real sockets are opened and closed.
func TestFindOnThisMachine(t *testing.T) {
	defer goleak.VerifyNone(t)
	f := NewFinder(FinderConfig{Span: 8, Linger: time.Millisecond})
	_, err := f.Find(t.Context(), MAC{2, 0xcc, 0xbb, 0xaa, 0x99, 0x88})
	if !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if err := errors.Join(f.Close(), f.Close()); err != nil {
		t.Error(err)
	}
}
