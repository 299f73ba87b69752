package node

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"culvert/protocol"
)

// forwarder is what a super-node does for tunnel-nodes behind a NAT: it hands a requester's signed TunnelRequest to a node
// that keeps a session with it, and the answer back. It keeps nothing between the two: who asked travels in the cookie.
type forwarder struct {
	seal  cipher.AEAD
	rand  io.Reader
	reach func(protocol.ID) bool // is the node in contact with this one?
	drop  func(reason string)
}

const (
	cookieLife = 30 * time.Second
	cookieSize = 12 + 8 + protocol.IDSize + 16
)

func newForwarder(rand io.Reader, reach func(protocol.ID) bool, drop func(string)) (*forwarder, error) {
	var k [32]byte
	if _, err := io.ReadFull(rand, k[:]); err != nil {
		return nil, fmt.Errorf("read randomness: %w", err)
	}
	b, err := aes.NewCipher(k[:])
	if err != nil {
		return nil, err
	}
	a, err := cipher.NewGCM(b)
	if err != nil {
		return nil, err
	}
	return &forwarder{seal: a, rand: rand, reach: reach, drop: drop}, nil
}

// Handlers implements protocol.Role.
func (f *forwarder) Handlers() map[protocol.Command]protocol.Handler {
	return map[protocol.Command]protocol.Handler{
		protocol.CmdForwardedTunnelRequest: f.request,
		protocol.CmdForwardedTunnelOpened:  f.answer,
	}
}

// request passes a TunnelRequest on to its target, if that is of the requester's own domain and in contact.
func (f *forwarder) request(now time.Time, v *protocol.Verified) []protocol.Out {
	m, err := protocol.ParsePayload[protocol.ForwardedTunnelRequest](v.Payload)
	if err != nil {
		f.drop("malformed")
		return nil
	}
	if m.Target.Domain() != v.Sender.Domain() {
		f.drop("foreign domain")
		return nil
	}
	if !f.reach(m.Target) {
		return protocol.Reply(protocol.ForwardedTunnelOpened{Status: protocol.StatusUnknown})
	}
	m.Cookie, err = f.cookie(now, v.Sender)
	if err != nil {
		return nil
	}
	b, err := protocol.AppendPayload(nil, m)
	if err != nil {
		return protocol.Reply(protocol.ForwardedTunnelOpened{Status: protocol.StatusLimit})
	}
	return append(protocol.Reply(protocol.ForwardedTunnelOpened{Status: protocol.StatusOK}),
		protocol.Out{To: m.Target, Command: m.Command(), Payload: b})
}

// answer passes a tunnel-node's answer on to whom the cookie names.
func (f *forwarder) answer(now time.Time, v *protocol.Verified) []protocol.Out {
	m, err := protocol.ParsePayload[protocol.ForwardedTunnelOpened](v.Payload)
	if err != nil {
		f.drop("malformed")
		return nil
	}
	to, ok := f.openCookie(now, m.Cookie)
	if !ok || to.Domain() != v.Sender.Domain() {
		f.drop("cookie")
		return nil
	}
	m.Cookie = nil
	b, err := protocol.AppendPayload(nil, m)
	if err != nil {
		return nil
	}
	return []protocol.Out{{To: to, Command: m.Command(), Payload: b}}
}

func (f *forwarder) cookie(now time.Time, to protocol.ID) ([]byte, error) {
	b := make([]byte, 12, cookieSize)
	if _, err := io.ReadFull(f.rand, b); err != nil {
		return nil, err
	}
	plain := binary.BigEndian.AppendUint64(nil, uint64(now.UnixMilli()))
	return f.seal.Seal(b, b[:12], append(plain, to[:]...), nil), nil
}

func (f *forwarder) openCookie(now time.Time, b []byte) (protocol.ID, bool) {
	if len(b) != cookieSize {
		return protocol.ID{}, false
	}
	p, err := f.seal.Open(nil, b[:12], b[12:], nil)
	if err != nil {
		return protocol.ID{}, false
	}
	age := now.Sub(time.UnixMilli(int64(binary.BigEndian.Uint64(p))))
	if age < 0 || age > cookieLife {
		return protocol.ID{}, false
	}
	return protocol.ID(p[8:]), true
}
