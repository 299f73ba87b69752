package mmsg

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"culvert/protocol/carrier"
)

// sockaddr is a struct sockaddr_in: family 2 (native) ‖ port 2 ‖ address 4 ‖ zero 8.
type sockaddr [unix.SizeofSockaddrInet4]byte

// header is the kernel's struct mmsghdr.
type header struct {
	hdr unix.Msghdr
	len uint32
}

// vector is what one system call works on.
type vector struct {
	hdrs  [batch]header
	iovs  [batch]unix.Iovec
	names [batch]sockaddr
	used  int // headers of the call

	call  func(fd uintptr) bool // made once: a closure a call would be an allocation a call
	n     int
	errno syscall.Errno
}

// calls are a socket's two vectors.
type calls struct {
	raw     syscall.RawConn
	in, out *vector
}

func (c *calls) open(s *net.UDPConn) (err error) {
	c.raw, err = s.SyscallConn()
	c.in, c.out = newVector(unix.SYS_RECVMMSG), newVector(unix.SYS_SENDMMSG)
	return err
}

func newVector(trap uintptr) *vector {
	v := new(vector)
	for i := range v.hdrs {
		h := &v.hdrs[i].hdr
		h.Name, h.Namelen, h.Iov = &v.names[i][0], uint32(len(v.names[i])), &v.iovs[i]
		h.SetIovlen(1)
	}
	v.call = func(fd uintptr) bool {
		n, _, errno := unix.Syscall6(trap, fd, uintptr(unsafe.Pointer(&v.hdrs[0])), uintptr(v.used), unix.MSG_DONTWAIT, 0, 0)
		v.n, v.errno = int(n), errno
		return errno != unix.EAGAIN && errno != unix.EINTR
	}
	return v
}

func (v *vector) point(i int, b []byte) {
	v.iovs[i].Base = unsafe.SliceData(b)
	v.iovs[i].SetLen(len(b))
}

func (c *calls) read(ms []carrier.Message) (int, error) {
	v := c.in
	for i := range ms {
		v.point(i, ms[i].Buf)
	}
	v.used = len(ms)
	if err := c.raw.Read(v.call); err != nil {
		return 0, err
	}
	if v.errno != 0 {
		return 0, os.NewSyscallError("recvmmsg", v.errno)
	}
	for i := range v.n {
		m, a := &ms[i], &v.names[i]
		m.Addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte(a[4:8])), binary.BigEndian.Uint16(a[2:]))
		m.N = int(v.hdrs[i].len)
	}
	return v.n, nil
}

var errFamily = errors.New("mmsg: not an IPv4 address")

func (c *calls) write(ms []carrier.Message) (int, error) {
	v := c.out
	for i := range ms {
		m, a := &ms[i], &v.names[i]
		if !m.Addr.Addr().Is4() {
			return 0, errFamily
		}
		v.point(i, m.Buf[:m.N])
		ip := m.Addr.Addr().As4()
		binary.NativeEndian.PutUint16(a[:], unix.AF_INET)
		binary.BigEndian.PutUint16(a[2:], m.Addr.Port())
		copy(a[4:], ip[:])
	}
	v.used = len(ms)
	if err := c.raw.Write(v.call); err != nil {
		return 0, err
	}
	if v.errno != 0 {
		return 0, os.NewSyscallError("sendmmsg", v.errno)
	}
	return v.n, nil
}
