package carrier

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// passingErrors is how many errors in a row a socket may report before it counts as broken: ICMP
// causes one each, a dead socket reports without end.
const passingErrors = 1000

// single moves one datagram a call, with the standard library alone.
type single struct {
	sock  *net.UDPConn
	drops *udpDrops
}

// segment has nothing to switch.
func (s *single) segment(bool) {}

func (s *single) read(ms []Message) (int, error) {
	for failures := 0; ; {
		n, from, err := s.sock.ReadFromUDPAddrPort(ms[0].Buf)
		switch {
		case err == nil && n == len(ms[0].Buf):
			// Unix cuts without a word: a full buffer is treated as cut.
			s.drops.oversize.Add(1)
			failures = 0
		case err == nil:
			ms[0].Addr = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
			ms[0].N = n
			return 1, nil
		case errors.Is(err, net.ErrClosed):
			return 0, err
		default:
			s.drops.readErrors.Add(1)
			if failures++; failures >= passingErrors {
				return 0, fmt.Errorf("read: %w", err)
			}
		}
	}
}

func (s *single) write(ms []Message) (int, error) {
	sent := 0
	for i := range ms {
		_, err := s.sock.WriteToUDPAddrPort(ms[i].Buf[:ms[i].N], ms[i].Addr)
		switch {
		case err == nil:
			sent++
		case errors.Is(err, net.ErrClosed):
			return sent, err
		default:
			s.drops.unsendable.Add(1)
		}
	}
	return sent, nil
}
