package link

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"culvert/protocol"
)

// echoDatagrams gives every datagram back until the opener ends.
func echoDatagrams(_ context.Context, f *Flow) {
	if f.Accept() != nil {
		return
	}
	b := make([]byte, MaxDatagram)
	for {
		n, err := f.ReceiveDatagram(b)
		if err != nil {
			_ = f.CloseWrite()
			return
		}
		if f.SendDatagram(b[:n]) != nil {
			return
		}
	}
}

func openUDP(t testing.TB, l *Link) *Flow {
	t.Helper()
	f, err := l.Open(Open{Port: 161, Protocol: protocol.UDP})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestDatagramsKeepTheirEdges(t *testing.T) {
	r := ok(t, connect(t, echoDatagrams, func(u, n *Config) { u.PromoteAfter, n.PromoteAfter = 0, 0 }))
	f := openUDP(t, r.user)
	b := make([]byte, MaxDatagram)
	for _, size := range []int{0, 1, 9000, MaxDatagram} {
		data := random(size)
		if err := f.SendDatagram(data); err != nil {
			t.Fatal(err)
		}
		if n, err := f.ReceiveDatagram(b); err != nil || !bytes.Equal(b[:n], data) {
			t.Errorf("%d bytes: %d came back, %v", size, n, err)
		}
	}
	if err := f.SendDatagram(make([]byte, MaxDatagram+1)); err != nil || r.user.Dropped() != 1 {
		t.Errorf("too long: %v, %d dropped", err, r.user.Dropped())
	}
	if err := f.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReceiveDatagram(b); err != io.EOF {
		t.Errorf("end: %v", err)
	}
	if err := f.SendDatagram(b[:1]); err == nil {
		t.Error("sent on a flow that is over")
	}
	if f.Err() != io.EOF || r.user.Flows() != 0 || r.user.buffered.Load() != 0 || r.user.bulks.Load() != 0 {
		t.Errorf("%v, %d flows, %d bytes, %d connections left", f.Err(), r.user.Flows(), r.user.buffered.Load(), r.user.bulks.Load())
	}
}

// A reader who reads nothing loses datagrams, and neither his sender nor other flows wait for him.
func TestUnreadDatagramsAreDropped(t *testing.T) {
	served := make(chan *Flow, 1)
	r := ok(t, connect(t, func(ctx context.Context, f *Flow) {
		if f.Target().Port == 1 {
			echo(ctx, f)
			return
		}
		_ = f.Accept()
		served <- f
		<-ctx.Done()
	}))
	f := openUDP(t, r.user)
	for range 4 * mostDatagrams {
		if err := f.SendDatagram(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	other, err := r.user.Open(Open{Port: 1, Protocol: protocol.TCP})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(echoed(t, other, random(1<<20)), random(1<<20)) {
		t.Error("other bytes came back")
	}
	far := <-served
	far.mu.Lock()
	held, bytesHeld := len(far.datagrams), far.queued
	far.mu.Unlock()
	if held == 0 || held > mostDatagrams || bytesHeld > mostQueued {
		t.Errorf("%d datagrams of %d bytes held", held, bytesHeld)
	}
	if n := r.user.Dropped() + r.tunnel.Dropped(); n != uint64(4*mostDatagrams-held) {
		t.Errorf("%d counted, %d are missing", n, 4*mostDatagrams-held)
	}
	far.Reset(ReasonNone, "")
	if n := r.tunnel.buffered.Load(); n != 0 {
		t.Errorf("%d bytes left in the account", n)
	}
}

func TestDatagramsOutOfPlaceEndTheLink(t *testing.T) {
	for name, c := range map[string]struct {
		protocol protocol.Transport
		frame    FrameType
	}{
		"datagram on TCP": {protocol.TCP, FrameDatagram},
		"data on UDP":     {protocol.UDP, FrameData},
		"bulk on UDP":     {protocol.UDP, FrameBulk},
	} {
		t.Run(name, func(t *testing.T) {
			r := ok(t, connect(t, func(ctx context.Context, f *Flow) { _ = f.Accept(); <-ctx.Done() }))
			f, err := r.user.Open(Open{Port: 1, Protocol: c.protocol})
			if err != nil {
				t.Fatal(err)
			}
			_ = f.Opened(context.Background())
			_ = r.user.control(Header{Type: c.frame, Flow: f.ID()}, []byte("x"))
			if err := r.tunnel.Wait(); !errors.Is(err, ErrFrame) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestNewsIsTold(t *testing.T) {
	told := make(chan *Link, 1)
	r := ok(t, connect(t, echo, func(u, _ *Config) { u.News = func(l *Link) { told <- l } }))
	r.tunnel.Tell()
	if l := <-told; l.Peer().ID != r.tunnel.Local() {
		t.Error("news of somebody else")
	}
}

// Asked out of turn a peer that lives is heard, and one that does not is suspect soon.
func TestAskAtOnce(t *testing.T) {
	tm := func(u, n *Config) {
		u.Timing = Timing{Suspect: time.Millisecond, Idle: time.Hour, Answer: time.Hour}
		n.Timing = Timing{Idle: time.Hour}
	}
	r := ok(t, connect(t, echo, tm))
	before := r.user.heard.Load()
	r.user.Ask()
	until(t, "the peer is heard", func() bool { return r.user.heard.Load() != before })
	if !r.user.Here().IsValid() || r.user.Here().Port() == r.user.Remote().Port() {
		t.Errorf("here %s, there %s", r.user.Here(), r.user.Remote())
	}
	r.user.Fail(ErrDead)
	if err := r.user.Wait(); err != ErrDead {
		t.Errorf("ended by %v", err)
	}
}
