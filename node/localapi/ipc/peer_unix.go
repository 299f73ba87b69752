//go:build !windows

package ipc

import (
	"fmt"
	"net"
	"os/user"
	"strconv"
)

// CallerOf returns who made the connection.
func CallerOf(conn net.Conn) (Caller, error) {
	uc, ok := conn.(*net.UnixConn)
	if !ok {
		return Caller{}, fmt.Errorf("%w: %T has no peer credentials", ErrAddress, conn)
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return Caller{}, fmt.Errorf("peer credentials: %w", err)
	}
	var uid uint32
	var pid int
	var asked error
	if err := raw.Control(func(fd uintptr) { uid, pid, asked = peer(int(fd)) }); err != nil {
		return Caller{}, fmt.Errorf("peer credentials: %w", err)
	}
	if asked != nil {
		return Caller{}, fmt.Errorf("peer credentials: %w", asked)
	}
	c := Caller{UID: strconv.FormatUint(uint64(uid), 10), PID: pid, Program: program(pid)}
	if u, err := user.LookupId(c.UID); err == nil {
		c.User = u.Username
	}
	return c, nil
}
