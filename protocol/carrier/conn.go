// Package carrier brings bytes from node to node and knows nothing of what they say.
//
// A node has one port number, used twice:
//
//	UDP   one socket for everything, told apart by a datagram's first byte (Classify)
//	      0x00–0x03 STUN | 0x04–0x0f culvert messages | 0x40–0xff QUIC | else dropped
//	TCP   one listener for everything, told apart by a connection's first byte (Streams)
//	      0x16 TLS, where ALPN names the handler | other registered bytes: raw handlers
//
// UDP implements Conn with batches. On Linux a batch is one recvmmsg or sendmmsg call on socket
// addresses and vectors that live as long as the socket: golang.org/x/net's ReadBatch allocates two
// objects a packet for its net.Addr (see BenchmarkReadBatch), this path allocates nothing.
// Elsewhere, and where the kernel refuses these calls, a batch is a loop over single packets.
//
// Addresses are never IPv4-mapped: an IPv4 peer is an IPv4 address also on a dual-stack socket.
package carrier

import "net/netip"

// Message is one datagram. For ReadBatch the caller provides Buf; Addr and N are filled in. For
// WriteBatch Buf[:N] is sent to Addr.
type Message struct {
	Addr netip.AddrPort
	Buf  []byte
	N    int
}

// Conn carries datagrams. It is safe for concurrent use, and allocates nothing per packet.
type Conn interface {
	// ReadBatch blocks until at least one datagram is there and returns how many messages, from the
	// front, were filled. A datagram longer than its Buf is dropped and counted, and where the
	// system cuts without telling also one that just fills it. An error is final; after Close it is
	// net.ErrClosed. ReadBatch may swap elements of ms.
	ReadBatch(ms []Message) (int, error)
	// WriteBatch hands all messages to the network and returns how many it took. A message that
	// the network refuses (no route, no such family, too long) is lost and counted like any other
	// lost datagram. An error is final; after Close it is net.ErrClosed.
	WriteBatch(ms []Message) (int, error)
	// LocalAddr is the bound address, with the port that was really taken.
	LocalAddr() netip.AddrPort
	// Close is idempotent and makes blocked calls return.
	Close() error
}
