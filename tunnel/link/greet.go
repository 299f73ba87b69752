package link

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"time"

	"culvert/protocol"
)

// greet exchanges HELLOs and derives what hangs on them.
func (l *Link) greet() error {
	var first, second []byte
	if l.cfg.Dialler {
		first = Hello{Role: l.cfg.Role, Request: l.cfg.Request, Node: l.cfg.Node}.Append(nil)
		if err := l.sayHello(first); err != nil {
			return err
		}
		var err error
		if second, err = l.hearHello(); err != nil {
			return err
		}
	} else {
		var err error
		if first, err = l.hearHello(); err != nil {
			return err
		}
		second = Hello{Role: l.cfg.Role, Request: l.cfg.Request, Node: l.cfg.Node}.Append(nil)
		if err := l.sayHello(second); err != nil {
			return err
		}
	}
	h := sha256.New()
	h.Write(first)
	h.Write(second)
	sum := h.Sum(nil)
	secret, err := l.conn.Export("EXPORTER-culvert-bulk", sum, 32)
	if err != nil {
		return fmt.Errorf("link: export keys: %w", err)
	}
	number, err := l.conn.Export("EXPORTER-culvert-link", sum, 32)
	if err != nil {
		return fmt.Errorf("link: export keys: %w", err)
	}
	l.secret, l.number = [32]byte(secret), [8]byte(number)
	return nil
}

func (l *Link) sayHello(data []byte) error {
	b := append(AppendHeader(nil, Header{Type: FrameHello, Length: len(data)}), data...)
	if _, err := l.conn.Write(b); err != nil {
		return fmt.Errorf("link: hello: %w", err)
	}
	return nil
}

// hearHello reads the peer's first frame and has it judged. A peer that is refused is told why.
func (l *Link) hearHello() ([]byte, error) {
	h, data, err := readFrame(l.conn, nil)
	if err != nil {
		return nil, fmt.Errorf("link: hello: %w", err)
	}
	if h.Type == FrameGoAway {
		reason, text, err := ParseReason(data)
		if err != nil {
			return nil, err
		}
		return nil, &GoneError{Reason: reason, Text: text}
	}
	if h.Type != FrameHello {
		return nil, fmt.Errorf("%w: type %d before hello", ErrFrame, h.Type)
	}
	hello, err := ParseHello(data)
	if err != nil {
		return nil, err
	}
	peer, err := l.admit(hello, false)
	if err != nil {
		l.sayGoAway(err)
		return nil, err
	}
	l.peer = peer
	l.cfg.Request = hello.Request
	return data, nil
}

// admit has a HELLO judged and holds its record to the key that TLS proved.
func (l *Link) admit(h Hello, renewal bool) (*protocol.CertifiedNode, error) {
	if l.cfg.Role == 0 {
		l.cfg.Role = RoleUser + RoleTunnel - h.Role
	}
	if h.Role == l.cfg.Role || l.cfg.Dialler && h.Request != l.cfg.Request {
		return nil, &RefusedError{Reason: ReasonRequest}
	}
	peer, err := l.cfg.Admit(h, renewal)
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(peer.Signing[:], l.conn.Key[:]) != 1 || peer.ID.Domain() != l.cfg.Local.Domain() {
		return nil, ErrPeerKey
	}
	return peer, nil
}

func (l *Link) sayGoAway(err error) {
	data := AppendReason(nil, ReasonOf(err), "")
	_ = l.conn.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = l.conn.Write(append(AppendHeader(nil, Header{Type: FrameGoAway, Length: len(data)}), data...))
}
