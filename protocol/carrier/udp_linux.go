package carrier

import (
	"net"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batchSize is the most datagrams one system call moves; past it the call's own cost is lost in the noise.
const batchSize = 64

// mmsghdr is the kernel's struct mmsghdr; Go pads it as C does.
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// vector is what one system call works on. The headers point into names and controls for good, so
// that a call fills in lengths and buffers only.
type vector struct {
	mu    sync.Mutex
	hdrs  [batchSize]mmsghdr
	iovs  [batchSize]unix.Iovec
	names [batchSize]sockaddr
	ctrls [batchSize]control
	off   int // first header of the call
	end   int // past the last header of the call

	call  func(fd uintptr) bool // made once: a closure a call would be an allocation a call
	n     int                   // result of the call
	errno syscall.Errno
}

// mmsg moves batches with recvmmsg and sendmmsg, waiting in the runtime's poller.
type mmsg struct {
	raw    syscall.RawConn
	family uint16 // of the socket: decides how IPv4 addresses are written
	drops  *udpDrops
	in     *vector
	out    *vector
	gather *gather // nil: the kernel joins nothing
	join   joiner  // guarded by out.mu
}

func newBatcher(sock *net.UDPConn, drops *udpDrops) batcher {
	fallback := &single{sock: sock, drops: drops}
	raw, err := sock.SyscallConn()
	if err != nil {
		return fallback
	}
	m := &mmsg{raw: raw, drops: drops}
	var domain int
	var probe syscall.Errno
	err = raw.Control(func(fd uintptr) {
		if domain, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil {
			return
		}
		// An empty vector tells whether a sandbox forbids the call, and reads nothing.
		_, _, probe = unix.Syscall6(unix.SYS_RECVMMSG, fd, 0, 0, unix.MSG_DONTWAIT, 0, 0)
	})
	if err != nil || domain == 0 || probe == unix.ENOSYS || probe == unix.EPERM {
		return fallback
	}
	m.family = uint16(domain)
	m.in = newVector(unix.SYS_RECVMMSG)
	m.out = newVector(unix.SYS_SENDMMSG)
	m.segment(true)
	return m
}

func newVector(trap uintptr) *vector {
	v := new(vector)
	for i := range v.hdrs {
		h := &v.hdrs[i].hdr
		h.Name = &v.names[i][0]
		h.Iov = &v.iovs[i]
		h.SetIovlen(1)
	}
	v.call = func(fd uintptr) bool {
		for {
			// It never waits, and is over within some dozen microseconds; told of a call that takes those, the scheduler hands its
			// processor to another thread, and wakes one for it.
			n, _, errno := unix.RawSyscall6(trap, fd, uintptr(unsafe.Pointer(&v.hdrs[v.off])),
				uintptr(v.end-v.off), unix.MSG_DONTWAIT, 0, 0)
			if errno == unix.EINTR {
				continue
			}
			v.n, v.errno = int(n), errno
			return errno != unix.EAGAIN
		}
	}
	return v
}

// point makes vector i cover b.
func (v *vector) point(i int, b []byte) {
	v.iovs[i].Base = unsafe.SliceData(b)
	v.iovs[i].SetLen(len(b))
}

func (m *mmsg) read(ms []Message) (int, error) {
	v := m.in
	v.mu.Lock()
	defer v.mu.Unlock()
	ms = ms[:min(len(ms), batchSize)]
	if m.gather != nil {
		if n := m.gather.hand(v, ms, m.drops); n > 0 {
			return n, nil
		}
	}
	for failures := 0; ; {
		if m.gather != nil {
			v.end = m.gather.aim(v)
		} else {
			v.end = len(ms)
			for i := range ms {
				v.point(i, ms[i].Buf)
				v.hdrs[i].hdr.Namelen = sockaddrLen
			}
		}
		v.off = 0
		if err := m.raw.Read(v.call); err != nil {
			return 0, err
		}
		if v.errno != 0 {
			// What ICMP says about one peer is no reason to stop listening to the others.
			m.drops.readErrors.Add(1)
			if failures++; failures >= passingErrors {
				return 0, os.NewSyscallError("recvmmsg", v.errno)
			}
			continue
		}
		failures = 0
		n := 0
		if m.gather != nil {
			m.gather.take(v.n)
			n = m.gather.hand(v, ms, m.drops)
		} else {
			n = m.collect(ms)
		}
		if n > 0 {
			return n, nil
		}
	}
}

// collect fills ms from the finished call and closes the gaps that unusable datagrams leave.
func (m *mmsg) collect(ms []Message) int {
	v, kept := m.in, 0
	for i := range v.n {
		addr, ok := v.names[i].decode(v.hdrs[i].hdr.Namelen)
		if !ok || v.hdrs[i].hdr.Flags&unix.MSG_TRUNC != 0 {
			m.drops.oversize.Add(1)
			continue
		}
		ms[kept], ms[i] = ms[i], ms[kept]
		ms[kept].Addr, ms[kept].N = addr, int(v.hdrs[i].len)
		kept++
	}
	return kept
}

func (m *mmsg) write(ms []Message) (int, error) {
	v := m.out
	v.mu.Lock()
	defer v.mu.Unlock()
	sent := 0
	for len(ms) > 0 {
		k := min(len(ms), batchSize)
		n, err := m.writeVector(ms[:k])
		sent += n
		if err != nil {
			return sent, err
		}
		ms = ms[k:]
	}
	return sent, nil
}

func (m *mmsg) writeVector(ms []Message) (int, error) {
	v, j := m.out, &m.join
	j.begin(v)
	for i := range ms {
		b := ms[i].Buf[:ms[i].N]
		if j.joins(ms[i].Addr, len(b)) {
			j.add(b)
			continue
		}
		n, ok := v.names[v.end].encode(m.family, ms[i].Addr)
		if !ok {
			m.drops.unsendable.Add(1)
			continue
		}
		v.hdrs[v.end].hdr.Namelen = n
		j.open(ms[i].Addr, b)
	}
	sent := 0
	for v.off < v.end {
		if err := m.raw.Write(v.call); err != nil {
			return sent, err
		}
		if v.errno == 0 {
			for ; v.n > 0; v.n-- {
				sent += j.sent(v.off)
				v.off++
			}
			continue
		}
		// The error belongs to the first header of the call.
		n, err := m.refused()
		if sent += n; err != nil {
			return sent, err
		}
	}
	return sent, nil
}

// refused goes past a header that the kernel did not take. What was joined is sent again one by one; one that was alone is lost.
func (m *mmsg) refused() (sent int, err error) {
	v, j := m.out, &m.join
	first, count := j.first[v.off], j.count(v.off)
	if count == 1 {
		m.drops.unsendable.Add(1)
		v.off++
		return 0, nil
	}
	j.refused(v.errno)
	off, end, h := v.off, v.end, &v.hdrs[v.off].hdr
	defer func() { v.off, v.end = off+1, end }()
	h.SetIovlen(1)
	h.Control, h.Controllen = nil, 0
	v.end = off + 1
	for i := range count {
		h.Iov = &v.iovs[first+i]
		if err := m.raw.Write(v.call); err != nil {
			return sent, err
		}
		if v.errno != 0 {
			m.drops.unsendable.Add(1)
			continue
		}
		sent++
	}
	return sent, nil
}

// enlargeBuffers asks for room for bursts: past the administrator's limit where the process may,
// up to it where not.
func enlargeBuffers(sock *net.UDPConn) {
	raw, err := sock.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		enlarge(int(fd), unix.SO_RCVBUFFORCE, unix.SO_RCVBUF)
		enlarge(int(fd), unix.SO_SNDBUFFORCE, unix.SO_SNDBUF)
	})
}

func enlarge(fd, privileged, plain int) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, privileged, socketBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, plain, socketBuffer)
	}
}
