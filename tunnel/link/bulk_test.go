package link

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"culvert/protocol"
)

// held opens a flow that the tunnel side accepts and then leaves alone, and returns both ends.
func held(t *testing.T, opts ...rigOption) (*rig, *Flow, *Flow) {
	t.Helper()
	far, release := make(chan *Flow, 1), make(chan struct{})
	r := ok(t, connect(t, func(_ context.Context, f *Flow) {
		_ = f.Accept()
		far <- f
		<-release
	}, opts...))
	t.Cleanup(func() { close(release) })
	f, err := r.user.Open(Open{Port: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Opened(context.Background()); err != nil {
		t.Fatal(err)
	}
	return r, f, <-far
}

// offer hands the tunnel side one end of a pipe as a flow's own connection and returns the other.
func offer(r *rig, flow FlowID, proof [32]byte) (net.Conn, chan error) {
	near, far := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- r.tunnel.AcceptBulk(far, flow, proof) }()
	return near, done
}

func TestPrefaceIsTakenOnce(t *testing.T) {
	r, f, _ := held(t, func(u, _ *Config) { u.PromoteAfter = -1 })
	k, err := deriveFlow(r.user.secret, f.id)
	if err != nil {
		t.Fatal(err)
	}
	wrong := k.proof
	wrong[0] ^= 1
	unknown := newFlowID(r.user.number, 99)
	other := newFlowID([8]byte{1}, 1)
	for name, c := range map[string]struct {
		flow  FlowID
		proof [32]byte
	}{"wrong proof": {f.id, wrong}, "unknown flow": {unknown, k.proof}, "another link": {other, k.proof}} {
		if _, done := offer(r, c.flow, c.proof); !errors.Is(<-done, ErrPreface) {
			t.Errorf("%s was not refused", name)
		}
	}
	// Somebody who overheard the preface comes first: he gets READY, cannot answer, and the flow stays on the link.
	thief, done := offer(r, f.id, k.proof)
	if _, err := io.ReadFull(thief, make([]byte, recordHeader+recordTag)); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = thief.Write(make([]byte, recordHeader+recordTag)) }()
	if err := <-done; !errors.Is(err, ErrRecord) {
		t.Errorf("the thief: %v", err)
	}
	_ = thief.Close()
	if _, done := offer(r, f.id, k.proof); !errors.Is(<-done, ErrPreface) {
		t.Error("a second preface for one flow was taken")
	}
	if r.user.Err() != nil || r.tunnel.Err() != nil || f.Err() != nil {
		t.Error("the link or the flow suffered")
	}
}

// promoted makes a flow whose two ends have a connection of their own.
func promoted(t *testing.T) (*rig, *Flow, *Flow, net.Conn) {
	t.Helper()
	var own net.Conn
	dialled := make(chan struct{})
	r, near, far := held(t, func(u, _ *Config) {
		dial := u.DialBulk
		u.DialBulk = func(ctx context.Context, m func(protocol.Hash) error) (net.Conn, error) {
			defer close(dialled)
			var err error
			own, err = dial(ctx, m)
			return own, err
		}
		u.PromoteAfter = 1
	})
	_, _ = near.Write([]byte("xx"))
	<-dialled
	for _, f := range []*Flow{near, far} {
		f.mu.Lock()
		for f.stage < bulkReady && f.err == nil {
			f.writable.Wait()
		}
		f.mu.Unlock()
	}
	return r, near, far, own
}

func TestTruncationIsNoEnd(t *testing.T) {
	_, near, far, own := promoted(t)
	if _, err := near.Write([]byte("half a doc")); err != nil {
		t.Fatal(err)
	}
	_ = own.(*net.TCPConn).CloseWrite() // an attacker ends the connection in order, after whole records
	var got bytes.Buffer
	_, err := far.WriteTo(&got)
	if !errors.Is(err, io.ErrUnexpectedEOF) || got.String() != "xxhalf a doc" {
		t.Errorf("%q, %v", got.String(), err)
	}
}

func TestResetOfAPromotedFlow(t *testing.T) {
	_, near, far, _ := promoted(t)
	_, _ = near.Write([]byte("more"))
	near.Reset(ReasonNone, "")
	if _, err := far.WriteTo(io.Discard); err == nil {
		t.Error("a reset flow ended in order") // the end of its own connection may come before the link's RESET
	}
}

func TestDirectionsSwitchAlone(t *testing.T) {
	r, near, far, _ := promoted(t)
	if err := near.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := far.WriteTo(io.Discard); err != nil {
		t.Fatal(err)
	}
	_, _ = far.Write([]byte("an"))
	_, _ = far.Write([]byte("swer"))
	_ = far.CloseWrite()
	var got bytes.Buffer
	if _, err := near.WriteTo(&got); err != nil || got.String() != "answer" {
		t.Errorf("%q, %v", got.String(), err)
	}
	if near.Err() != io.EOF || r.user.bulks.Load() != 0 {
		t.Errorf("%v, %d connections left", near.Err(), r.user.bulks.Load())
	}
}

func TestAliveCheck(t *testing.T) {
	tm := Timing{}.withDefaults()
	at := func(s float64) time.Time { return time.Unix(1000, 0).Add(time.Duration(s * float64(time.Second))) }
	for name, c := range map[string]struct {
		now  float64
		p    pulse
		want verdict
		due  float64
	}{
		"in use, not yet":       {5.5, pulse{heard: at(5), used: at(5.2)}, watchOn, 6},
		"in use, silent":        {6, pulse{heard: at(5), used: at(5.2)}, watchAsk, 9.5},
		"no longer in use":      {16, pulse{heard: at(15), used: at(5.2)}, watchOn, 40},
		"idle":                  {10, pulse{heard: at(5)}, watchOn, 30},
		"idle long":             {30, pulse{heard: at(5)}, watchAsk, 33.5},
		"something waits":       {5.5, pulse{heard: at(4), said: at(5)}, watchOn, 5.75},
		"something waits long":  {6, pulse{heard: at(4), said: at(5)}, watchAsk, 9.5},
		"asked":                 {8, pulse{heard: at(4), said: at(5), asked: at(6)}, watchOn, 9.5},
		"asked in vain":         {9.5, pulse{heard: at(4), said: at(5), asked: at(6)}, watchDead, 9.5},
		"answered":              {9.5, pulse{heard: at(6.1), said: at(5), asked: at(6)}, watchOn, 31.1},
		"answered, said more":   {9.5, pulse{heard: at(6.1), said: at(9), asked: at(6)}, watchOn, 9.75},
		"said before it was ok": {9.5, pulse{heard: at(9), said: at(8)}, watchOn, 34},
	} {
		if v, due := tm.check(at(c.now), c.p); v != c.want || !due.Equal(at(c.due)) {
			t.Errorf("%s: %d, %v; want %d, %v", name, v, due, c.want, at(c.due))
		}
	}
	if worst := tm.Ask + tm.Answer; worst > 5*time.Second {
		t.Errorf("a dead link is noticed after %v", worst)
	}
}
