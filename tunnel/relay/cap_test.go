package relay

import (
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"culvert/protocol"
)

// However many domains send at once, all of them together get no more through than the upload cap allows; a cap of connections
// turns away who comes after, and lets him in when another has left.
func TestUploadCapHoldsForAllTogether(t *testing.T) {
	const (
		perSecond = 256 << 10
		pairs     = 6
		want      = 512 << 10
	)
	_, addr := start(t, Config{Rate: perSecond})
	var moved atomic.Int64
	var work sync.WaitGroup
	began := time.Now()
	for i := range byte(pairs) {
		d := protocol.Domain(7 + i)
		a, b := join(t, addr, node(d, 2*i+1), node(d, 2*i+2), i+1)
		work.Go(func() {
			buf := make([]byte, 16<<10)
			for moved.Load() < want {
				if _, err := a.Write(buf); err != nil {
					return
				}
			}
			_ = a.CloseWrite()
		})
		work.Go(func() {
			buf := make([]byte, 16<<10)
			for {
				n, err := b.Read(buf)
				if moved.Add(int64(n)); err == io.EOF || moved.Load() >= want {
					_ = a.Close() // what it still has to send is not waited for
					return
				} else if err != nil {
					return
				}
			}
		})
	}
	work.Wait()
	// What a second allows may come at once at first. A slow machine only makes the time longer.
	if n, allowed := moved.Load(), int64(perSecond*(1+time.Since(began).Seconds())); n > allowed+pairs*copySize || n < want {
		t.Errorf("%d bytes, %d were allowed", n, allowed)
	}
}

func TestConnectionCap(t *testing.T) {
	r, addr := start(t, Config{Connections: 4})
	a, b := join(t, addr, node(7, 1), node(7, 2), 1)
	join(t, addr, node(8, 3), node(8, 4), 2)
	late := dial(t, addr)
	if _, err := late.Read(make([]byte, 1)); err == nil {
		t.Fatal("a fifth connection was greeted")
	}
	if n := r.Stats()["relay full"]; n != 1 {
		t.Errorf("%d refused", n)
	}
	_ = a.Close()
	_ = b.Close()
	for r.Stats()["connections now"] > 2 {
		runtime.Gosched() // they leave by themselves; the test's own time limit ends this
	}
	join(t, addr, node(9, 5), node(9, 6), 3)
}
