package discovery

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

var (
	errNetlink     = errors.New("malformed netlink message")
	errInterrupted = errors.New("netlink dump interrupted by a change")
)

const (
	netlinkTimeout = 2 * time.Second // the kernel answers at once; this only bounds a fault
	netlinkBuffer  = 1 << 14         // the kernel makes the pieces of a dump no longer than what is received into, nor than a page at first
	dumpTries      = 4
)

// dump asks the kernel for one table and hands each message's body to fn. A dump that a change interrupted starts over
// after reset.
func dump(kind uint16, family uint8, size int, reset func(), fn func(kind uint16, body []byte) error) error {
	for try := 1; ; try++ {
		reset()
		err := dumpOnce(kind, family, size, fn)
		if err == nil || try == dumpTries || !errors.Is(err, errInterrupted) {
			return err
		}
	}
}

func dumpOnce(kind uint16, family uint8, size int, fn func(uint16, []byte) error) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return os.NewSyscallError("netlink socket", err)
	}
	defer unix.Close(fd)
	tv := unix.NsecToTimeval(netlinkTimeout.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		return os.NewSyscallError("netlink time-out", err)
	}
	req := make([]byte, unix.SizeofNlMsghdr+size)
	binary.NativeEndian.PutUint32(req, uint32(len(req)))
	binary.NativeEndian.PutUint16(req[4:], kind)
	binary.NativeEndian.PutUint16(req[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	const sequence = 1 // the socket is new: nothing older can arrive on it
	binary.NativeEndian.PutUint32(req[8:], sequence)
	req[unix.SizeofNlMsghdr] = family
	if err := unix.Sendto(fd, req, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("netlink send", err)
	}
	buf := make([]byte, netlinkBuffer)
	interrupted := false
	for {
		n, flags, from, err := receive(fd, buf)
		if err != nil {
			return os.NewSyscallError("netlink receive", err)
		}
		if flags&unix.MSG_TRUNC != 0 {
			return fmt.Errorf("%w: longer than %d bytes", errNetlink, len(buf))
		}
		if k, ok := from.(*unix.SockaddrNetlink); !ok || k.Pid != 0 {
			continue // another process may write to this socket: only the kernel's word counts
		}
		done, err := walk(buf[:n], func(h message) error {
			if h.Sequence != sequence {
				return nil
			}
			interrupted = interrupted || h.Flags&unix.NLM_F_DUMP_INTR != 0
			return fn(h.Kind, h.Body)
		})
		switch {
		case err != nil:
			return err
		case done && interrupted:
			return errInterrupted
		case done:
			return nil
		}
	}
}

func receive(fd int, buf []byte) (n, flags int, from unix.Sockaddr, err error) {
	for {
		n, _, flags, from, err = unix.Recvmsg(fd, buf, nil, 0)
		if err != unix.EINTR {
			return n, flags, from, err
		}
	}
}

// message is one netlink message; Body is what follows its header.
type message struct {
	Kind, Flags uint16
	Sequence    uint32
	Body        []byte
}

// walk hands every message in b to fn, until the end of a dump (done) or the first fault.
func walk(b []byte, fn func(message) error) (done bool, err error) {
	for len(b) > 0 {
		if len(b) < unix.SizeofNlMsghdr {
			return false, fmt.Errorf("%w: header cut off", errNetlink)
		}
		n := int64(binary.NativeEndian.Uint32(b))
		if n < unix.SizeofNlMsghdr || n > int64(len(b)) {
			return false, fmt.Errorf("%w: length %d of %d", errNetlink, n, len(b))
		}
		m := message{binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint16(b[6:]), binary.NativeEndian.Uint32(b[8:]),
			b[unix.SizeofNlMsghdr:n]}
		switch m.Kind {
		case unix.NLMSG_DONE:
			return true, fn(m)
		case unix.NLMSG_ERROR:
			if len(m.Body) < 4 {
				return false, fmt.Errorf("%w: error without number", errNetlink)
			}
			if no := int32(binary.NativeEndian.Uint32(m.Body)); no < 0 {
				return false, os.NewSyscallError("netlink", unix.Errno(-int64(no)))
			}
		case unix.NLMSG_NOOP, unix.NLMSG_OVERRUN:
		default:
			if err := fn(m); err != nil {
				return false, err
			}
		}
		b = b[min((n+3)&^3, int64(len(b))):]
	}
	return false, nil
}

// attributes hands every attribute in b to fn.
func attributes(b []byte, fn func(kind uint16, value []byte) error) error {
	for len(b) >= unix.SizeofRtAttr {
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.SizeofRtAttr || n > len(b) {
			return fmt.Errorf("%w: attribute length %d of %d", errNetlink, n, len(b))
		}
		const flags = unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER
		if err := fn(binary.NativeEndian.Uint16(b[2:])&^flags, b[unix.SizeofRtAttr:n]); err != nil {
			return err
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	if len(b) > 0 {
		return fmt.Errorf("%w: attribute cut off", errNetlink)
	}
	return nil
}
