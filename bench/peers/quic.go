package peers

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"time"

	"github.com/quic-go/quic-go"

	"culvert/bench/load"
)

// quicConfig lets through what the cells open; the rest is quic-go's own choice.
var quicConfig = &quic.Config{MaxIncomingStreams: 1 << 20, KeepAlivePeriod: 5 * time.Second}

// quicStream is a stream as the other halves know one.
type quicStream struct{ *quic.Stream }

// CloseWrite ends what is sent; quic-go calls it Close.
func (s quicStream) CloseWrite() error { return s.Stream.Close() }

// Close ends both directions.
func (s quicStream) Close() error {
	s.CancelRead(0)
	return s.Stream.Close()
}

// quicHalf has a stream in one QUIC connection for each TCP connection.
func quicHalf(ctx context.Context, arg json.RawMessage, ready func(any) error) error {
	a, cfg, err := parseHalf(arg)
	if err != nil {
		return err
	}
	if a.Near {
		return quicNear(ctx, a, cfg, ready)
	}
	return quicFar(ctx, a, cfg, ready)
}

func quicNear(ctx context.Context, a halfArg, cfg *tls.Config, ready func(any) error) error {
	conn, err := quic.DialAddr(ctx, a.To.String(), cfg, quicConfig)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", load.Local(0).String())
	if err != nil {
		return errors.Join(err, conn.CloseWithError(0, ""))
	}
	var h half
	h.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			h.join(c.(*net.TCPConn), func() (stream, error) {
				s, err := conn.OpenStreamSync(ctx)
				return quicStream{s}, err
			})
		}
	})
	err = ready(l.Addr().(*net.TCPAddr).AddrPort())
	if err == nil {
		<-ctx.Done()
	}
	err = errors.Join(err, l.Close(), conn.CloseWithError(0, ""))
	h.close()
	return err
}

func quicFar(ctx context.Context, a halfArg, cfg *tls.Config, ready func(any) error) error {
	l, err := quic.ListenAddr(load.Local(0).String(), cfg, quicConfig)
	if err != nil {
		return err
	}
	var h half
	h.wg.Go(func() {
		conn, err := l.Accept(ctx)
		for err == nil {
			var s *quic.Stream
			if s, err = conn.AcceptStream(ctx); err == nil {
				h.join(quicStream{s}, func() (stream, error) { return dialTCP(ctx, a.To) })
			}
		}
	})
	err = ready(l.Addr().(*net.UDPAddr).AddrPort())
	if err == nil {
		<-ctx.Done()
	}
	err = errors.Join(err, l.Close())
	h.close()
	return err
}
