package messages

import (
	"errors"
	"testing"
	"time"

	"culvert/protocol/carrier"
)

// lossy loses every tenth request on its way out, the second first.
type lossy struct {
	plainAsker
	asked int
}

func (a *lossy) ask(now time.Time) error {
	err := a.plainAsker.ask(now)
	if a.asked++; a.asked%10 == 2 {
		a.ms = a.ms[:len(a.ms)-1]
	}
	return err
}

// impatient gives up at the first silence.
func (a *lossy) overdue(now time.Time, _ time.Duration) int { return a.plainAsker.overdue(now, giveUp) }

func echoServer(t *testing.T, respond responder) (*serving, *plainAsker, conn) {
	t.Helper()
	var s serving
	at, err := s.add(segments, func(c conn) error { return serveEcho(c, respond) })
	if err != nil {
		t.Fatal(err)
	}
	c, err := segments.listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Close()
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	return &s, &plainAsker{to: at}, c
}

func TestLostRequestsAreCounted(t *testing.T) {
	_, a, c := echoServer(t, func(in []byte, out *carrier.Message) { out.N = copy(out.Buf, in) })
	s, err := drive(t.Context(), c, &lossy{plainAsker: *a}, 8, time.Millisecond) // one window at least, of which one is lost
	if err != nil || s.Value <= 0 || s.Lost == 0 {
		t.Fatalf("%+v, %v", s, err)
	}
}

// The window of 8 is used up after at most 80 requests: more are made, so it is filled again.
func TestLostRequestsDoNotStopTheLoad(t *testing.T) {
	_, a, c := echoServer(t, func(in []byte, out *carrier.Message) { out.N = copy(out.Buf, in) })
	lossy := &lossy{plainAsker: *a}
	l := newLoad(c, lossy, 8)
	for began := time.Now(); lossy.asked <= 80; {
		if now := time.Now(); now.Sub(began) > firstLimit {
			t.Fatalf("only %d requests were made", lossy.asked)
		} else if err := l.step(t.Context(), now, 8, silence); err != nil {
			t.Fatal(err)
		}
	}
	if l.lost == 0 || l.done == 0 {
		t.Errorf("%d lost, %d done", l.lost, l.done)
	}
}

func TestChangedBytesAreAnError(t *testing.T) {
	_, a, c := echoServer(t, func(in []byte, out *carrier.Message) { out.N = copy(out.Buf, in); out.Buf[echoSize-1] ^= 1 })
	if _, err := drive(t.Context(), c, a, 4, 50*time.Millisecond); !errors.Is(err, errBytes) {
		t.Errorf("got %v", err)
	}
}
