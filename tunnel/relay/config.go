package relay

import (
	"cmp"
	"errors"
	"net"
	"time"

	"culvert/protocol"
	"culvert/protocol/carrier/descriptors"
)

// Conn is a connection as the relay needs it: a *net.TCPConn, or one of which the first bytes were read and are read again
// (carrier.Peeked), or a stream that stands for one. TCP is the bare connection behind it, nil where there is none; it is spliced.
type Conn interface {
	net.Conn
	CloseWrite() error
	SetLinger(sec int) error
}

// Config of a relay. Zero numbers take the defaults.
type Config struct {
	// Verify proves a signed RelayJoin that is addressed to this node: signature, freshness, replay, certificate, revocation.
	Verify func(raw []byte) (*protocol.Verified, protocol.RelayJoin, error)
	Now    func() time.Time // time.Now
	// TCP gives the bare TCP connection inside a Conn, from which nothing was read ahead any more; nil: the Conn itself where
	// it is one.
	TCP func(Conn) *net.TCPConn

	// Descriptors says whether there is room for a connection; nil: always.
	Descriptors *descriptors.Budget

	Wait        time.Duration // for the other end, 10 s
	Idle        time.Duration // without a byte either way, 10 min
	Connections int           // in all, 16,384
	Waiting     int           // ends that wait, 4,096
	Strangers   int           // whose join is not verified yet, 1,024
	PerSource   int           // of those from one address, 128
	Hello       time.Duration // to say the join, 5 s
	Splices     int           // directions that the kernel moves at once, 64, negative for none; each holds a pipe: two descriptors, up to 512 KiB
	Rate        int64         // bytes a second in all, the upload cap; 0 for none
	Node        Allowance     // of each node: 2,048 connections
	Domain      Allowance     // of each domain: 8,192 connections
}

type reason byte

const (
	reasonNone reason = iota
	reasonRead
	reasonVerify
	reasonMismatch
	reasonSpent
	reasonFull
	reasonAllowance
	reasonAlone
	reasonClosed
	reasonIdle
	reasonReset
	reasonBytes
	reasonCrowded
	reasonDescriptors
	reasons
)

var reasonNames = [reasons]string{
	"joined", "unreadable join", "join not verified", "the two ends do not fit", "token spent", "relay full",
	"allowance of node or domain used up", "the other end did not come", "closed", "idle", "reset", "bytes used up", "too many strangers",
	"out of descriptors",
}

// ErrRefused is what Serve returns for a connection that was not joined.
var ErrRefused = errors.New("relay: refused")

func (c Config) withDefaults() Config {
	if c.Now == nil {
		c.Now = time.Now
	}
	c.Wait = cmp.Or(c.Wait, 10*time.Second)
	c.Idle = cmp.Or(c.Idle, 10*time.Minute)
	c.Connections = cmp.Or(c.Connections, 16384)
	c.Waiting = cmp.Or(c.Waiting, 4096)
	c.Strangers = cmp.Or(c.Strangers, 1024)
	c.PerSource = cmp.Or(c.PerSource, 128)
	c.Hello = cmp.Or(c.Hello, 5*time.Second)
	c.Splices = cmp.Or(c.Splices, 64)
	c.Node.Connections = cmp.Or(c.Node.Connections, 2048)
	c.Domain.Connections = cmp.Or(c.Domain.Connections, 8192)
	return c
}
