package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"culvert/node/client/api"
	"culvert/node/localapi/ipc"
)

// Errors to compare with by errors.Is. The first two are about the agent itself, the others are what it answered.
var (
	// ErrNoDaemon says that no agent runs here.
	ErrNoDaemon = ipc.ErrNoDaemon
	// ErrDenied says that the agent's socket does not admit this user.
	ErrDenied = ipc.ErrDenied

	ErrNotEnrolled   error = &Error{Code: string(api.NotEnrolled)}   // the node is in no domain, or not in the one named
	ErrNotFound      error = &Error{Code: string(api.NotFound)}      // no such device, tunnel or domain
	ErrAmbiguous     error = &Error{Code: string(api.Ambiguous)}     // the name is in several domains
	ErrRefused       error = &Error{Code: string(api.Refused)}       // the operator or the other node said no
	ErrNotAllowed    error = &Error{Code: string(api.NotAllowed)}    // groups, ports, consent or the API's token forbid it
	ErrRouteFailed   error = &Error{Code: string(api.RouteFailed)}   // no route led to the device's end
	ErrDeviceRefused error = &Error{Code: string(api.DeviceRefused)} // the device refused the connection
	ErrDeviceTimeout error = &Error{Code: string(api.DeviceTimeout)} // the device did not answer
	ErrBadRequest    error = &Error{Code: string(api.BadRequest)}    // the request cannot be right
	ErrLimit         error = &Error{Code: string(api.Limit)}         // a limit is reached
	ErrInternal      error = &Error{Code: string(api.Internal)}      // the agent failed
)

// maxAnswer bounds what is read of an answer: 10,000 devices come to about a tenth of it.
const maxAnswer = 64 << 20

// Error is what the agent answered instead of doing what it was asked.
type Error struct {
	Code    string // "not_enrolled" and so on, for programs
	Message string // what failed and why
	Hint    string // what to do, may be empty
}

// Error gives message and hint.
func (e *Error) Error() string {
	switch {
	case e.Message == "":
		return e.Code
	case e.Hint == "":
		return e.Message
	}
	return e.Message + ": " + e.Hint
}

// Is holds for an error of this package with the same code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Message == "" && t.Code == e.Code
}

// result reads an answer with a body.
func result[T any](r *http.Response, err error) (T, error) {
	var v T
	data, err := read(r, err)
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return v, fmt.Errorf("the agent's answer cannot be read: %w", err)
	}
	return v, nil
}

// done reads an answer without a body.
func done(r *http.Response, err error) error {
	_, err = read(r, err)
	return err
}

func read(r *http.Response, err error) ([]byte, error) {
	if err != nil {
		if errors.Is(err, ErrNoDaemon) {
			err = fmt.Errorf("%w: start it with culvert run", err)
		}
		return nil, err
	}
	defer r.Body.Close()
	data, err := io.ReadAll(io.LimitReader(r.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("read the agent's answer: %w", err)
	}
	if len(data) > maxAnswer {
		return nil, fmt.Errorf("the agent's answer is longer than %d bytes", maxAnswer)
	}
	if r.StatusCode/100 == 2 {
		return data, nil
	}
	var e api.Error
	if json.Unmarshal(data, &e) != nil || e.Code == "" {
		return nil, fmt.Errorf("the agent answers %s: is it a culvert agent?", r.Status)
	}
	return nil, &Error{Code: string(e.Code), Message: e.Error, Hint: e.Hint}
}
