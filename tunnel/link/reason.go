package link

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// Reason is why a flow was refused or reset, or a link given up. Numbers are never reused; unknown ones read as internal.
type Reason byte

const (
	ReasonNone              Reason = 0 // reset by the application at the other end
	ReasonDeviceRefused     Reason = 1
	ReasonDeviceTimeout     Reason = 2
	ReasonDeviceUnreachable Reason = 3
	ReasonDeviceNotFound    Reason = 4
	ReasonDevicePin         Reason = 5
	ReasonUnknownDevice     Reason = 6
	ReasonPort              Reason = 7
	ReasonGroup             Reason = 8
	ReasonTarget            Reason = 9
	ReasonConsent           Reason = 10
	ReasonLimit             Reason = 11
	ReasonRevoked           Reason = 12
	ReasonRequest           Reason = 13
	ReasonInternal          Reason = 14
	ReasonIdle              Reason = 15
	ReasonClosing           Reason = 16
	ReasonExpired           Reason = 17
	ReasonProtocol          Reason = 18
	reasons                 Reason = 19
)

var reasonNames = [reasons]string{
	"reset by the other end", "the device refused the connection", "the device did not answer", "the device is unreachable",
	"the device was not found on its network", "the device's TLS key is not the pinned one", "no such device is registered",
	"the port is not registered for the device", "not allowed for this node's groups",
	"an address that no tunnel may reach", "the agent's consent list does not name it", "limit reached", "revoked",
	"the link's request is unknown, spent or someone else's", "internal error", "idle for too long", "closing",
	"certificate expired", "protocol violated",
}

// String says it for people.
func (r Reason) String() string {
	if r >= reasons {
		r = ReasonInternal
	}
	return reasonNames[r]
}

// Device reports whether the device itself, not the way to it, was at fault.
func (r Reason) Device() bool { return r >= ReasonDeviceRefused && r <= ReasonDeviceUnreachable }

// RefusedError is a flow that the tunnel side did not open.
type RefusedError struct {
	Reason Reason
	Text   string
}

// Error says why, with what the other side added.
func (e *RefusedError) Error() string { return explain(e.Reason, e.Text) }

// ResetError is a flow that ended in the middle.
type ResetError struct {
	Reason Reason
	Text   string
	Local  bool // this side did it
}

// Error says why.
func (e *ResetError) Error() string { return explain(e.Reason, e.Text) }

// GoneError is a link that the other side gave up.
type GoneError struct {
	Reason Reason
	Text   string
}

// Error says why.
func (e *GoneError) Error() string {
	return "link given up by the other side: " + explain(e.Reason, e.Text)
}

func explain(r Reason, text string) string {
	if text == "" {
		return r.String()
	}
	return r.String() + ": " + text
}

// AppendReason lays out the data of REFUSED, RESET and GOAWAY.
func AppendReason(b []byte, r Reason, text string) []byte {
	b = append(b, byte(r))
	return append(b, text[:min(len(text), maxText)]...)
}

// ParseReason reads it. The text comes from another machine: what could trick a terminal is taken out.
func ParseReason(b []byte) (Reason, string, error) {
	if len(b) == 0 {
		return 0, "", fmt.Errorf("%w: no reason", ErrFrame)
	}
	r := Reason(b[0])
	if r >= reasons {
		r = ReasonInternal
	}
	text := strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) && c != unicode.ReplacementChar {
			return c
		}
		return -1
	}, string(b[1:min(len(b), 1+maxText)]))
	return r, text, nil
}

// ReasonOf is the reason inside an error, ReasonInternal where there is none.
func ReasonOf(err error) Reason {
	var refused *RefusedError
	if errors.As(err, &refused) {
		return refused.Reason
	}
	var reset *ResetError
	if errors.As(err, &reset) {
		return reset.Reason
	}
	var gone *GoneError
	if errors.As(err, &gone) {
		return gone.Reason
	}
	return ReasonInternal
}
