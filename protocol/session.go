package protocol

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
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
	// In an order that has a datagram touch little memory: nodes have thousands of sessions, each with a datagram now and then.
	Index  uint64 // under which this end receives
	Remote uint64 // under which the other end receives
	send   cipher.AEAD
	recv   cipher.AEAD
	sent   atomic.Uint64
	top    atomic.Uint64 // the window's, to tell without its lock that a counter is new

	Local  ID
	sender ID // the peer's, here once more: a datagram must not fetch its certificate
	Peer   *CertifiedNode

	mu     sync.Mutex
	window window

	exporter [32]byte
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
	s := new(Session)
	if err := s.Agree(p, own, peer); err != nil {
		return nil, err
	}
	return s, nil
}

// Agree makes an empty session what NewSession makes.
func (s *Session) Agree(p SessionParams, own *key.Sealing, peer key.Public) error {
	shared, err := own.Agree(peer)
	if err != nil {
		return err
	}
	salt := sha256.Sum256(append(append(make([]byte, 0, 64), p.Opening[:]...), p.Opened[:]...))
	prk, err := hkdf.Extract(sha256.New, shared, salt[:])
	if err != nil {
		return fmt.Errorf("protocol: derive session keys: %w", err)
	}
	s.Local, s.Peer, s.Index, s.Remote, s.sender = p.Local, p.Peer, p.Index, p.Remote, p.Peer.ID
	there, back := "culvert 1 session i2r", "culvert 1 session r2i"
	if !p.Initiator {
		there, back = back, there
	}
	if s.send, err = sessionAEAD(prk, there); err != nil {
		return err
	}
	if s.recv, err = sessionAEAD(prk, back); err != nil {
		return err
	}
	e, err := hkdf.Expand(sha256.New, prk, "culvert 1 session exporter", 32)
	if err != nil {
		return fmt.Errorf("protocol: derive session keys: %w", err)
	}
	s.exporter = [32]byte(e)
	return nil
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

// AppendSealed appends one message of the session to dst. It allocates only to grow dst.
func (s *Session) AppendSealed(dst []byte, c Command, reply bool, id uint64, payload []byte) ([]byte, error) {
	if len(payload) > MaxSessionPayload {
		return dst, fmt.Errorf("%w: %s with %d bytes of payload", ErrOversized, c, len(payload))
	}
	counter, err := s.next()
	if err != nil {
		return dst, err
	}
	start := len(dst)
	dst = appendSealedHead(dst, TypeSealed, s.Remote, counter)
	dst = append(appendInner(dst, c, reply, id), payload...)
	return s.seal(dst, start), nil
}

func (s *Session) fits(c uint64) bool {
	if c > s.top.Load() {
		return true
	}
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
	s.top.Store(s.window.top)
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
