package ipc

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

func peer(fd int) (uid uint32, pid int, err error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0, 0, os.NewSyscallError("getsockopt", err)
	}
	return cred.Uid, int(cred.Pid), nil
}

// program names what runs as pid: its path where that may be read, else the name that everybody sees.
func program(pid int) string {
	if pid <= 0 {
		return "" // a process of another PID namespace
	}
	proc := "/proc/" + strconv.Itoa(pid)
	if exe, err := os.Readlink(proc + "/exe"); err == nil {
		return strings.TrimSuffix(exe, " (deleted)")
	}
	comm, err := os.ReadFile(proc + "/comm")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(comm))
}
