package rawtcp

import (
	"io"
	"net"
	"os"
	"syscall"
)

const (
	// pipeSize gives a pipe places for 256 pieces of a packet, and spliceMost is how much of them is moved at once: half a
	// megabyte is still in the processor's cache when the receiver copies it.
	pipeSize   = 1 << 20
	spliceMost = 512 << 10
	// SPLICE_F_MOVE and SPLICE_F_NONBLOCK, which is for the pipe: the sockets never block.
	spliceFlags = 0x1 | 0x2
)

// Splice moves the bytes of one TCP connection to another inside the kernel, through a pipe that it holds until Close. It
// belongs to one goroutine.
type Splice struct {
	from, to    syscall.RawConn
	pipe        [2]int // to read from, to write to
	most        int
	came, held  int // bytes that the last call took, and that are in the pipe
	errno       syscall.Errno
	drain, pump func(fd uintptr) bool // made once: a closure a call would be an allocation a call
}

// NewSplice makes the pipe from src to dst.
func NewSplice(dst, src *net.TCPConn) (*Splice, error) {
	s := &Splice{}
	var err error
	if s.from, err = src.SyscallConn(); err != nil {
		return nil, err
	}
	if s.to, err = dst.SyscallConn(); err != nil {
		return nil, err
	}
	if err := syscall.Pipe2(s.pipe[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	// Where the system grants no more, the smaller pipe takes more calls.
	_, _, _ = syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(s.pipe[0]), syscall.F_SETPIPE_SZ, pipeSize)
	s.drain, s.pump = s.tryDrain, s.tryPump
	unpace(dst, s.to)
	return s, nil
}

// Close closes the pipe, and neither connection.
func (s *Splice) Close() { _, _ = syscall.Close(s.pipe[0]), syscall.Close(s.pipe[1]) }

// Move moves n bytes and returns how many have reached the other connection; fewer only with an error, which is io.EOF at the
// end. After a deadline for reading it may be called again, after other errors not: bytes may be left in the pipe.
func (s *Splice) Move(n int64) (int64, error) {
	var moved int64
	for moved < n {
		s.most, s.came, s.errno = int(min(n-moved, spliceMost)), 0, 0
		if err := s.from.Read(s.drain); err != nil {
			return moved, err
		}
		if s.errno != 0 {
			return moved, os.NewSyscallError("splice", s.errno)
		}
		if s.came == 0 {
			return moved, io.EOF
		}
		s.held = s.came
		err := s.to.Write(s.pump)
		moved += int64(s.came - s.held)
		if err == nil && s.errno != 0 {
			err = os.NewSyscallError("splice", s.errno)
		}
		if err != nil {
			return moved, err
		}
	}
	return moved, nil
}

// tryDrain is one attempt to fill the empty pipe; false: wait until the socket is readable.
func (s *Splice) tryDrain(fd uintptr) bool {
	s.came, s.errno = splice(fd, uintptr(s.pipe[1]), s.most)
	return s.errno != syscall.EAGAIN
}

// tryPump is one attempt to empty the pipe; false: wait until the socket is writable.
func (s *Splice) tryPump(fd uintptr) bool {
	for s.held > 0 {
		n, errno := splice(uintptr(s.pipe[0]), fd, s.held)
		if errno == syscall.EAGAIN {
			return false
		}
		if s.errno = errno; errno != 0 {
			return true
		}
		s.held -= n
	}
	return true
}

func splice(from, to uintptr, most int) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_SPLICE, from, 0, to, 0, uintptr(most), spliceFlags)
		if errno == 0 {
			return int(n), 0
		}
		if errno != syscall.EINTR {
			return 0, errno
		}
	}
}
