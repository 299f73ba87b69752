package protocol

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/vmihailenco/msgpack/v5"
)

// Addr is an IP address and port on the wire: 4 or 16 bytes of address ‖ 2 bytes of port, IPv4 never in its mapped form.
type Addr struct{ netip.AddrPort }

// AddrOf unmaps a.
func AddrOf(a netip.AddrPort) Addr {
	return Addr{netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())}
}

// EncodeMsgpack implements msgpack.CustomEncoder.
func (a Addr) EncodeMsgpack(e *msgpack.Encoder) error { return e.EncodeBytes(a.appendBinary(nil)) }

func (a Addr) appendBinary(b []byte) []byte {
	if !a.IsValid() {
		return b
	}
	b = append(b, a.Addr().AsSlice()...)
	return binary.BigEndian.AppendUint16(b, a.Port())
}

// DecodeMsgpack implements msgpack.CustomDecoder.
func (a *Addr) DecodeMsgpack(d *msgpack.Decoder) error {
	b, err := d.DecodeBytes()
	if err != nil {
		return err
	}
	return a.parse(b)
}

func (a *Addr) parse(b []byte) error {
	if len(b) == 0 {
		*a = Addr{}
		return nil
	}
	if len(b) != 6 && len(b) != 18 {
		return fmt.Errorf("%w: address of %d bytes", ErrPayload, len(b))
	}
	ip, _ := netip.AddrFromSlice(b[:len(b)-2])
	if ip.Is4In6() {
		return fmt.Errorf("%w: mapped address", ErrPayload)
	}
	*a = Addr{netip.AddrPortFrom(ip, binary.BigEndian.Uint16(b[len(b)-2:]))}
	return nil
}

// EncodeMsgpack implements msgpack.CustomEncoder.
func (id ID) EncodeMsgpack(e *msgpack.Encoder) error { return e.EncodeBytes(id[:]) }

// DecodeMsgpack implements msgpack.CustomDecoder: 36 bytes, no less.
func (id *ID) DecodeMsgpack(d *msgpack.Decoder) error { return fixed(d, id[:]) }

// EncodeMsgpack implements msgpack.CustomEncoder.
func (h Hash) EncodeMsgpack(e *msgpack.Encoder) error { return e.EncodeBytes(h[:]) }

// DecodeMsgpack implements msgpack.CustomDecoder: 32 bytes, no less.
func (h *Hash) DecodeMsgpack(d *msgpack.Decoder) error { return fixed(d, h[:]) }

func fixed(d *msgpack.Decoder, dst []byte) error {
	n, err := d.DecodeBytesLen()
	if err != nil {
		return err
	}
	if n != len(dst) {
		return fmt.Errorf("%w: %d bytes where %d belong", ErrPayload, n, len(dst))
	}
	return d.ReadFull(dst)
}

// StreamsOnly reports whether a node at this address offers streams alone, and never UDP: ports 443 and 80 pass firewalls that
// stop everything else, and are announced for that.
func StreamsOnly(a netip.AddrPort) bool { return a.Port() == 443 || a.Port() == 80 }
