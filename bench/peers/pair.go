package peers

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"

	"culvert/bench/load"
)

const (
	partTLS   = "peers-tls"
	partQUIC  = "peers-quic"
	partYamux = "peers-yamux"
	// pairBuffer is what a direction of a connection is copied through.
	pairBuffer = 64 << 10
)

// halfArg says which half of a pair a process is.
type halfArg struct {
	Near bool
	Pair pair
	To   netip.AddrPort // of the far half, of the device
}

// startPair starts both halves.
func startPair(part string) func(context.Context, *running, paths, netip.AddrPort) (netip.AddrPort, error) {
	return func(ctx context.Context, r *running, _ paths, device netip.AddrPort) (local netip.AddrPort, err error) {
		p, err := newPair()
		if err != nil {
			return local, err
		}
		var far netip.AddrPort
		if err := r.part(ctx, part, halfArg{Pair: p, To: device}, &far); err != nil {
			return local, err
		}
		return local, r.part(ctx, part, halfArg{Near: true, Pair: p, To: far}, &local)
	}
}

// stream is a connection that can be closed for writing alone.
type stream interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// half takes connections and has each copied to one that dial makes.
type half struct {
	wg     sync.WaitGroup
	mu     sync.Mutex
	open   map[stream]struct{}
	closed bool
}

// hold keeps a connection to be closed by close; false where that has been.
func (h *half) hold(s stream) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		_ = s.Close()
		return false
	}
	if h.open == nil {
		h.open = make(map[stream]struct{})
	}
	h.open[s] = struct{}{}
	return true
}

func (h *half) drop(s stream) {
	_ = s.Close()
	h.mu.Lock()
	delete(h.open, s)
	h.mu.Unlock()
}

// join copies between a connection and one that dial makes until both directions have ended.
func (h *half) join(a stream, dial func() (stream, error)) {
	h.wg.Go(func() {
		if !h.hold(a) {
			return
		}
		defer h.drop(a)
		b, err := dial()
		if err != nil || !h.hold(b) {
			return
		}
		defer h.drop(b)
		var wg sync.WaitGroup
		for _, d := range [][2]stream{{a, b}, {b, a}} {
			wg.Go(func() {
				// What the two types could do by themselves is hidden: the buffer is to be ours.
				_, err := io.CopyBuffer(struct{ io.Writer }{d[0]}, struct{ io.Reader }{d[1]}, make([]byte, pairBuffer))
				if err == nil {
					err = d[0].CloseWrite()
				}
				if err != nil {
					_ = a.Close()
					_ = b.Close()
				}
			})
		}
		wg.Wait()
	})
}

func (h *half) close() {
	h.mu.Lock()
	h.closed = true
	for s := range h.open {
		_ = s.Close()
	}
	h.mu.Unlock()
	h.wg.Wait()
}

func dialTCP(ctx context.Context, to netip.AddrPort) (stream, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// parseHalf reads what a half is started with.
func parseHalf(arg json.RawMessage) (a halfArg, cfg *tls.Config, err error) {
	if err = json.Unmarshal(arg, &a); err == nil {
		cfg, err = a.Pair.config("bench")
	}
	return a, cfg, err
}

// tlsHalf has a TLS connection for each TCP connection.
func tlsHalf(ctx context.Context, arg json.RawMessage, ready func(any) error) error {
	a, cfg, err := parseHalf(arg)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", load.Local(0).String())
	if err != nil {
		return err
	}
	var h half
	h.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if a.Near {
				h.join(c.(*net.TCPConn), func() (stream, error) { return dialTLS(ctx, a.To, cfg) })
				continue
			}
			h.join(tls.Server(c, cfg), func() (stream, error) { return dialTCP(ctx, a.To) })
		}
	})
	err = ready(l.Addr().(*net.TCPAddr).AddrPort())
	if err == nil {
		<-ctx.Done()
	}
	err = errors.Join(err, l.Close())
	h.close()
	return err
}

func dialTLS(ctx context.Context, to netip.AddrPort, cfg *tls.Config) (stream, error) {
	c, err := (&tls.Dialer{Config: cfg}).DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	return c.(*tls.Conn), nil
}
