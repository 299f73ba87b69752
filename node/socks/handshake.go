package socks

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
)

const (
	version     = 5
	authVersion = 1

	methodNone     = 0
	methodPassword = 2
	methodRefused  = 255

	commandConnect = 1

	typeIPv4 = 1
	typeName = 3
	typeIPv6 = 4
)

// Why a handshake ended without a request. They are reasons to count, and nobody is told more than the wire says.
var (
	errVersion  = errors.New("not SOCKS5")
	errMethod   = errors.New("no method in common")
	errPassword = errors.New("wrong user or password")
	errReserved = errors.New("malformed request")
)

// credentials are what a client must know; the zero value lets everybody in.
type credentials struct{ user, password string }

// right compares in a time that depends on neither.
func (c credentials) right(user, password string) bool {
	u, p := sha256.Sum256([]byte(user)), sha256.Sum256([]byte(password))
	wu, wp := sha256.Sum256([]byte(c.user)), sha256.Sum256([]byte(c.password))
	return subtle.ConstantTimeCompare(u[:], wu[:])&subtle.ConstantTimeCompare(p[:], wp[:]) == 1
}

// request is what a client wants.
type request struct {
	command byte
	name    string // empty where it gave an address
	port    uint16
	reply   Reply // other than Succeeded: what to answer whatever was asked
}

// stage is what a handshake waits for.
type stage uint8

const (
	stageHello stage = iota
	stageMethods
	stageAuth
	stageUser
	stagePasswordLength
	stagePassword
	stageRequest
	stageNameLength
	stageAddress
	stageDone
)

// handshake is the server's side of what comes before a request is known: a step machine that asks for so many bytes, is
// given them, and says what to send.
type handshake struct {
	want    credentials
	at      stage
	need    int // bytes that the next step takes, never 0 before the end
	user    string
	kind    byte
	request request
}

func newHandshake(want credentials) *handshake { return &handshake{want: want, need: 2} }

// step takes exactly h.need bytes and returns what to send. After an error, or when done reports true, there is no next one.
func (h *handshake) step(b []byte) (send []byte, err error) {
	if len(b) != h.need || h.at == stageDone {
		return nil, errReserved
	}
	switch h.at {
	case stageHello:
		if b[0] != version {
			return nil, errVersion
		}
		if b[1] == 0 {
			return []byte{version, methodRefused}, errMethod
		}
		h.wait(stageMethods, int(b[1]))
	case stageMethods:
		return h.choose(b)
	case stageAuth:
		if b[0] != authVersion {
			return nil, errVersion
		}
		if b[1] == 0 {
			return []byte{authVersion, 1}, errPassword
		}
		h.wait(stageUser, int(b[1]))
	case stageUser:
		h.user = string(b)
		h.wait(stagePasswordLength, 1)
	case stagePasswordLength:
		if b[0] == 0 {
			return []byte{authVersion, 1}, errPassword
		}
		h.wait(stagePassword, int(b[0]))
	case stagePassword:
		if !h.want.right(h.user, string(b)) {
			return []byte{authVersion, 1}, errPassword
		}
		h.wait(stageRequest, 4)
		return []byte{authVersion, 0}, nil
	default:
		return h.ask(b)
	}
	return nil, nil
}

func (h *handshake) done() bool { return h.at == stageDone }

func (h *handshake) wait(at stage, need int) { h.at, h.need = at, need }

// choose picks the one method that this server takes.
func (h *handshake) choose(offered []byte) ([]byte, error) {
	method := byte(methodNone)
	next := func() { h.wait(stageRequest, 4) }
	if h.want != (credentials{}) {
		method = methodPassword
		next = func() { h.wait(stageAuth, 2) }
	}
	for _, m := range offered {
		if m == method {
			next()
			return []byte{version, method}, nil
		}
	}
	return []byte{version, methodRefused}, errMethod
}

// ask reads the request, to its end even where the answer is known before: unread bytes would turn it into a reset.
func (h *handshake) ask(b []byte) ([]byte, error) {
	switch h.at {
	case stageRequest:
		if b[0] != version {
			return nil, errVersion
		}
		h.request.command, h.kind = b[1], b[3]
		if b[1] != commandConnect {
			h.request.reply = NoCommand
		}
		if b[2] != 0 {
			return Failed.message(), errReserved
		}
		switch h.kind {
		case typeIPv4:
			h.wait(stageAddress, 4+2)
		case typeIPv6:
			h.wait(stageAddress, 16+2)
		case typeName:
			h.wait(stageNameLength, 1)
		default: // of a length that nobody knows
			h.request.reply = NoAddressType
			h.wait(stageDone, 0)
		}
	case stageNameLength:
		h.wait(stageAddress, int(b[0])+2)
	case stageAddress:
		n := len(b) - 2
		h.request.port = binary.BigEndian.Uint16(b[n:])
		if h.kind == typeName {
			h.request.name = string(b[:n])
		}
		h.wait(stageDone, 0)
	}
	return nil, nil
}
