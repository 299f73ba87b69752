//go:build linux

package lab

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

const (
	ethernetHeader = 14
	ipv4Header     = 20
	ipv6Header     = 40
	udpHeader      = 8
	tcpHeader      = 20
)

// A Packet is one captured frame. Where its headers are not those of TCP or
// UDP over IP, only Frame is set.
type Packet struct {
	Frame    []byte
	Protocol int // unix.IPPROTO_UDP, unix.IPPROTO_TCP, else 0
	From, To netip.AddrPort
	Payload  []byte // a slice of Frame
}

// UDP tells whether the packet is a datagram that port sent or receives.
func (p Packet) UDP(port uint16) bool {
	return p.Protocol == unix.IPPROTO_UDP && (p.From.Port() == port || p.To.Port() == port)
}

// TCP tells whether the packet is a TCP segment.
func (p Packet) TCP() bool { return p.Protocol == unix.IPPROTO_TCP }

// Between tells whether the packet goes from a to b or from b to a.
func (p Packet) Between(a, b netip.Addr) bool {
	return p.From.Addr() == a && p.To.Addr() == b || p.From.Addr() == b && p.To.Addr() == a
}

// Parse reads a frame's headers. The packet refers to frame.
func Parse(frame []byte) Packet {
	p := Packet{Frame: frame}
	if len(frame) < ethernetHeader {
		return p
	}
	body := frame[ethernetHeader:]
	switch binary.BigEndian.Uint16(frame[12:]) {
	case unix.ETH_P_IP:
		p.parse4(body)
	case unix.ETH_P_IPV6:
		p.parse6(body)
	}
	return p
}

func (p *Packet) parse4(b []byte) {
	if len(b) < ipv4Header {
		return
	}
	header := int(b[0]&0x0f) * 4
	total := int(binary.BigEndian.Uint16(b[2:]))
	if header < ipv4Header || total < header || total > len(b) {
		return
	}
	src, dst := netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	p.parsePorts(int(b[9]), src, dst, b[header:total])
}

// parse6 reads packets without extension headers, which nothing here sends.
func (p *Packet) parse6(b []byte) {
	if len(b) < ipv6Header {
		return
	}
	length := int(binary.BigEndian.Uint16(b[4:]))
	if length > len(b)-ipv6Header {
		return
	}
	src, dst := netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	p.parsePorts(int(b[6]), src, dst, b[ipv6Header:ipv6Header+length])
}

func (p *Packet) parsePorts(protocol int, src, dst netip.Addr, b []byte) {
	header := 0
	switch {
	case protocol == unix.IPPROTO_UDP && len(b) >= udpHeader:
		header = udpHeader
	case protocol == unix.IPPROTO_TCP && len(b) >= tcpHeader:
		header = int(b[12]>>4) * 4
		if header < tcpHeader || header > len(b) {
			return
		}
	default:
		return
	}
	p.Protocol = protocol
	p.From = netip.AddrPortFrom(src, binary.BigEndian.Uint16(b[0:]))
	p.To = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(b[2:]))
	p.Payload = b[header:]
}
