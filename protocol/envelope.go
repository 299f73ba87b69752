package protocol

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"sync"
	"time"

	"culvert/protocol/key"
)

const (
	messageContext = "culvert 1 message\x00"
	payloadContext = "culvert 1 payload"
)

// Envelope is a signed message of which only the shape has been checked. Nothing in it may be believed.
type Envelope struct {
	Command   Command
	Reply     bool
	Receiver  ID
	Sender    ID
	Timestamp time.Time
	MessageID uint64

	raw []byte
}

// ParseEnvelope checks the shape of a signed message. The envelope aliases b.
func ParseEnvelope(b []byte) (Envelope, error) {
	if len(b) > MaxDatagram {
		return Envelope{}, ErrOversized
	}
	if len(b) < MinSigned || b[0] != TypeSigned {
		return Envelope{}, malformed("length or type")
	}
	if b[1] != wireVersion {
		return Envelope{}, ErrVersion
	}
	c := Command(b[2])
	if c == 0 || c >= CmdEnd || b[3]&^(flagReply|flagReadable) != 0 || (b[3]&flagReadable != 0) != c.Readable() {
		return Envelope{}, malformed("command or flags")
	}
	if !c.Readable() && len(b) < MinSigned+payloadSeal {
		return Envelope{}, malformed("length")
	}
	ms := binary.BigEndian.Uint64(b[76:])
	if ms > maxMillis {
		return Envelope{}, malformed("timestamp")
	}
	return Envelope{
		Command: c, Reply: b[3]&flagReply != 0, Receiver: ID(b[4:40]), Sender: ID(b[40:76]),
		Timestamp: time.UnixMilli(int64(ms)), MessageID: binary.BigEndian.Uint64(b[84:]), raw: b[:len(b):len(b)],
	}, nil
}

// Raw is the whole message.
func (e *Envelope) Raw() []byte { return e.raw }

// ReadablePayload is the unverified payload of a readable message: a certificate must be read before the signature that it
// certifies can be checked.
func (e *Envelope) ReadablePayload() ([]byte, error) {
	if !e.Command.Readable() {
		return nil, ErrOpen
	}
	return unpad(e.raw[signedHead : len(e.raw)-signedTail])
}

// UnverifiedPayload opens the payload of a message whose signature has not been checked: one that carries its sender's own
// certificate inside the seal. Nothing in it may be believed before Open has said so.
func (e *Envelope) UnverifiedPayload(to *Receiver) ([]byte, error) {
	if e.Receiver != to.ID {
		return nil, ErrCertificate
	}
	return e.payload(to)
}

// MAC1 is the outer code of the message, to which a cookie is bound.
func (e *Envelope) MAC1() [macSize]byte { return [macSize]byte(e.raw[len(e.raw)-2*macSize:]) }

// Transcript is SHA-256 over the message up to and including its signature: what later messages and links are bound to. The
// outer codes are left out, since a cookie may change them on the way out.
func (e *Envelope) Transcript() Hash { return Hash(sha256.Sum256(e.raw[:len(e.raw)-2*macSize])) }

// Verify checks the signature.
func (e *Envelope) Verify(p key.Public) bool {
	n := len(e.raw) - signedTail
	m := make([]byte, 0, len(messageContext)+n)
	m = append(append(m, messageContext...), e.raw[:n]...)
	return p.Verify(m, e.raw[n:n+signatureSize])
}

// Receiver is what one identity opens messages with.
type Receiver struct {
	ID      ID
	Sealing *key.Sealing
	Replay  *Replay
}

// Open turns the envelope into a verified message: it checks receiver, certificate, signature, freshness and replay in this
// order and opens the payload. The sender's certificate must have been checked by the caller's Trust. An error is
// ErrCertificate, ErrSignature, ErrStale (the signature was right), ErrReplayed, ErrSenderTable or ErrOpen.
func (e *Envelope) Open(v *Verified, now time.Time, to *Receiver, sender *CertifiedNode) error {
	if err := e.authentic(to, sender); err != nil {
		return err
	}
	if !Fresh(now, e.Timestamp) {
		return ErrStale
	}
	if err := to.Replay.Accept(now, e.Sender, e.Timestamp, e.MessageID); err != nil {
		return err
	}
	return e.open(v, to, sender)
}

// OpenAnswer is Open for a reply whose message ID the caller drew and awaits once: that proves it new, so that even an answer
// with a clock far from ours can be read.
func (e *Envelope) OpenAnswer(v *Verified, to *Receiver, sender *CertifiedNode) error {
	if !e.Reply {
		return malformed("not a reply")
	}
	if err := e.authentic(to, sender); err != nil {
		return err
	}
	return e.open(v, to, sender)
}

func (e *Envelope) authentic(to *Receiver, sender *CertifiedNode) error {
	if sender == nil || e.Sender != sender.ID || e.Receiver != to.ID {
		return ErrCertificate
	}
	if !e.Verify(sender.Signing) {
		return ErrSignature
	}
	return nil
}

func (e *Envelope) open(v *Verified, to *Receiver, sender *CertifiedNode) error {
	p, err := e.payload(to)
	if err != nil {
		return err
	}
	v.Receiver, v.Sender, v.Command, v.Reply = e.Receiver, e.Sender, e.Command, e.Reply
	v.MessageID, v.Timestamp = e.MessageID, e.Timestamp
	v.Payload, v.Raw, v.Node = p, e.raw, sender
	v.Session = 0
	v.ReplyLimit = replyLimit(e.Command, len(e.raw))
	return nil
}

func (e *Envelope) payload(to *Receiver) ([]byte, error) {
	b := e.raw[signedHead : len(e.raw)-signedTail]
	if e.Command.Readable() {
		return unpad(b)
	}
	shared, err := to.Sealing.Agree(key.Public(b[:32]))
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrOpen, err)
	}
	p, err := openOnce(shared, b[:32], to.Sealing.Public(), b[32:], e.raw[:signedHead])
	if err != nil {
		return nil, err
	}
	return unpad(p)
}

func openOnce(shared, ephemeral []byte, to key.Public, sealed, ad []byte) ([]byte, error) {
	a, err := onceAEAD(shared, ephemeral, to)
	if err != nil {
		return nil, err
	}
	var nonce [12]byte // the key is used once
	p, err := a.Open(nil, nonce[:], sealed, ad)
	if err != nil {
		return nil, ErrOpen
	}
	return p, nil
}

func onceAEAD(shared, ephemeral []byte, to key.Public) (aead, error) {
	k, err := hkdf.Key(sha256.New, shared, append(append(make([]byte, 0, 64), ephemeral...), to[:]...), payloadContext, 32)
	if err != nil {
		return nil, fmt.Errorf("protocol: derive payload key: %w", err)
	}
	return newGCM(k)
}

// unpad takes length ‖ payload ‖ zeros apart; other padding is refused, so that it carries nothing.
func unpad(b []byte) ([]byte, error) {
	if len(b) < payloadHead {
		return nil, malformed("payload")
	}
	n := int(binary.BigEndian.Uint16(b))
	b = b[payloadHead:]
	if n > len(b) {
		return nil, malformed("payload length")
	}
	for _, c := range b[n:] {
		if c != 0 {
			return nil, malformed("padding")
		}
	}
	return b[:n:n], nil
}

// Outgoing is a message about to be signed.
type Outgoing struct {
	Sender    ID
	Receiver  ID
	Sealing   key.Public // the receiver's; not needed for a readable payload
	Command   Command
	Reply     bool
	Timestamp time.Time
	MessageID uint64
	Payload   []byte
	Cookie    *Cookie // of the receiver, or nil
}

// AppendSigned signs m, seals its payload to the receiver unless it is readable, and appends the message to dst. Requests are
// padded to their command's SignedSize. It reads 32 bytes of rand for a sealed payload.
func AppendSigned(dst []byte, m *Outgoing, signer *key.Signing, rand io.Reader) ([]byte, error) {
	overhead := signedOverhead
	flags := byte(0)
	if m.Command.Readable() {
		overhead, flags = readableOverhead, flagReadable
	}
	if m.Reply {
		flags |= flagReply
	}
	size := overhead + len(m.Payload)
	if size > MaxDatagram {
		return dst, fmt.Errorf("%w: %s with %d bytes of payload", ErrOversized, m.Command, len(m.Payload))
	}
	if !m.Reply {
		size = max(size, m.Command.SignedSize())
	}
	work := make([]byte, 0, len(messageContext)+size)
	work = append(work, messageContext...)
	work = append(work, TypeSigned, wireVersion, byte(m.Command), flags)
	work = append(work, m.Receiver[:]...)
	work = append(work, m.Sender[:]...)
	work = binary.BigEndian.AppendUint64(work, uint64(m.Timestamp.UnixMilli()))
	work = binary.BigEndian.AppendUint64(work, m.MessageID)
	plain := make([]byte, size-overhead+payloadHead)
	binary.BigEndian.PutUint16(plain, uint16(len(m.Payload)))
	copy(plain[payloadHead:], m.Payload)
	if m.Command.Readable() {
		work = append(work, plain...)
	} else {
		var err error
		if work, err = sealOnce(work, plain, m.Sealing, work[len(messageContext):], rand); err != nil {
			return dst, err
		}
	}
	work = append(work, signer.Sign(work)...)
	work = work[len(messageContext):]
	mac1 := NewMAC1Key(m.Receiver).Sum(work)
	work = append(work, mac1[:]...)
	var mac2 [macSize]byte
	if m.Cookie != nil {
		mac2 = mac(m.Cookie[:], work)
	}
	work = append(work, mac2[:]...)
	return append(dst, work...), nil
}

func sealOnce(dst, plain []byte, to key.Public, ad []byte, rand io.Reader) ([]byte, error) {
	var seed [32]byte
	if _, err := io.ReadFull(rand, seed[:]); err != nil {
		return nil, fmt.Errorf("protocol: read randomness: %w", err)
	}
	e, err := key.NewSealing(seed[:])
	if err != nil {
		return nil, err
	}
	shared, err := e.Agree(to)
	if err != nil {
		return nil, err
	}
	p := e.Public()
	a, err := onceAEAD(shared, p[:], to)
	if err != nil {
		return nil, err
	}
	var nonce [12]byte
	return a.Seal(append(dst, p[:]...), nonce[:], plain, ad), nil
}

// MAC1Key is what a receiver checks the first outer code with. It derives from the hash of the receiver's signing key, so that
// a stranger of whom only the ID is known can be answered. It is no secret: it costs a flooder who does not even know whom it
// talks to. Safe for concurrent use.
type MAC1Key struct {
	key    [32]byte
	states sync.Pool // of *macState: every datagram meets this check, also in a flood
}

type macState struct {
	h   hash.Hash
	sum [sha256.Size]byte
}

// NewMAC1Key is the key of messages to that receiver.
func NewMAC1Key(receiver ID) *MAC1Key {
	h := receiver.Hash()
	return &MAC1Key{key: sha256.Sum256(append([]byte("culvert 1 mac1\x00"), h[:]...))}
}

// Sum is the first outer code of a message, given the bytes before it.
func (k *MAC1Key) Sum(b []byte) (m [macSize]byte) {
	s, ok := k.states.Get().(*macState)
	if !ok {
		s = &macState{h: hmac.New(sha256.New, k.key[:])}
	}
	s.h.Reset()
	s.h.Write(b)
	copy(m[:], s.h.Sum(s.sum[:0]))
	k.states.Put(s)
	return m
}

// CheckMAC1 is the check that every signed message meets before any public-key work.
func (e *Envelope) CheckMAC1(k *MAC1Key) bool {
	n := len(e.raw) - 2*macSize
	m := k.Sum(e.raw[:n])
	return subtle.ConstantTimeCompare(m[:], e.raw[n:n+macSize]) == 1
}

func mac(k, b []byte) (m [macSize]byte) {
	h := hmac.New(sha256.New, k)
	h.Write(b)
	var sum [sha256.Size]byte
	copy(m[:], h.Sum(sum[:0]))
	return m
}
