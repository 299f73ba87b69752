package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"culvert/protocol/carrier/descriptors"
)

// errNoRoom is ErrLimit where it is this machine's descriptors that are used up.
var errNoRoom = fmt.Errorf("%w: %w", ErrLimit, descriptors.ErrReserve)

// withRoom is dial, but for the last descriptors.
func withRoom[A any](b *descriptors.Budget, dial func(context.Context, A) (net.Conn, error)) func(context.Context, A) (net.Conn, error) {
	return func(ctx context.Context, to A) (net.Conn, error) {
		conn, err := dial(ctx, to)
		if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
			return nil, errNoRoom
		}
		if err == nil && !b.Tunnel(conn) {
			_ = conn.Close()
			return nil, errNoRoom
		}
		return conn, err
	}
}
