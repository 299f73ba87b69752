package rawtcp

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Conn is a TCP connection whose bytes are moved by raw system calls. One goroutine may read and one write at a time; closing
// and deadlines are the TCP connection's.
type Conn struct {
	*net.TCPConn
	raw syscall.RawConn
	in  reader
	out writer
}

type reader struct {
	call  func(fd uintptr) bool // made once: a closure a call would be an allocation a call
	lend  Lender
	buf   []byte
	n     int
	errno syscall.Errno
}

type writer struct {
	mu    sync.Mutex // held while somebody writes, also while he waits
	call  func(fd uintptr) bool
	buf   []byte // still to be written
	once  bool   // do not wait
	errno syscall.Errno
	reset bool // a write has taken the news of a reset, which the system tells once
}

// New takes over the reading and writing of c.
func New(c *net.TCPConn) *Conn { return newConn(c, false) }

// newConn is New; ready: c has been set up before.
func newConn(c *net.TCPConn, ready bool) *Conn {
	raw, err := c.SyscallConn()
	if err != nil {
		raw = nil // c is no open connection, as its methods will tell
	} else if !ready {
		unpace(c, raw)
	}
	r := &Conn{TCPConn: c, raw: raw}
	r.in.call, r.out.call = r.in.try, r.out.try
	return r
}

// try is one attempt to read; false: wait until the socket is readable.
func (r *reader) try(fd uintptr) bool {
	b := r.buf
	if r.lend != nil {
		b = r.lend.Lend()
	}
	n, errno := transfer(unix.SYS_RECVFROM, fd, b, syscall.MSG_DONTWAIT)
	if errno == syscall.EAGAIN {
		if r.lend != nil {
			r.lend.Return()
		}
		return false
	}
	r.n, r.errno = n, errno
	return true
}

// try is one attempt to write everything; false: wait until the socket is writable.
func (w *writer) try(fd uintptr) bool {
	for len(w.buf) > 0 {
		n, errno := transfer(unix.SYS_SENDTO, fd, w.buf, syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL)
		if errno == syscall.EAGAIN {
			return w.once
		}
		if w.errno = errno; errno != 0 {
			w.reset = w.reset || errno == syscall.ECONNRESET
			return true
		}
		w.buf = w.buf[n:]
	}
	return true
}

// transfer makes one system call on b, which is not empty.
func transfer(what uintptr, fd uintptr, b []byte, flags uintptr) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(what, fd, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), flags, 0, 0)
		if errno != syscall.EINTR {
			return int(n), errno
		}
	}
}

// Read implements io.Reader.
func (c *Conn) Read(b []byte) (int, error) {
	if len(b) == 0 || c.raw == nil {
		return c.TCPConn.Read(b)
	}
	c.in.buf = b
	n, err := c.read()
	c.in.buf = nil
	return n, err
}

// ReadLent waits until there is something to read and reads it into what l lends. Nothing is lent after an error but io.EOF
// and those of the socket.
func (c *Conn) ReadLent(l Lender) (int, error) {
	if c.raw == nil {
		return c.TCPConn.Read(l.Lend())
	}
	c.in.lend = l
	n, err := c.read()
	c.in.lend = nil
	return n, err
}

func (c *Conn) read() (int, error) {
	c.in.n, c.in.errno = 0, 0
	err := c.raw.Read(c.in.call)
	switch {
	case err != nil:
		return 0, err
	case c.in.errno != 0:
		return 0, c.failed("read", c.in.errno)
	case c.in.n == 0 && c.wasReset():
		return 0, c.failed("read", syscall.ECONNRESET)
	case c.in.n == 0:
		return 0, io.EOF
	}
	return c.in.n, nil
}

// wasReset reports whether what a read takes for the end is a reset that a write was told of.
func (c *Conn) wasReset() (yes bool) {
	if c.out.mu.TryLock() {
		defer c.out.mu.Unlock()
		return c.out.reset
	}
	_ = c.raw.Control(func(fd uintptr) { // the write that goes on may be the one; if it is another, it goes on
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		yes = err == nil && info.State == unix.BPF_TCP_CLOSE
	})
	return yes
}

// Write implements io.Writer.
func (c *Conn) Write(b []byte) (int, error) {
	if c.raw == nil {
		return c.TCPConn.Write(b)
	}
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	return c.write(b, false)
}

// TryWrite writes what the socket takes at once of b, which may be nothing. It waits for nobody, not even another writer.
func (c *Conn) TryWrite(b []byte) (int, error) {
	if c.raw == nil || !c.out.mu.TryLock() {
		return 0, nil
	}
	defer c.out.mu.Unlock()
	return c.write(b, true)
}

func (c *Conn) write(b []byte, once bool) (int, error) {
	w := &c.out
	w.buf, w.once, w.errno = b, once, 0
	err := c.raw.Write(w.call)
	n := len(b) - len(w.buf)
	w.buf = nil
	if err == nil && w.errno != 0 {
		err = c.failed("write", w.errno)
	}
	return n, err
}

// CloseWrite ends the writing side; the other end reads what was written, and then the end.
func (c *Conn) CloseWrite() error {
	if c.raw == nil {
		return c.TCPConn.CloseWrite()
	}
	var errno syscall.Errno
	if err := c.raw.Control(func(fd uintptr) {
		_, _, errno = syscall.RawSyscall(unix.SYS_SHUTDOWN, fd, syscall.SHUT_WR, 0)
	}); err != nil {
		return err
	}
	if errno != 0 {
		return c.failed("close", errno)
	}
	return nil
}

// failed is the error as package net would put it.
func (c *Conn) failed(op string, errno syscall.Errno) error {
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError(op, errno)}
}
