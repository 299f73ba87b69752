package relay

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

const (
	// FirstByte is the first byte of a connection that asks to be joined.
	FirstByte = 0x08
	joined    = 0x01
	// maxJoin is the longest signed message.
	maxJoin = 1200
)

var (
	// ErrJoin marks bytes that are no join.
	ErrJoin = errors.New("relay: malformed join")
	// ErrNotJoined is a relay that closed instead of joining: refused, or the other end did not come.
	ErrNotJoined = errors.New("relay: not joined (refused, or the other end did not come in time)")
)

// AppendJoin lays out what a node says to a relay.
func AppendJoin(b, message []byte) ([]byte, error) {
	if len(message) == 0 || len(message) > maxJoin {
		return b, fmt.Errorf("%w: %d bytes", ErrJoin, len(message))
	}
	b = append(b, FirstByte)
	b = binary.BigEndian.AppendUint16(b, uint16(len(message)))
	return append(b, message...), nil
}

// readJoin reads a join; the length is bounded before anything is allocated for it.
func readJoin(r io.Reader) ([]byte, error) {
	var head [3]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(head[1:]))
	if head[0] != FirstByte || n == 0 || n > maxJoin {
		return nil, ErrJoin
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	return b, nil
}

// Join asks the relay at the other end of conn to join it with its peer, and waits until the peer has come. On error conn is
// closed.
func Join(ctx context.Context, conn net.Conn, message []byte) error {
	b, err := AppendJoin(nil, message)
	if err == nil {
		stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
		if _, err = conn.Write(b); err == nil {
			var answer [1]byte
			_, err = io.ReadFull(conn, answer[:])
			if err == nil && answer[0] != joined {
				err = ErrJoin
			}
		}
		if !stop() {
			err = ctx.Err()
		}
	}
	if err == nil {
		return nil
	}
	_ = conn.Close()
	if ctx.Err() != nil {
		return fmt.Errorf("relay: join: %w", ctx.Err())
	}
	return fmt.Errorf("%w: %w", ErrNotJoined, err)
}
