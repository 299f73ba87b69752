package protocol

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"sync/atomic"

	"culvert/protocol/key"
)

type aead = cipher.AEAD

// ErrWindow marks a sealed message that was seen before or is too old to tell.
var ErrWindow = errors.New("protocol: counter was seen before or is too old")

const (
	// RekeyPackets is after how many messages a session should be replaced.
	RekeyPackets = 1 << 32
	// maxPackets is where a session ends; what is between serves while the next one is opened.
	maxPackets = RekeyPackets + 1<<24
)

// OpenSession asks for a session. It carries the sender's certificate, so that a stranger needs no second question.
type OpenSession struct {
	Ephemeral key.Public
	Index     uint64 // under which the sender will receive
	Node      []byte // the sender's Node record
}

// SessionOpened answers OpenSession. Index 0 says that this node keeps no sessions: go on with signed messages.
type SessionOpened struct {
	Ephemeral key.Public
	Index     uint64
	Opening   Hash // transcript of the OpenSession answered
	Node      []byte
}

// Command implements Payload.
func (OpenSession) Command() Command { return CmdOpenSession }

// Command implements Payload.
func (SessionOpened) Command() Command { return CmdSessionOpened }

// AppendPayload implements Appender.
func (m OpenSession) AppendPayload(b []byte) []byte {
	b = appendBytes(appendArray(b, 3), m.Ephemeral[:])
	return appendBytes(appendUint(b, m.Index), m.Node)
}

// AppendPayload implements Appender.
func (m SessionOpened) AppendPayload(b []byte) []byte {
	b = appendBytes(appendArray(b, 4), m.Ephemeral[:])
	b = appendBytes(appendUint(b, m.Index), m.Opening[:])
	return appendBytes(b, m.Node)
}

// ParseOpenSession reads an OpenSession; the record aliases b.
func ParseOpenSession(b []byte) (m OpenSession, err error) {
	r := reader{b: b}
	r.array(3)
	m.Ephemeral = key.Public(r.hash())
	m.Index, m.Node = r.uint(), r.bytes()
	return m, r.done()
}

// ParseSessionOpened reads a SessionOpened; the record aliases b.
func ParseSessionOpened(b []byte) (m SessionOpened, err error) {
	r := reader{b: b}
	r.array(4)
	m.Ephemeral = key.Public(r.hash())
	m.Index = r.uint()
	m.Opening, m.Node = r.hash(), r.bytes()
	return m, r.done()
}

// Session is one end of an agreed pair of keys. It is safe for concurrent use: ciphers run outside of its lock.
type Session struct {
	Local    ID
	Peer     *CertifiedNode
	Index    uint64 // under which this end receives
	Remote   uint64 // under which the other end receives
	send     cipher.AEAD
	recv     cipher.AEAD
	exporter [32]byte

	sent atomic.Uint64

	mu     sync.Mutex
	window window
}

// SessionParams is what both ends know once OpenSession and SessionOpened have been exchanged.
type SessionParams struct {
	Local     ID
	Peer      *CertifiedNode
	Index     uint64
	Remote    uint64
	Initiator bool
	Opening   Hash // transcript of OpenSession
	Opened    Hash // transcript of SessionOpened
}

// NewSession agrees on the keys. A peer's ephemeral key of low order is an error.
func NewSession(p SessionParams, own *key.Sealing, peer key.Public) (*Session, error) {
	shared, err := own.Agree(peer)
	if err != nil {
		return nil, err
	}
	salt := sha256.Sum256(append(append(make([]byte, 0, 64), p.Opening[:]...), p.Opened[:]...))
	prk, err := hkdf.Extract(sha256.New, shared, salt[:])
	if err != nil {
		return nil, fmt.Errorf("protocol: derive session keys: %w", err)
	}
	s := &Session{Local: p.Local, Peer: p.Peer, Index: p.Index, Remote: p.Remote}
	there, back := "culvert 1 session i2r", "culvert 1 session r2i"
	if !p.Initiator {
		there, back = back, there
	}
	if s.send, err = sessionAEAD(prk, there); err != nil {
		return nil, err
	}
	if s.recv, err = sessionAEAD(prk, back); err != nil {
		return nil, err
	}
	e, err := hkdf.Expand(sha256.New, prk, "culvert 1 session exporter", 32)
	if err != nil {
		return nil, fmt.Errorf("protocol: derive session keys: %w", err)
	}
	s.exporter = [32]byte(e)
	return s, nil
}

func sessionAEAD(prk []byte, label string) (cipher.AEAD, error) {
	k, err := hkdf.Expand(sha256.New, prk, label, 32)
	if err != nil {
		return nil, fmt.Errorf("protocol: derive session keys: %w", err)
	}
	return newGCM(k)
}

// Exporter derives a secret that only the two ends know, for use outside of the session.
func (s *Session) Exporter(label string) ([]byte, error) {
	b, err := hkdf.Expand(sha256.New, s.exporter[:], label, 32)
	if err != nil {
		return nil, fmt.Errorf("protocol: derive exported secret: %w", err)
	}
	return b, nil
}

// String never shows a key.
func (s *Session) String() string {
	return fmt.Sprintf("session %016x with %s (keys redacted)", s.Index, s.Peer.ID.Short())
}

// GoString never shows a key.
func (s *Session) GoString() string { return s.String() }

// Sent is how many messages this end has sent.
func (s *Session) Sent() uint64 { return s.sent.Load() }

// AppendSealed appends a message of the session to dst. It allocates only to grow dst.
func (s *Session) AppendSealed(dst []byte, c Command, reply bool, id uint64, payload []byte) ([]byte, error) {
	if len(payload) > MaxSessionPayload {
		return dst, fmt.Errorf("%w: %s with %d bytes of payload", ErrOversized, c, len(payload))
	}
	counter := s.sent.Add(1)
	if counter > maxPackets {
		s.sent.Store(maxPackets)
		return dst, ErrExhausted
	}
	start := len(dst)
	dst = append(dst, TypeSealed, wireVersion, 0, 0)
	dst = binary.BigEndian.AppendUint64(dst, s.Remote)
	dst = binary.BigEndian.AppendUint64(dst, counter)
	flags := byte(0)
	if reply {
		flags = flagReply
	}
	dst = append(dst, byte(c), flags)
	dst = binary.BigEndian.AppendUint64(dst, id)
	dst = append(dst, payload...)
	end := len(dst)
	// The nonce stands behind the tag's place: there it needs no memory of its own.
	var room [tagSize + 12]byte
	dst = append(dst, room[:]...)
	nonce := dst[end+tagSize:]
	copy(nonce[4:], dst[start+12:start+sealedHead])
	s.send.Seal(dst[start+sealedHead:start+sealedHead], nonce, dst[start+sealedHead:end], dst[start:start+sealedHead])
	return dst[:end+tagSize], nil
}

// ParseSealed checks the shape of a sealed message and tells which session it claims.
func ParseSealed(b []byte) (index, counter uint64, err error) {
	switch {
	case len(b) > MaxDatagram:
		return 0, 0, ErrOversized
	case len(b) < MinSealed || b[0] != TypeSealed:
		return 0, 0, malformed("length or type")
	case b[1] != wireVersion:
		return 0, 0, ErrVersion
	case b[2] != 0 || b[3] != 0:
		return 0, 0, malformed("reserved bytes")
	}
	return binary.BigEndian.Uint64(b[4:]), binary.BigEndian.Uint64(b[12:]), nil
}

// Open opens a sealed message in place: b is overwritten and v.Payload aliases it. The window moves only after the tag was
// right. An error is ErrWindow, ErrOpen or one of ParseSealed's. It allocates nothing.
func (s *Session) Open(v *Verified, b []byte, from netip.AddrPort) error {
	index, counter, err := ParseSealed(b)
	if err != nil {
		return err
	}
	if index != s.Index {
		return ErrOpen
	}
	if counter > maxPackets || !s.fits(counter) {
		return ErrWindow
	}
	nonce := v.nonce[:]
	clear(nonce[:4])
	binary.BigEndian.PutUint64(nonce[4:], counter)
	p, err := s.recv.Open(b[sealedHead:sealedHead], nonce, b[sealedHead:], b[:sealedHead])
	if err != nil {
		return ErrOpen
	}
	if !s.take(counter) {
		return ErrWindow // another goroutine opened the same packet meanwhile
	}
	c := Command(p[0])
	if c == 0 || c >= CmdEnd || p[1]&^flagReply != 0 {
		return malformed("command or flags")
	}
	v.Receiver, v.Sender, v.Command, v.Reply = s.Local, s.Peer.ID, c, p[1] == flagReply
	v.MessageID = binary.BigEndian.Uint64(p[2:])
	v.Payload, v.From, v.Session, v.Raw, v.Node = p[sealedInner:], from, s.Index, nil, s.Peer
	v.ReplyLimit = MaxSessionPayload
	return nil
}

func (s *Session) fits(c uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.window.fits(c)
}

func (s *Session) take(c uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.window.fits(c) {
		return false
	}
	s.window.mark(c)
	return true
}

// NewIndex draws a receive index, which is never 0.
func NewIndex(rand io.Reader) (uint64, error) {
	var b [8]byte
	for range 8 {
		if _, err := io.ReadFull(rand, b[:]); err != nil {
			return 0, fmt.Errorf("protocol: read randomness: %w", err)
		}
		if i := binary.BigEndian.Uint64(b[:]); i != 0 {
			return i, nil
		}
	}
	return 0, errors.New("protocol: the randomness given is all zeros")
}
