package enrol

import "errors"

// What the operator refuses, and what a node makes of its answers.
var (
	ErrBadRequest   = errors.New("malformed request")
	ErrBadKey       = errors.New("key refused")
	ErrTokenUnknown = errors.New("this operator does not know the join token")
	ErrTokenExpired = errors.New("the join token has expired")
	ErrTokenUsed    = errors.New("the join token has been used up")
	ErrRevoked      = errors.New("this node has been revoked")
	ErrBanned       = errors.New("the domain is banned")
	ErrUnknownNode  = errors.New("this operator does not know the node, or its certificate expired too long ago")
	ErrClock        = errors.New("the clock is wrong")
	ErrRateLimited  = errors.New("too many requests")
	ErrStandby      = errors.New("this operator changes and signs nothing at present")
	ErrInternal     = errors.New("the operator has an internal error")

	ErrWrongRoot = errors.New("the server does not prove itself with the root key that was expected")
	ErrWrongHost = errors.New("the server's certificate is for another host")
	ErrBadAnswer = errors.New("the operator's answer does not hold together")
)

// Error is a refusal on the wire.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Time    int64  `json:"time,omitempty"` // with clock: the operator's clock, ms since 1970
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

// Unwrap is the sentinel of the code, so that errors.Is works across the wire.
func (e *Error) Unwrap() error {
	for _, c := range codes() {
		if c.code == e.Code {
			return c.err
		}
	}
	return nil
}

type coded struct {
	code   string
	status int
	err    error
}

// codes is the one mapping between sentinels, codes and HTTP statuses.
func codes() []coded {
	return []coded{
		{"bad_key", 400, ErrBadKey},
		{"token_unknown", 403, ErrTokenUnknown},
		{"token_expired", 403, ErrTokenExpired},
		{"token_used", 403, ErrTokenUsed},
		{"revoked", 403, ErrRevoked},
		{"banned", 403, ErrBanned},
		{"unknown_node", 403, ErrUnknownNode},
		{"clock", 409, ErrClock},
		{"standby", 503, ErrStandby},
		{"rate_limited", 429, ErrRateLimited},
		{"bad_request", 400, ErrBadRequest},
	}
}

// ToWire is the refusal and HTTP status for err. What is not meant for strangers is an internal error and no more.
func ToWire(err error) (Error, int) {
	for _, c := range codes() {
		if errors.Is(err, c.err) {
			return Error{Code: c.code, Message: err.Error()}, c.status
		}
	}
	return Error{Code: "internal", Message: ErrInternal.Error()}, 500
}
