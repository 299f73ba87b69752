package tunnel

import (
	"errors"
	"fmt"
	"strings"

	"culvert/protocol"
	"culvert/tunnel/link"
)

var (
	// ErrDeviceRefused is a device that refused the connection: the route works.
	ErrDeviceRefused = errors.New("the device refused the connection")
	// ErrDeviceTimeout is a device that did not answer: the route works.
	ErrDeviceTimeout = errors.New("the device did not answer")
	// ErrDeviceUnreachable is a device for which the tunnel-node has no way: the route works.
	ErrDeviceUnreachable = errors.New("the device is unreachable from its tunnel-node")
	// ErrDeviceNotFound is a device whose MAC the tunnel-node did not find on its links.
	ErrDeviceNotFound = errors.New("the device was not found on the tunnel-node's network")
	// ErrDevicePin is a device that does not have the TLS key of its record.
	ErrDevicePin = errors.New("the device's TLS key is not the pinned one")
	// ErrUnknownDevice is no device of the domain.
	ErrUnknownDevice = errors.New("no such device is registered")
	// ErrNotAllowed is what every *NotAllowedError is.
	ErrNotAllowed = errors.New("not allowed")
	// ErrNoRoute is what every *NoRouteError is.
	ErrNoRoute = errors.New("no route works")
	// ErrLimit is a bound of this node or of the other.
	ErrLimit = errors.New("limit reached")
	// ErrRevoked is a revoked node or a banned domain.
	ErrRevoked = errors.New("revoked")
	// ErrNoMembership is a domain of which this node is no member.
	ErrNoMembership = errors.New("this node is no member of the domain")
	// ErrUnknownTunnel is no tunnel of that ID.
	ErrUnknownTunnel = errors.New("no such tunnel")
	// ErrClosed is a manager or tunnel that was closed.
	ErrClosed = errors.New("tunnel: closed")
)

// NotAllowedError says which rule forbids a connection.
type NotAllowedError struct {
	Reason link.Reason // port, group, target or consent
	Text   string
}

// Error says the rule, and what it was applied to.
func (e *NotAllowedError) Error() string {
	if e.Text == "" {
		return "not allowed: " + e.Reason.String()
	}
	return "not allowed: " + e.Reason.String() + ": " + e.Text
}

// Is makes it ErrNotAllowed.
func (e *NotAllowedError) Is(target error) bool { return target == ErrNotAllowed }

func notAllowed(r link.Reason, format string, args ...any) error {
	return &NotAllowedError{Reason: r, Text: fmt.Sprintf(format, args...)}
}

// NoRouteError is a device that no route reached, with what was tried.
type NoRouteError struct{ Receipt Receipt }

// Error lists why each route failed.
func (e *NoRouteError) Error() string {
	if len(e.Receipt.Attempts) == 0 {
		return "no route works: no tunnel-node is announced for the device; is its agent running?"
	}
	var b strings.Builder
	b.WriteString("no route works:")
	for i, a := range e.Receipt.Attempts {
		if i > 0 {
			b.WriteByte(';')
		}
		fmt.Fprintf(&b, " %s by %s: %s", a.Route, a.Node.Short(), a.Error)
	}
	return b.String()
}

// Is makes it ErrNoRoute.
func (e *NoRouteError) Is(target error) bool { return target == ErrNoRoute }

// table of the two-way mapping at the wire.
func wireErrors() map[link.Reason]error {
	return map[link.Reason]error{
		link.ReasonDeviceRefused: ErrDeviceRefused, link.ReasonDeviceTimeout: ErrDeviceTimeout,
		link.ReasonDeviceUnreachable: ErrDeviceUnreachable, link.ReasonDeviceNotFound: ErrDeviceNotFound,
		link.ReasonDevicePin: ErrDevicePin, link.ReasonUnknownDevice: ErrUnknownDevice,
		link.ReasonLimit: ErrLimit, link.ReasonRevoked: ErrRevoked,
	}
}

// fromReason is what a REFUSED means here.
func fromReason(r link.Reason, text string) error {
	switch r {
	case link.ReasonPort, link.ReasonGroup, link.ReasonTarget, link.ReasonConsent:
		return &NotAllowedError{Reason: r, Text: text}
	}
	err, ok := wireErrors()[r]
	if !ok {
		return &link.RefusedError{Reason: r, Text: text}
	}
	if text == "" {
		return err
	}
	return fmt.Errorf("%w: %s", err, text)
}

// toReason is how an error is said to the other side. Only rules say more than their reason.
func toReason(err error) (link.Reason, string) {
	var n *NotAllowedError
	if errors.As(err, &n) {
		return n.Reason, n.Text
	}
	for r, e := range wireErrors() {
		if errors.Is(err, e) {
			return r, ""
		}
	}
	return link.ReasonInternal, ""
}

// statuses is the two-way mapping in TunnelOpened.
func statuses() map[protocol.Status]link.Reason {
	return map[protocol.Status]link.Reason{
		protocol.StatusNotAllowed: link.ReasonGroup, protocol.StatusUnknown: link.ReasonUnknownDevice,
		protocol.StatusUnreachable: link.ReasonDeviceUnreachable, protocol.StatusLimit: link.ReasonLimit,
		protocol.StatusConsent: link.ReasonConsent, protocol.StatusNotFound: link.ReasonDeviceNotFound,
		protocol.StatusPort: link.ReasonPort, protocol.StatusTarget: link.ReasonTarget,
		protocol.StatusRevoked: link.ReasonRevoked,
	}
}

// StatusOf is how an error is said in TunnelOpened.
func StatusOf(err error) protocol.Status {
	if err == nil {
		return protocol.StatusOK
	}
	reason, _ := toReason(err)
	for s, r := range statuses() {
		if r == reason {
			return s
		}
	}
	return protocol.StatusInternal
}

// FromStatus is what a TunnelOpened means here; nil for StatusOK.
func FromStatus(s protocol.Status) error {
	if s == protocol.StatusOK {
		return nil
	}
	if r, ok := statuses()[s]; ok {
		return fromReason(r, "")
	}
	return fmt.Errorf("the tunnel-node answered: %s", s)
}

// about reports whether err says something about the device, or about the rules for it, that another route to the same
// node would not change.
func about(err error) bool {
	for _, e := range []error{ErrDeviceRefused, ErrDeviceTimeout, ErrDeviceUnreachable, ErrDeviceNotFound, ErrDevicePin,
		ErrUnknownDevice, ErrNotAllowed, ErrRevoked, ErrLimit} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
