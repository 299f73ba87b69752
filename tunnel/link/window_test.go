package link

import (
	"bytes"
	"context"
	"io"
	"testing"
)

// windowOf is how much the peer may have under way.
func windowOf(f *Flow) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.window
}

// What is read as fast as it comes gets a window that fills a long path, as long as there is memory for it; whoever comes
// later gets one too, and everything is given back.
func TestWindowsGrow(t *testing.T) {
	const flows = 4
	far := make(chan *Flow, flows)
	r := ok(t, connect(t, func(ctx context.Context, f *Flow) {
		_ = f.Accept()
		far <- f
		_, _ = f.WriteTo(io.Discard)
		<-ctx.Done()
	}, func(u, _ *Config) { u.PromoteAfter = -1 }))
	var near []*Flow
	for _, least := range []uint64{windowMost, windowMost / 2, windowMost / 4, windowMost / 8} {
		f, err := r.user.Open(Open{Port: 1})
		if err != nil {
			t.Fatal(err)
		}
		near = append(near, f)
		other := <-far
		for i := 0; i < 64 || windowOf(other) < least; i++ { // it grows where the reader keeps up, which a busy machine puts off
			if _, err := f.Write(make([]byte, 1<<20)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if most := int64(r.tunnel.cfg.Limits.Buffered) / 2; r.tunnel.granted.Load() > most {
		t.Errorf("%d bytes of windows granted of %d", r.tunnel.granted.Load(), most)
	}
	for _, f := range near {
		f.Reset(ReasonNone, "")
	}
	for r.tunnel.Flows() > 0 {
		if err := r.tunnel.Err(); err != nil {
			t.Fatal(err)
		}
	}
	if n := r.tunnel.granted.Load(); n != 0 {
		t.Errorf("%d bytes of windows not given back", n)
	}
}

// A direction that goes on in its own connection needs no window on the link.
func TestOwnConnectionGivesTheWindowBack(t *testing.T) {
	_, near, far, _ := promoted(t)
	far.mu.Lock()
	if !far.link.grant(firstWindow) {
		t.Fatal("nothing to grant")
	}
	far.window *= 2
	far.mu.Unlock()
	if _, err := near.Write([]byte("on")); err != nil {
		t.Fatal(err)
	}
	if err := near.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if _, err := far.WriteTo(&got); err != nil || got.String() != "xxon" {
		t.Fatalf("%q, %v", got.String(), err)
	}
	if n := far.link.granted.Load(); n != 0 {
		t.Errorf("%d bytes of window are still granted", n)
	}
}
