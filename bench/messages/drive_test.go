package messages

import (
	"errors"
	"testing"
	"time"

	"culvert/protocol/carrier"
)

// lossy loses every tenth request on its way out.
type lossy struct {
	plainAsker
	asked int
}

func (a *lossy) ask(now time.Time) error {
	err := a.plainAsker.ask(now)
	if a.asked++; a.asked%10 == 0 {
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

func TestLostRequestsAreCountedAndDoNotStopTheLoad(t *testing.T) {
	_, a, c := echoServer(t, func(in []byte, out *carrier.Message) { out.N = copy(out.Buf, in) })
	l := &lossy{plainAsker: *a}
	s, err := drive(t.Context(), c, l, 8, 600*time.Millisecond)
	if err != nil || s.Value <= 0 || s.Lost == 0 {
		t.Fatalf("%+v, %v", s, err)
	}
	// The window of 8 is used up after at most 80 requests: more were made, so it was filled again.
	if l.asked <= 80 {
		t.Errorf("only %d requests were made", l.asked)
	}
}

func TestChangedBytesAreAnError(t *testing.T) {
	_, a, c := echoServer(t, func(in []byte, out *carrier.Message) { out.N = copy(out.Buf, in); out.Buf[echoSize-1] ^= 1 })
	if _, err := drive(t.Context(), c, a, 4, 50*time.Millisecond); !errors.Is(err, errBytes) {
		t.Errorf("got %v", err)
	}
}
