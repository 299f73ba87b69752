package messages

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"culvert/protocol/carrier"
)

// Layout of a datagram of the sealed echo: index 8 ‖ counter 8 ‖ ciphertext ‖ tag 16.
const (
	sealedHead = 16
	sealedTag  = 16
	sealedText = echoSize - sealedHead - sealedTag
)

// sealedPair is what one peer and the server hold: a key for each direction.
type sealedPair struct {
	there, back   cipher.AEAD
	counter, sent uint64 // of the peer, of the server
}

func sealedPairs(n int) ([]sealedPair, error) {
	l := make([]sealedPair, n)
	for i := range l {
		for d, a := range []*cipher.AEAD{&l[i].there, &l[i].back} {
			k := sha256.Sum256(fmt.Appendf(nil, "culvert benchmark sealed echo %d %d", i, d))
			var err error
			if *a, err = newGCM(k[:]); err != nil {
				return nil, err
			}
		}
	}
	return l, nil
}

func newGCM(k []byte) (cipher.AEAD, error) {
	b, err := aes.NewCipher(k)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(b)
}

// seal seals in place what stands in b behind the head.
func seal(a cipher.AEAD, nonce *[12]byte, b []byte, index, counter uint64) {
	binary.BigEndian.PutUint64(b, index)
	binary.BigEndian.PutUint64(b[8:], counter)
	binary.BigEndian.PutUint64(nonce[4:], counter)
	a.Seal(b[sealedHead:sealedHead], nonce[:], b[sealedHead:sealedHead+sealedText], b[:sealedHead])
}

// open opens b in place.
func open(a cipher.AEAD, nonce *[12]byte, b []byte) ([]byte, error) {
	binary.BigEndian.PutUint64(nonce[4:], binary.BigEndian.Uint64(b[8:]))
	return a.Open(b[sealedHead:sealedHead], nonce[:], b[sealedHead:echoSize], b[:sealedHead])
}

// sealedAsker asks as one of many peers in turn.
type sealedAsker struct {
	outbox
	pending
	to    netip.AddrPort
	pairs []sealedPair
	turn  int
	nonce [12]byte
}

func (a *sealedAsker) ask(time.Time) error {
	m, n, i := a.outbox.next(), a.take(), a.turn
	a.turn = (a.turn + 1) % len(a.pairs)
	p := &a.pairs[i]
	p.counter++
	binary.BigEndian.PutUint64(m.Buf[sealedHead:], n)
	seal(p.there, &a.nonce, m.Buf, uint64(i), p.counter)
	m.Addr, m.N = a.to, echoSize
	return nil
}

func (a *sealedAsker) answer(_ time.Time, m *carrier.Message) (int, error) {
	if m.N != echoSize {
		return 0, errBytes
	}
	i := binary.BigEndian.Uint64(m.Buf)
	if i >= uint64(len(a.pairs)) {
		return 0, errBytes
	}
	text, err := open(a.pairs[i].back, &a.nonce, m.Buf)
	if err != nil {
		return 0, fmt.Errorf("sealed echo: %w", err)
	}
	return a.done(binary.BigEndian.Uint64(text)), nil
}

// sealedEcho is the server's side: it opens, and seals the same text back. What does not open is dropped.
type sealedEcho struct {
	pairs []sealedPair
	nonce [12]byte
}

func (s *sealedEcho) respond(in []byte, out *carrier.Message) {
	if len(in) != echoSize {
		return
	}
	i := binary.BigEndian.Uint64(in)
	if i >= uint64(len(s.pairs)) {
		return
	}
	p := &s.pairs[i]
	text, err := open(p.there, &s.nonce, in)
	if err != nil {
		return
	}
	p.sent++
	copy(out.Buf[sealedHead:], text)
	seal(p.back, &s.nonce, out.Buf, i, p.sent)
	out.N = echoSize
}
