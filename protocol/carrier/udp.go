package carrier

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
)

// socketBuffer holds a burst of some 10,000 short messages while the reader is scheduled away. The
// kernel clamps it to what the administrator allows.
const socketBuffer = 4 << 20

// UDP is the one UDP socket of a node.
type UDP struct {
	sock  *net.UDPConn
	local netip.AddrPort
	io    batcher
	drops *udpDrops

	closing  sync.Once
	closeErr error
}

var _ Conn = (*UDP)(nil)

// batcher is the platform's way to move several datagrams.
type batcher interface {
	read([]Message) (int, error)
	write([]Message) (int, error)
	segment(on bool)
}

// udpDrops counts what never reached the caller or the network.
type udpDrops struct {
	oversize   atomic.Uint64 // longer than the reader's buffer
	unsendable atomic.Uint64 // refused by the kernel for one message
	readErrors atomic.Uint64 // passing errors of the socket, such as one caused by ICMP
}

// ListenUDP opens a socket at addr. An invalid or :: address means every address of both families
// (of IPv4 alone where the machine has no IPv6), 0.0.0.0 every IPv4 address; port 0 takes any free one.
func ListenUDP(addr netip.AddrPort) (*UDP, error) {
	var lc net.ListenConfig
	pc, err := lc.ListenPacket(context.Background(), network("udp", addr.Addr()), literal(addr))
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	sock := pc.(*net.UDPConn)
	enlargeBuffers(sock)
	u := &UDP{sock: sock, drops: new(udpDrops)}
	local := sock.LocalAddr().(*net.UDPAddr).AddrPort()
	u.local = netip.AddrPortFrom(local.Addr().Unmap(), local.Port())
	u.io = newBatcher(sock, u.drops)
	return u, nil
}

// ReadBatch implements Conn.
func (u *UDP) ReadBatch(ms []Message) (int, error) {
	if len(ms) == 0 {
		return 0, nil
	}
	return u.io.read(ms)
}

// WriteBatch implements Conn.
func (u *UDP) WriteBatch(ms []Message) (int, error) { return u.io.write(ms) }

// Segment says whether datagrams to one address may travel as one piece as far as the kernel, which is so from the start where
// the kernel can. It must not be called once reading has begun.
func (u *UDP) Segment(on bool) { u.io.segment(on) }

// LocalAddr implements Conn.
func (u *UDP) LocalAddr() netip.AddrPort { return u.local }

// Close implements Conn.
func (u *UDP) Close() error {
	u.closing.Do(func() { u.closeErr = u.sock.Close() })
	return u.closeErr
}

// Socket is the socket itself, for a QUIC transport that shares it. It stays owned by u.
func (u *UDP) Socket() *net.UDPConn { return u.sock }

// Stats counts datagrams that were lost here, by reason.
func (u *UDP) Stats() map[string]uint64 {
	return map[string]uint64{
		"oversize":   u.drops.oversize.Load(),
		"unsendable": u.drops.unsendable.Load(),
		"read error": u.drops.readErrors.Load(),
	}
}

// network picks the socket family: net's plain "udp" and "tcp" take 0.0.0.0 for both families.
func network(proto string, a netip.Addr) string {
	if a.Unmap().Is4() {
		return proto + "4"
	}
	if a.IsValid() && !a.IsUnspecified() {
		return proto + "6"
	}
	return proto
}

func literal(a netip.AddrPort) string {
	if !a.Addr().IsValid() || a.Addr() == netip.IPv6Unspecified() {
		return fmt.Sprintf(":%d", a.Port())
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()).String()
}
