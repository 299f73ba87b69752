// Package ipc is the local stream between an app and the agent of its machine: a Unix socket, on Windows a named pipe, and
// who is at its other end.
//
// On Unix the address is the path of a socket: agent.sock in the data directory. It is made under another name, gets its
// mode there and is then renamed into place, so that nobody ever meets it with looser permissions: 0660 and group culvert
// where there is such a group and this process may give files to it, 0600 elsewhere. Beside it lies agent.sock.lock, held
// for as long as somebody listens; only its holder may replace a socket, and only one at which nobody answers. Paths longer than the
// system takes (108 bytes, 104 on macOS) are reached through /proc/self/fd on Linux and refused with a clear error elsewhere.
//
// On Windows the address is \\.\pipe\culvert- and the first 16 hex digits of the SHA-256 of the data directory's path in lower
// case. The system, administrators, the user who runs the agent and the local group culvert may open it, from this machine.
package ipc

import (
	"errors"
	"strconv"
)

// Errors of Listen and Dial, to be told apart with errors.Is.
var (
	// ErrInUse says that another daemon listens at the address.
	ErrInUse = errors.New("another agent answers")
	// ErrNoDaemon says that nobody listens at the address.
	ErrNoDaemon = errors.New("no agent is running")
	// ErrDenied says that this user may not reach the address.
	ErrDenied = errors.New("not permitted")
	// ErrAddress says that there cannot be a socket at the address.
	ErrAddress = errors.New("unusable socket address")
)

// Caller is who is at the other end of a local connection, as the operating system tells.
// Program and PID say what ran when the connection was made; they are for people to read and authorise nothing.
type Caller struct {
	UID     string `json:"uid"`     // numeric user ID, on Windows the SID; empty where unknown
	User    string `json:"user"`    // account name, empty where unknown
	PID     int    `json:"pid"`     // process ID, 0 where unknown
	Program string `json:"program"` // path or name of the executable, empty where it may not be read
}

// String names the caller in a log or a table.
func (c Caller) String() string {
	name := c.User
	if name == "" {
		name = c.UID
	}
	if name == "" {
		name = "unknown"
	}
	if c.Program == "" && c.PID == 0 {
		return name
	}
	return name + " (" + c.Program + ", " + strconv.Itoa(c.PID) + ")"
}
