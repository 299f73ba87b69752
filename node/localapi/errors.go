package localapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
)

// Code tells errors apart for programs. Codes are never renamed.
type Code string

// The codes, each with the status that [Code.Status] gives it.
const (
	NotEnrolled   Code = "not_enrolled"   // 409: this agent is in no domain, or not in the one named
	NotFound      Code = "not_found"      // 404: no such device, tunnel, domain or path
	Ambiguous     Code = "ambiguous"      // 409: the name is in several domains
	Refused       Code = "refused"        // 403: the operator or the other node said no
	NotAllowed    Code = "not_allowed"    // 403: groups, ports, consent or this API's own rules forbid it; 401 for a missing token
	RouteFailed   Code = "route_failed"   // 502: no route led to a tunnel-node
	DeviceRefused Code = "device_refused" // 502: the route works and the device refused the connection
	DeviceTimeout Code = "device_timeout" // 504: the route works and the device did not answer
	BadRequest    Code = "bad_request"    // 400; 405, 413 and 415 for the method, the size and the type of a request
	Limit         Code = "limit"          // 429: a limit of this agent or of the other node is reached
	Internal      Code = "internal"       // 500; 503 while the agent stops
)

// Status is the HTTP status of an error with this code.
func (c Code) Status() int {
	switch c {
	case NotEnrolled, Ambiguous:
		return http.StatusConflict
	case NotFound:
		return http.StatusNotFound
	case Refused, NotAllowed:
		return http.StatusForbidden
	case RouteFailed, DeviceRefused:
		return http.StatusBadGateway
	case DeviceTimeout:
		return http.StatusGatewayTimeout
	case BadRequest:
		return http.StatusBadRequest
	case Limit:
		return http.StatusTooManyRequests
	}
	return http.StatusInternalServerError
}

// Error is an error as this API writes it.
type Error struct {
	Message string `json:"error"` // what failed and why
	Code    Code   `json:"code"`
	Hint    string `json:"hint,omitempty"` // what to do

	status int // where it is not the code's own
}

func (e *Error) Error() string { return e.Message }

// Errorf makes an error with a code and a hint, which may be empty. It wraps nothing: what goes out is words.
func Errorf(code Code, hint, format string, args ...any) *Error {
	return &Error{Message: fmt.Sprintf(format, args...), Code: code, Hint: hint}
}

// toError finds the *Error in err or makes an internal one.
func toError(err error) *Error {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, context.DeadlineExceeded):
		return Errorf(Internal, "try again, and look into the agent's log if it goes on", "the agent took too long: %v", err)
	}
	return Errorf(Internal, "look into the agent's log", "%v", err)
}

func (e *Error) withStatus(status int) *Error {
	e.status = status
	return e
}

func (e *Error) httpStatus() int {
	if e.status != 0 {
		return e.status
	}
	return e.Code.Status()
}
