package operator

import (
	"errors"
	"fmt"
	"strings"

	"culvert/operator/sqlite"
)

var (
	// ErrInvalid marks input that breaks a rule.
	ErrInvalid = errors.New("not valid")
	// ErrNotFound marks what is not registered, or not in the caller's scope.
	ErrNotFound = errors.New("not found")
	// ErrExists marks what is registered already.
	ErrExists = errors.New("exists already")
	// ErrForbidden marks what the caller's scope does not include.
	ErrForbidden = errors.New("not allowed")
	// ErrUnavailable marks what needs the running operator.
	ErrUnavailable = errors.New("not possible now")
	// ErrRunning marks a directory that another process works on.
	ErrRunning = errors.New("the operator's directory is in use by another process")
	// ErrNotInitialised marks a directory without an operator.
	ErrNotInitialised = errors.New("no operator here")
	// ErrNoRoom marks a change that the operator's disk has no room for: nothing of it was made.
	ErrNoRoom = sqlite.ErrNoRoom
	// ErrDamaged marks an operator.db whose file has changed by itself.
	ErrDamaged = sqlite.ErrDamaged
)

// RowError says what is wrong with one row of a bulk registration.
type RowError struct {
	Row     int    `json:"row"` // from 1; of a CSV file: its line
	Message string `json:"message"`

	err error
}

// RowErrors refuses a bulk registration as a whole. It is an ErrInvalid.
type RowErrors []RowError

// maxRowErrors bounds how many rows are reported.
const maxRowErrors = 100

// Error implements error.
func (e RowErrors) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d rows are not valid, nothing was registered", len(e))
	for _, r := range e {
		fmt.Fprintf(&b, "\nrow %d: %s", r.Row, r.Message)
	}
	return b.String()
}

// Unwrap makes it an ErrInvalid.
func (e RowErrors) Unwrap() error { return ErrInvalid }

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

func notFound(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrNotFound, fmt.Sprintf(format, args...))
}
