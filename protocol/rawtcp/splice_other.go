//go:build !linux

package rawtcp

import (
	"io"
	"net"
)

// Splice moves the bytes of one TCP connection to another.
type Splice struct{ to, from *net.TCPConn }

// NewSplice is ready at once: here is no pipe.
func NewSplice(dst, src *net.TCPConn) (*Splice, error) { return &Splice{dst, src}, nil }

// Close does nothing.
func (s *Splice) Close() {}

// Move moves n bytes and returns how many have reached the other connection; fewer only with an error, which is io.EOF at the
// end. After a deadline for reading it may be called again.
func (s *Splice) Move(n int64) (int64, error) { return io.CopyN(s.to, s.from, n) }
