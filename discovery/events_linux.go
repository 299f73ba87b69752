package discovery

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// netlinkEvents hears what the kernel tells everybody about links, addresses and routes.
type netlinkEvents struct {
	file *os.File
	raw  syscall.RawConn
	buf  []byte
}

var _ events = (*netlinkEvents)(nil)

// listen opens the event source; the refresh is for what has no event: a router replaced by another at the same address.
func listen() (events, time.Duration, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, 0, fmt.Errorf("watch the network: %w", os.NewSyscallError("netlink socket", err))
	}
	var groups uint32
	for _, g := range []int{unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE} {
		groups |= 1 << (g - 1)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		_ = unix.Close(fd) // unused
		return nil, 0, fmt.Errorf("watch the network: %w", os.NewSyscallError("netlink bind", err))
	}
	file := os.NewFile(uintptr(fd), "netlink")
	raw, err := file.SyscallConn()
	if err != nil {
		_ = file.Close() // unused
		return nil, 0, fmt.Errorf("watch the network: %w", err)
	}
	return &netlinkEvents{file, raw, make([]byte, 1)}, time.Minute, nil
}

// wait needs no more than that there was a message, and that it was the kernel's.
func (e *netlinkEvents) wait() error {
	for {
		var from unix.Sockaddr
		var failed error
		err := e.raw.Read(func(fd uintptr) bool {
			_, _, from, failed = receive(int(fd), e.buf)
			return failed != unix.EAGAIN
		})
		switch k, ok := from.(*unix.SockaddrNetlink); {
		case err != nil:
			return err
		case failed == unix.ENOBUFS:
			return nil // so many that some were lost
		case failed != nil:
			return os.NewSyscallError("netlink receive", failed)
		case ok && k.Pid == 0:
			return nil
		}
	}
}

func (e *netlinkEvents) Close() error { return e.file.Close() }
