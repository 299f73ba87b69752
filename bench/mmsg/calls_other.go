//go:build !linux

package mmsg

import (
	"net"

	"culvert/protocol/carrier"
)

// calls is the socket.
type calls struct{ s *net.UDPConn }

func (c *calls) open(s *net.UDPConn) error {
	c.s = s
	return nil
}

func (c *calls) read(ms []carrier.Message) (n int, err error) {
	ms[0].N, ms[0].Addr, err = c.s.ReadFromUDPAddrPort(ms[0].Buf)
	return 1, err
}

func (c *calls) write(ms []carrier.Message) (int, error) {
	_, err := c.s.WriteToUDPAddrPort(ms[0].Buf[:ms[0].N], ms[0].Addr)
	return 1, err
}
