package protocol

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"

	"github.com/vmihailenco/msgpack/v5"
)

// ErrPayload marks MessagePack that is malformed or past a bound.
var ErrPayload = errors.New("protocol: malformed payload")

const (
	// MaxPayload bounds every MessagePack text that is decoded, on the wire and in records.
	MaxPayload = 1200
	maxDepth   = 16
	// maxElements bounds one array, so that short elements cannot ask for many large structs.
	maxElements = 64
)

// Marshal encodes a payload or record value: structs as arrays, the shortest integers.
func Marshal(v any) ([]byte, error) {
	var buf bytes.Buffer
	e := msgpack.GetEncoder()
	defer msgpack.PutEncoder(e)
	e.Reset(&buf)
	e.UseCompactInts(true)
	e.UseArrayEncodedStructs(true)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("protocol: encode %T: %w", v, err)
	}
	if buf.Len() > MaxPayload {
		return nil, fmt.Errorf("%w: %T has %d bytes, at most %d", ErrPayload, v, buf.Len(), MaxPayload)
	}
	return buf.Bytes(), nil
}

// Unmarshal is the only place where MessagePack from outside is decoded. Its shape is checked against its length before the
// decoder sees a byte. Fields that a later version appended are skipped. v is a pointer.
func Unmarshal(b []byte, v any) (err error) {
	if err := checkShape(b); err != nil {
		return err
	}
	b, ok := fit(b, reflect.TypeOf(v).Elem())
	if !ok {
		return fmt.Errorf("%w: too few fields", ErrPayload)
	}
	// The library is not ours: a panic of its on odd input must cost one message, not the node.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrPayload, p)
		}
	}()
	d := msgpack.GetDecoder()
	defer msgpack.PutDecoder(d)
	d.Reset(bytes.NewReader(b))
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("%w: %v", ErrPayload, err)
	}
	return nil
}

// checkShape walks b once without allocating: one value, no trailing bytes, no maps, extensions or floats, bounded depth and
// arrays, every length within what is left.
func checkShape(b []byte) error {
	if len(b) > MaxPayload {
		return fmt.Errorf("%w: %d bytes", ErrPayload, len(b))
	}
	rest, ok := skipValue(b, 0)
	if !ok || len(rest) != 0 {
		return fmt.Errorf("%w: shape", ErrPayload)
	}
	return nil
}

func skipValue(b []byte, depth int) ([]byte, bool) {
	if len(b) == 0 || depth > maxDepth {
		return nil, false
	}
	c := b[0]
	b = b[1:]
	switch {
	case c <= 0x7f, c >= 0xe0, c == 0xc0, c == 0xc2, c == 0xc3:
		return b, true
	case c >= 0xa0 && c <= 0xbf:
		return skipBytes(b, int(c&0x1f))
	case c >= 0x90 && c <= 0x9f:
		return skipArray(b, int(c&0x0f), depth)
	}
	switch c {
	case 0xc4, 0xd9:
		if len(b) < 1 {
			return nil, false
		}
		return skipBytes(b[1:], int(b[0]))
	case 0xc5, 0xda:
		if len(b) < 2 {
			return nil, false
		}
		return skipBytes(b[2:], int(binary.BigEndian.Uint16(b)))
	case 0xdc:
		if len(b) < 2 {
			return nil, false
		}
		return skipArray(b[2:], int(binary.BigEndian.Uint16(b)), depth)
	case 0xcc, 0xd0:
		return skipBytes(b, 1)
	case 0xcd, 0xd1:
		return skipBytes(b, 2)
	case 0xce, 0xd2:
		return skipBytes(b, 4)
	case 0xcf, 0xd3:
		return skipBytes(b, 8)
	}
	return nil, false
}

func skipBytes(b []byte, n int) ([]byte, bool) {
	if n > len(b) {
		return nil, false
	}
	return b[n:], true
}

func skipArray(b []byte, n, depth int) ([]byte, bool) {
	if n > len(b) || n > maxElements {
		return nil, false
	}
	ok := true
	for i := 0; i < n && ok; i++ {
		b, ok = skipValue(b, depth+1)
	}
	return b, ok
}
