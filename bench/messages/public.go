package messages

import (
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"culvert/protocol/carrier"
)

// Layout of a datagram of the public-key echo: ephemeral key 32 ‖ ciphertext ‖ tag 16 ‖ signature 64; as long as a
// signed Ping.
const (
	publicSize = 276
	publicKey  = 32
	publicSig  = ed25519.SignatureSize
	publicText = publicSize - publicKey - sealedTag - publicSig
)

var errPublic = errors.New("public-key echo does not open")

// publicSide is one side's keys, and what it knows of the other.
type publicSide struct {
	sign   ed25519.PrivateKey
	seal   *ecdh.PrivateKey
	verify ed25519.PublicKey
	to     *ecdh.PublicKey
}

// publicSides makes the load's and the server's side.
func publicSides() (load, server *publicSide, err error) {
	var sides [2]publicSide
	for i := range sides {
		h := sha256.Sum256(fmt.Appendf(nil, "culvert benchmark public echo %d", i))
		sides[i].sign = ed25519.NewKeyFromSeed(h[:])
		h = sha256.Sum256(h[:])
		if sides[i].seal, err = ecdh.X25519().NewPrivateKey(h[:]); err != nil {
			return nil, nil, err
		}
	}
	for i := range sides {
		o := &sides[1-i]
		sides[i].verify, sides[i].to = o.sign.Public().(ed25519.PublicKey), o.seal.PublicKey()
	}
	return &sides[0], &sides[1], nil
}

// pack seals text to the other side under a fresh key and signs the whole.
func (s *publicSide) pack(out, text []byte) error {
	e, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	secret, err := e.ECDH(s.to)
	if err != nil {
		return err
	}
	k := sha256.Sum256(secret)
	a, err := newGCM(k[:])
	if err != nil {
		return err
	}
	copy(out, e.PublicKey().Bytes())
	var nonce [12]byte
	a.Seal(out[publicKey:publicKey], nonce[:], text, out[:publicKey])
	copy(out[publicSize-publicSig:], ed25519.Sign(s.sign, out[:publicSize-publicSig]))
	return nil
}

// unpack checks and opens in place.
func (s *publicSide) unpack(b []byte) ([]byte, error) {
	if len(b) != publicSize || !ed25519.Verify(s.verify, b[:publicSize-publicSig], b[publicSize-publicSig:]) {
		return nil, errPublic
	}
	e, err := ecdh.X25519().NewPublicKey(b[:publicKey])
	if err != nil {
		return nil, errPublic
	}
	secret, err := s.seal.ECDH(e)
	if err != nil {
		return nil, errPublic
	}
	k := sha256.Sum256(secret)
	a, err := newGCM(k[:])
	if err != nil {
		return nil, err
	}
	var nonce [12]byte
	return a.Open(b[publicKey:publicKey], nonce[:], b[publicKey:publicSize-publicSig], b[:publicKey])
}

// respond is the server's side.
func (s *publicSide) respond(in []byte, out *carrier.Message) {
	text, err := s.unpack(in)
	if err == nil && s.pack(out.Buf, text) == nil {
		out.N = publicSize
	}
}

// publicAsker is the load.
type publicAsker struct {
	outbox
	pending
	side *publicSide
	to   netip.AddrPort
	text [publicText]byte
}

func (a *publicAsker) ask(time.Time) error {
	m := a.outbox.next()
	binary.BigEndian.PutUint64(a.text[:], a.take())
	m.Addr, m.N = a.to, publicSize
	return a.side.pack(m.Buf, a.text[:])
}

func (a *publicAsker) answer(_ time.Time, m *carrier.Message) (int, error) {
	text, err := a.side.unpack(m.Buf[:m.N])
	if err != nil {
		return 0, err
	}
	return a.done(binary.BigEndian.Uint64(text)), nil
}
