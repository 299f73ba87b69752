package peers

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/yamux"

	"culvert/bench/load"
)

// yamuxConfig is yamux's own choice, without its log.
func yamuxConfig() *yamux.Config {
	c := yamux.DefaultConfig()
	c.LogOutput = io.Discard
	return c
}

// yamuxStream is a stream as the other halves know one.
type yamuxStream struct{ *yamux.Stream }

// CloseWrite ends what is sent; yamux calls it Close.
func (s yamuxStream) CloseWrite() error { return s.Stream.Close() }

// Close ends both directions; yamux has no word for it, so that whoever reads is sent away.
func (s yamuxStream) Close() error {
	return errors.Join(s.SetReadDeadline(time.Unix(1, 0)), s.Stream.Close())
}

// yamuxHalf has a stream in one TLS connection for each TCP connection.
func yamuxHalf(ctx context.Context, arg json.RawMessage, ready func(any) error) error {
	a, cfg, err := parseHalf(arg)
	if err != nil {
		return err
	}
	if a.Near {
		return yamuxNear(ctx, a, cfg, ready)
	}
	return yamuxFar(ctx, a, cfg, ready)
}

func yamuxNear(ctx context.Context, a halfArg, cfg *tls.Config, ready func(any) error) error {
	c, err := (&tls.Dialer{Config: cfg}).DialContext(ctx, "tcp", a.To.String())
	if err != nil {
		return err
	}
	session, err := yamux.Client(c, yamuxConfig())
	if err != nil {
		return errors.Join(err, c.Close())
	}
	l, err := net.Listen("tcp", load.Local(0).String())
	if err != nil {
		return errors.Join(err, session.Close())
	}
	var h half
	h.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			h.join(c.(*net.TCPConn), func() (stream, error) {
				s, err := session.OpenStream()
				return yamuxStream{s}, err
			})
		}
	})
	err = ready(l.Addr().(*net.TCPAddr).AddrPort())
	if err == nil {
		<-ctx.Done()
	}
	err = errors.Join(err, l.Close())
	h.close() // first: those who still read from streams of a session that has ended take turns at nothing
	return errors.Join(err, session.Close())
}

func yamuxFar(ctx context.Context, a halfArg, cfg *tls.Config, ready func(any) error) error {
	l, err := tls.Listen("tcp", load.Local(0).String(), cfg)
	if err != nil {
		return err
	}
	var h half
	var accepting sync.WaitGroup
	ended, end := context.WithCancel(context.Background())
	accepting.Go(func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		session, err := yamux.Server(c, yamuxConfig())
		if err != nil {
			_ = c.Close()
			return
		}
		defer context.AfterFunc(ended, func() { _ = session.Close() })()
		for {
			s, err := session.AcceptStream()
			if err != nil {
				return
			}
			h.join(yamuxStream{s}, func() (stream, error) { return dialTCP(ctx, a.To) })
		}
	})
	err = ready(l.Addr().(*net.TCPAddr).AddrPort())
	if err == nil {
		<-ctx.Done()
	}
	err = errors.Join(err, l.Close())
	h.close()
	end()
	accepting.Wait()
	return err
}
