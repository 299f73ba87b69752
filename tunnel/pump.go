package tunnel

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"

	"culvert/protocol/rawtcp"
	"culvert/tunnel/link"
)

// pump carries bytes between a local TCP connection and a flow until both directions have ended. An orderly end of one
// direction is passed on alone; anything else resets both.
func pump(conn *rawtcp.Conn, f *link.Flow) (toFlow, fromFlow int64, err error) {
	f.OnBreak(func() { abort(conn.TCPConn) })
	f.Deliver(conn)
	toFlow, err = f.ReadFrom(conn)
	if err == nil {
		err = f.CloseWrite()
	}
	if err != nil {
		f.Reset(link.ReasonNone, "")
		abort(conn.TCPConn)
	}
	fromFlow, inErr := f.Delivered()
	if inErr != nil {
		f.Reset(link.ReasonNone, "")
		abort(conn.TCPConn)
	}
	_ = conn.Close()
	if cause := f.Err(); cause != nil && cause != io.EOF {
		return toFlow, fromFlow, cause
	}
	return toFlow, fromFlow, errors.Join(err, inErr)
}

// pumpTCP is pump between two TCP connections of this machine; the kernel moves the bytes where it can.
func pumpTCP(ctx context.Context, a, b *net.TCPConn) (toB, toA int64, err error) {
	var wg sync.WaitGroup
	var backErr error
	both := func() { abort(a); abort(b) }
	stop := context.AfterFunc(ctx, both)
	defer stop()
	one := func(dst, src *net.TCPConn, n *int64, err *error) {
		*n, *err = io.Copy(dst, src)
		if *err == nil {
			*err = dst.CloseWrite()
		}
		if *err != nil {
			both()
		}
	}
	wg.Go(func() { one(a, b, &toA, &backErr) })
	one(b, a, &toB, &err)
	wg.Wait()
	_, _ = a.Close(), b.Close()
	return toB, toA, errors.Join(err, backErr)
}

// abort closes with a reset, so that the other side does not take it for an orderly end.
func abort(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}
