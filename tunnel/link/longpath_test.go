package link

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// longPath is a path on which every byte takes oneWay in each direction, and nothing but memory limits how many are under way.
func longPath(t testing.TB, to string, oneWay time.Duration) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() { cancel(); l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				near.Close()
				continue
			}
			context.AfterFunc(ctx, func() { near.Close(); far.Close() })
			wg.Go(func() { delayed(ctx, &wg, far, near, oneWay) })
			wg.Go(func() { delayed(ctx, &wg, near, far, oneWay) })
		}
	})
	return l.Addr().String()
}

func delayed(ctx context.Context, wg *sync.WaitGroup, dst, src net.Conn, oneWay time.Duration) {
	type piece struct {
		due  time.Time
		data []byte
	}
	under := make(chan piece, 1<<14)
	wg.Go(func() {
		defer dst.Close()
		for p := range under {
			select {
			case <-time.After(time.Until(p.due)):
			case <-ctx.Done():
			}
			_, _ = dst.Write(p.data)
		}
	})
	defer close(under)
	buf := make([]byte, 64<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			under <- piece{time.Now().Add(oneWay), bytes.Clone(buf[:n])}
		}
		if err != nil {
			return
		}
	}
}

// BenchmarkLongPath moves 64 MiB where a round trip takes 100 ms: what our windows allow, since the path's own are endless.
func BenchmarkLongPath(b *testing.B) {
	for name, after := range map[string]int64{"on the link": -1, "own connection": 0} {
		b.Run(name, func(b *testing.B) {
			by := func(addr string) string { return longPath(b, addr, 50*time.Millisecond) }
			r := ok(b, connectBy(b, by, func(ctx context.Context, f *Flow) {
				_ = f.Accept()
				_, _ = f.WriteTo(io.Discard)
				_ = f.CloseWrite()
				<-ctx.Done()
			}, func(u, _ *Config) { u.PromoteAfter = after }))
			b.SetBytes(64 << 20)
			for b.Loop() {
				f, err := r.user.Open(Open{Port: 1})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := f.ReadFrom(bytes.NewReader(make([]byte, 64<<20))); err != nil {
					b.Fatal(err)
				}
				_ = f.CloseWrite()
				if _, err := f.WriteTo(io.Discard); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
