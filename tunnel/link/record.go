package link

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Kind is the kind of a bulk record.
type Kind byte

const (
	KindReady Kind = 1
	KindData  Kind = 2
	KindFin   Kind = 3
)

const (
	recordHeader = 4
	recordTag    = 16
	// recordSent is the longest record that is sent, recordMax the longest taken.
	recordSent = 256 << 10
	recordMax  = 256 << 10
	// rekeyEvery keeps what one AES-GCM key seals, 2^34 blocks, at what TLS 1.3 allows: an advantage of 2^-57.
	rekeyEvery = 1 << 20

	// PrefaceByte is the first byte of a flow's own connection.
	PrefaceByte = 0x09
	prefaceSize = 1 + 16 + 32
)

// ErrRecord marks a bulk record that is malformed or not authentic.
var ErrRecord = errors.New("link: bulk record does not authenticate")

// flowKeys are the keys of one flow's own connection.
type flowKeys struct {
	proof      [32]byte
	toDialler  [32]byte
	toAcceptor [32]byte
}

func deriveFlow(secret [32]byte, flow FlowID) (flowKeys, error) {
	var k flowKeys
	proof, err := expand(secret, "culvert 1 bulk proof"+string(flow[:]))
	if err != nil {
		return k, err
	}
	mac := hmac.New(sha256.New, proof[:])
	mac.Write([]byte("culvert 1 bulk"))
	mac.Write(flow[:])
	mac.Sum(k.proof[:0])
	if k.toAcceptor, err = expand(secret, "culvert 1 bulk traffic"+string(flow[:])+"\x00"); err != nil {
		return k, err
	}
	k.toDialler, err = expand(secret, "culvert 1 bulk traffic"+string(flow[:])+"\x01")
	return k, err
}

func expand(secret [32]byte, info string) ([32]byte, error) {
	b, err := hkdf.Expand(sha256.New, secret[:], info, 32)
	if err != nil {
		return [32]byte{}, fmt.Errorf("link: derive key: %w", err)
	}
	return [32]byte(b), nil
}

// AppendPreface lays out the preface of a flow's own connection.
func AppendPreface(b []byte, flow FlowID, proof [32]byte) []byte {
	b = append(b, PrefaceByte)
	b = append(b, flow[:]...)
	return append(b, proof[:]...)
}

// ParsePreface reads a preface. It proves nothing yet.
func ParsePreface(b []byte) (flow FlowID, proof [32]byte, err error) {
	if len(b) != prefaceSize || b[0] != PrefaceByte {
		return flow, proof, fmt.Errorf("%w: preface", ErrRecord)
	}
	return FlowID(b[1:17]), [32]byte(b[17:]), nil
}

// direction is one direction's key and record number; it belongs to one goroutine at a time.
type direction struct {
	traffic [32]byte
	aead    cipher.AEAD
	count   uint64
	every   uint64 // records a key
	nonce   [12]byte
	head    [recordHeader]byte // of the record being read; here so that reading allocates nothing
}

func newDirection(traffic [32]byte, every uint64) (*direction, error) {
	d := &direction{traffic: traffic, every: every}
	return d, d.rekey()
}

func (d *direction) rekey() error {
	k, err := expand(d.traffic, "culvert 1 bulk key")
	if err != nil {
		return err
	}
	block, err := aes.NewCipher(k[:])
	if err != nil {
		return fmt.Errorf("link: bulk key: %w", err)
	}
	d.aead, err = cipher.NewGCM(block)
	return err
}

// next returns the nonce of the next record.
func (d *direction) next() ([]byte, error) {
	if d.count > 0 && d.count%d.every == 0 {
		t, err := expand(d.traffic, "culvert 1 bulk next")
		if err != nil {
			return nil, err
		}
		d.traffic = t
		if err := d.rekey(); err != nil {
			return nil, err
		}
	}
	binary.BigEndian.PutUint64(d.nonce[4:], d.count)
	d.count++
	return d.nonce[:], nil
}

// seal turns buf, whose plaintext of n bytes stands behind room for a header, into a record in place. buf needs capacity
// for the tag.
func (d *direction) seal(buf []byte, kind Kind, n int) ([]byte, error) {
	nonce, err := d.next()
	if err != nil {
		return nil, err
	}
	binary.BigEndian.PutUint32(buf, uint32(kind)<<24|uint32(n))
	sealed := d.aead.Seal(buf[recordHeader:recordHeader], nonce, buf[recordHeader:recordHeader+n], buf[:recordHeader])
	return buf[:recordHeader+len(sealed)], nil
}

// parseRecordHeader reads a record's header, still unproven, and bounds what is read for it.
func parseRecordHeader(b [recordHeader]byte) (Kind, int, error) {
	v := binary.BigEndian.Uint32(b[:])
	kind, n := Kind(v>>24), int(v&0xffffff)
	switch {
	case kind == KindData && n > 0 && n <= recordMax:
	case (kind == KindReady || kind == KindFin) && n == 0:
	default:
		return 0, 0, fmt.Errorf("%w: kind %d of %d bytes", ErrRecord, kind, n)
	}
	return kind, n, nil
}

// open reads one record from r into a buffer that room provides and opens it in place.
func (d *direction) open(r io.Reader, room func(n int) []byte) (Kind, []byte, error) {
	if _, err := io.ReadFull(r, d.head[:]); err != nil {
		return 0, nil, truncated(err)
	}
	kind, n, err := parseRecordHeader(d.head)
	if err != nil {
		return 0, nil, err
	}
	buf := room(n + recordTag)[:n+recordTag]
	if _, err := io.ReadFull(r, buf); err != nil {
		return 0, nil, truncated(err)
	}
	nonce, err := d.next()
	if err != nil {
		return 0, nil, err
	}
	plain, err := d.aead.Open(buf[:0], nonce, buf, d.head[:])
	if err != nil {
		return 0, nil, ErrRecord
	}
	return kind, plain, nil
}

// truncated turns a clean end into an error: only a FIN record ends a direction.
func truncated(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
