// Package descriptors keeps a fifth of the descriptors that this process may have for what must go on when there are too many
// connections: answering lookups, the store's files, the local API, the way to the operator.
//
// The soft limit needs no raising: Go raises it to the hard one when a program starts, on every Unix (package os, init), and
// gives children the old one back. To raise the hard limit is the service manager's affair.
//
// Nothing is counted. The system gives a new descriptor the lowest number that is free (POSIX, open), so that its number says how
// many are in use at least: one look at it when it comes is exact, costs one call, and cannot leak.
//
//	0 ………………………………………………………… 80% ………………… 90% ………………… limit
//	tunnels, relayed connections │ strangers, messages │ files, local API, what this node dials for itself
//	                             │ by stream           │
package descriptors

import (
	"errors"
	"net"
	"sync/atomic"
	"syscall"
)

// ErrReserve means that a connection would have taken a descriptor of the reserve.
var ErrReserve = errors.New("this process has hardly any file descriptors left, and keeps the last fifth for lookups; raise its limit (LimitNOFILE in a service, ulimit -n in a shell)")

// Budget says of each new descriptor whether it may stay. Nil, and one without a limit, lets all stay.
type Budget struct {
	limit     int
	tunnels   uintptr // the first number that no tunnel may have
	strangers uintptr
	refuse    func()
	refused   atomic.Uint64
}

// New makes a budget for a process that may have limit descriptors; 0 is no limit. refused is told of each that may not stay, and
// must not wait; nil: nobody is.
func New(limit int, refused func()) *Budget {
	return &Budget{limit: limit, tunnels: uintptr(limit * 4 / 5), strangers: uintptr(limit * 9 / 10), refuse: refused}
}

// Limit is how many descriptors there may be, 0 where there is no limit.
func (b *Budget) Limit() int {
	if b == nil {
		return 0
	}
	return b.limit
}

// Connections is how many descriptors tunnels and relayed connections may have, 0 where there is no limit.
func (b *Budget) Connections() int {
	if b == nil {
		return 0
	}
	return int(b.tunnels)
}

// Refused is how many could not stay.
func (b *Budget) Refused() uint64 {
	if b == nil {
		return 0
	}
	return b.refused.Load()
}

// Tunnel reports whether a new connection or listener of a tunnel, or one to be relayed, may stay. c is a socket of package net,
// or what is laid over one.
func (b *Budget) Tunnel(c any) bool {
	return b == nil || b.limit == 0 || b.below(c, b.tunnels)
}

// Stranger is Tunnel for one that nothing is known of yet.
func (b *Budget) Stranger(c any) bool {
	return b == nil || b.limit == 0 || b.below(c, b.strangers)
}

func (b *Budget) below(c any, end uintptr) bool {
	if n, ok := number(c); ok && n >= end {
		b.refused.Add(1)
		if b.refuse != nil {
			b.refuse()
		}
		return false
	}
	return true
}

// number is that of the socket at the bottom of c.
func number(c any) (n uintptr, ok bool) {
	for {
		switch t := c.(type) {
		case syscall.Conn:
			raw, err := t.SyscallConn()
			if err != nil {
				return 0, false
			}
			return n, raw.Control(func(fd uintptr) { n = fd }) == nil
		case interface{ NetConn() net.Conn }:
			c = t.NetConn()
		default:
			return 0, false
		}
	}
}
