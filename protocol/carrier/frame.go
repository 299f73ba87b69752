package carrier

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"culvert/protocol"
)

const frameHeader = 2

// ErrFrame marks a frame that is longer than a datagram may be.
var ErrFrame = errors.New("frame is longer than a datagram")

// AppendFrame lays a datagram out for a stream; an empty one is a keep-alive.
func AppendFrame(b, datagram []byte) ([]byte, error) {
	if len(datagram) > protocol.MaxDatagram {
		return b, fmt.Errorf("%w: %d bytes", ErrFrame, len(datagram))
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(datagram)))
	return append(b, datagram...), nil
}

// ReadFrame reads one datagram, empty for a keep-alive; its length is bounded before anything is allocated for it.
func ReadFrame(r *bufio.Reader) ([]byte, error) {
	head, err := r.Peek(frameHeader)
	if err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(head))
	if n > protocol.MaxDatagram {
		return nil, fmt.Errorf("%w: %d bytes", ErrFrame, n)
	}
	if _, err := r.Discard(frameHeader); err != nil {
		return nil, err
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return b, nil
}
