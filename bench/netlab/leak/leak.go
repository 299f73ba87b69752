// Package leak looks for what must not be there: pieces of a tunnel's payload
// in what a relay saw, and addresses, MACs or locations in what super-nodes
// receive and keep. It is pure; the lab brings the bytes.
package leak

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// PieceSize is the length of a piece of payload that counts as a leak.
const PieceSize = 16

// blockSize divides PieceSize so that every piece, wherever it begins, holds a
// whole block that begins at a multiple of it.
const blockSize = 8

// Pieces finds any PieceSize consecutive bytes of a payload.
type Pieces struct {
	payload []byte
	blocks  map[uint64][]int // the payload's aligned blocks and where they are
}

// NewPieces indexes the payload. It should be random: where a piece of it is
// as likely elsewhere (zeros), finding it says nothing.
func NewPieces(payload []byte) *Pieces {
	p := &Pieces{payload: payload, blocks: make(map[uint64][]int, len(payload)/blockSize)}
	for at := 0; at+blockSize <= len(payload); at += blockSize {
		key := binary.LittleEndian.Uint64(payload[at:])
		p.blocks[key] = append(p.blocks[key], at)
	}
	return p
}

// Find tells where data holds a piece of the payload.
func (p *Pieces) Find(data []byte) (at int, found bool) {
	for i := 0; i+blockSize <= len(data); i++ {
		for _, j := range p.blocks[binary.LittleEndian.Uint64(data[i:])] {
			before := commonSuffix(data[:i], p.payload[:j])
			after := commonPrefix(data[i:], p.payload[j:])
			if before+after >= PieceSize {
				return i - before, true
			}
		}
	}
	return 0, false
}

func commonPrefix(a, b []byte) int {
	n := 0
	for n < PieceSize && n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

func commonSuffix(a, b []byte) int {
	n := 0
	for n < PieceSize && n < len(a) && n < len(b) && a[len(a)-1-n] == b[len(b)-1-n] {
		n++
	}
	return n
}

// A Secret is something that must not be readable, in every form that it may
// take in bytes.
type Secret struct {
	Name  string
	Forms []Form
}

// A Form is one way to write a secret.
type Form struct {
	Name  string
	Bytes []byte
	fold  bool // text whose case does not matter; Bytes is lower case
}

// Address is an IP address: as text, in hexadecimal, and as bytes in both
// orders.
func Address(name string, a netip.Addr) Secret {
	raw := a.Unmap().AsSlice()
	reversed := slices.Clone(raw)
	slices.Reverse(reversed)
	return Secret{name, []Form{text("text", a.String()), text("hex", hex.EncodeToString(raw)), {Name: "bytes", Bytes: raw}, {Name: "bytes reversed", Bytes: reversed}}}
}

// MAC is a hardware address with and without its separators.
func MAC(name string, mac net.HardwareAddr) Secret {
	colons := mac.String()
	return Secret{name, []Form{
		text("text", colons),
		text("dashes", strings.ReplaceAll(colons, ":", "-")),
		text("hex", strings.ReplaceAll(colons, ":", "")),
		{Name: "bytes", Bytes: mac},
	}}
}

// Bytes is a secret number such as a location ID, in hexadecimal, base 64 and
// as bytes.
func Bytes(name string, b []byte) Secret {
	return Secret{name, []Form{
		{Name: "bytes", Bytes: b},
		text("hex", hex.EncodeToString(b)),
		{Name: "base64", Bytes: []byte(base64.RawStdEncoding.EncodeToString(b))},
		{Name: "base64 for URLs", Bytes: []byte(base64.RawURLEncoding.EncodeToString(b))},
	}}
}

// Text is a name.
func Text(name, s string) Secret { return Secret{name, []Form{text("text", s)}} }

func text(name, s string) Form {
	return Form{Name: name, Bytes: []byte(strings.ToLower(s)), fold: true}
}

// A Hit is a secret that was found.
type Hit struct {
	Secret, Form string
	At           int
	// Chance tells that the form is so short (an IPv4 address has 4 bytes)
	// that random bytes contain it now and then. One such hit in megabytes
	// proves nothing; a real leak repeats with every announcement.
	Chance bool
}

func (h Hit) String() string {
	return fmt.Sprintf("%s (%s) at byte %d", h.Secret, h.Form, h.At)
}

// certain is the length from which a form does not turn up by chance.
const certain = 6

// Scan reports the first place of every form of every secret in data.
func Scan(data []byte, secrets []Secret) []Hit {
	lower := bytes.ToLower(toASCII(data))
	var hits []Hit
	for _, s := range secrets {
		for _, f := range s.Forms {
			where := data
			if f.fold {
				where = lower
			}
			if at := bytes.Index(where, f.Bytes); at >= 0 {
				hits = append(hits, Hit{Secret: s.Name, Form: f.Name, At: at, Chance: len(f.Bytes) < certain})
			}
		}
	}
	return hits
}

// toASCII replaces what is not ASCII, byte by byte, so that changing the case
// moves nothing.
func toASCII(data []byte) []byte {
	out := bytes.Clone(data)
	for i, b := range out {
		if b >= 0x80 {
			out[i] = 0
		}
	}
	return out
}

// Certain drops those hits that may be chance: short forms that were found
// only once among everything that was scanned.
func Certain(hits []Hit) []Hit {
	times := make(map[[2]string]int)
	for _, h := range hits {
		times[[2]string{h.Secret, h.Form}]++
	}
	return slices.DeleteFunc(slices.Clone(hits), func(h Hit) bool {
		return h.Chance && times[[2]string{h.Secret, h.Form}] < 2
	})
}
