package echo

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/ipv4"
)

// Way is how a socket is read and written.
type Way int

// The ways.
const (
	One   Way = iota // system call a packet
	Batch            // recvmmsg, sendmmsg
	GSO              // several packets in one buffer, cut and joined by the kernel
)

func (w Way) String() string {
	return [...]string{"one system call a packet", "recvmmsg/sendmmsg", "UDP GSO/GRO"}[w]
}

const (
	batch    = 64      // packets a system call
	segments = 64      // of a buffer at most: what Linux takes
	supers   = 8       // buffers a system call, with GSO
	large    = 1 << 16 // room of a buffer with GSO
	small    = 2048    // and without
	buffers  = 4 << 20 // of the kernel's, each way
)

// parcel is a buffer with packets of one size, but for the last which may be shorter.
type parcel struct {
	addr    netip.AddrPort
	buf     []byte // as much of it as is used
	segment int
}

// each calls fn for the packets.
func (p *parcel) each(fn func(b []byte) error) error {
	for b := p.buf; len(b) > 0; {
		n := min(p.segment, len(b))
		if err := fn(b[:n:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// socket reads and writes parcels. What read returns is good until the next read.
type socket struct {
	way     Way
	conn    *net.UDPConn
	batched *ipv4.PacketConn
	in, out []ipv4.Message
	parcels []parcel
}

func listen(way Way) (*socket, error) {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, fmt.Errorf("echo: %w", err)
	}
	s := &socket{way: way, conn: c, batched: ipv4.NewPacketConn(c)}
	// The kernel may give less; then some of a window is lost, which is counted.
	_ = c.SetReadBuffer(buffers)
	_ = c.SetWriteBuffer(buffers)
	n, size := 1, small
	switch way {
	case Batch:
		n = batch
	case GSO:
		n, size = supers, large
		if err := joinPackets(c); err != nil {
			_ = c.Close()
			return nil, err
		}
	}
	s.in, s.out, s.parcels = make([]ipv4.Message, n), make([]ipv4.Message, n), make([]parcel, n)
	for i := range s.in {
		s.in[i].Buffers = [][]byte{make([]byte, size)}
		s.out[i].Buffers = make([][]byte, 1)
		if way == GSO {
			s.in[i].OOB, s.out[i].OOB = make([]byte, controlSize), make([]byte, controlSize)
		}
	}
	return s, nil
}

func (s *socket) read() ([]parcel, error) {
	if s.way == One {
		p := &s.parcels[0]
		n, from, err := s.conn.ReadFromUDPAddrPort(s.in[0].Buffers[0])
		p.addr, p.buf, p.segment = from, s.in[0].Buffers[0][:n], n
		return s.parcels[:1], err
	}
	n, err := s.batched.ReadBatch(s.in, 0)
	if err != nil {
		return nil, err
	}
	for i := range s.in[:n] {
		m, p := &s.in[i], &s.parcels[i]
		p.addr, p.buf, p.segment = m.Addr.(*net.UDPAddr).AddrPort(), m.Buffers[0][:m.N], m.N
		if s.way == GSO {
			if size := joined(m.OOB[:m.NN]); size > 0 {
				p.segment = size
			}
		}
	}
	return s.parcels[:n], nil
}

func (s *socket) write(l []parcel) error {
	if s.way == One {
		for i := range l {
			if _, err := s.conn.WriteToUDPAddrPort(l[i].buf, l[i].addr); err != nil {
				return err
			}
		}
		return nil
	}
	for len(l) > 0 {
		n := min(len(l), len(s.out))
		for i := range l[:n] {
			m, p := &s.out[i], &l[i]
			m.Buffers[0] = p.buf
			setAddr(m, p.addr)
			if s.way == GSO {
				cut(m.OOB, p.segment)
			}
		}
		for ms := s.out[:n]; len(ms) > 0; {
			k, err := s.batched.WriteBatch(ms, 0)
			if err != nil {
				return err
			}
			ms = ms[k:]
		}
		l = l[n:]
	}
	return nil
}

// setAddr reuses the address that the message has.
func setAddr(m *ipv4.Message, a netip.AddrPort) {
	u, ok := m.Addr.(*net.UDPAddr)
	if !ok {
		u = &net.UDPAddr{IP: make(net.IP, 4)}
		m.Addr = u
	}
	ip := a.Addr().Unmap().As4()
	copy(u.IP, ip[:])
	u.Port = int(a.Port())
}

func (s *socket) addr() netip.AddrPort { return s.conn.LocalAddr().(*net.UDPAddr).AddrPort() }

func (s *socket) deadline(t time.Time) error { return s.conn.SetReadDeadline(t) }

func (s *socket) close() error { return s.conn.Close() }
