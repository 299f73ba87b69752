// Package carrier brings bytes from node to node and knows nothing of what they say.
//
// A node has one port number, used twice:
//
//	UDP   one socket for everything, told apart by a datagram's first byte (Classify)
//	      0x00–0x03 STUN | 0x04–0x0f culvert messages | 0x40–0xff QUIC | else dropped
//	TCP   one listener for everything, told apart by a connection's first byte (TCP)
//	      0x16 TLS, where ALPN names the handler | other registered bytes: raw handlers
//
// UDP implements Conn with batches. On Linux a batch is one recvmmsg or sendmmsg call on socket
// addresses and vectors that live as long as the socket: golang.org/x/net's ReadBatch allocates two
// objects a packet for its net.Addr (see BenchmarkReadBatch), this path allocates nothing.
// Where the kernel segments (UDP_SEGMENT, UDP_GRO), datagrams of one length to one address go to it
// as one piece, and those that came in a row come from it as one. It is told apart at run time, and
// stops by itself where a device refuses. A reader notices nothing: each datagram is handed out by
// itself, and one that is longer than its buffer is dropped and counted.
// Elsewhere, and where the kernel refuses these calls, a batch is a loop over single packets. What
// Classify calls QUIC goes to a Lane, which QUIC takes for a socket of its own.
//
// Addresses are never IPv4-mapped: an IPv4 peer is an IPv4 address also on a dual-stack socket.
// The one exception are the addresses that Mux makes up, see below.
//
// # Where UDP does not pass
//
// Datagrams then travel on a stream, as frames:
//
//	frame       length 2 ‖ datagram of that many bytes, at most 1,200
//	keep-alive  00 00
//
// The side that dialled sends a keep-alive after 20 s without a frame, and is answered with one;
// it gives the stream up after 50 s without hearing anything, and when it has had no datagram to
// send for two minutes. The side that accepted gives a stream 20 s to bring a datagram that proves
// authentic (Mux.Confirm), and 150 s from each to the next. A longer frame ends the stream. Each
// side queues at most 128 datagrams for a stream and drops the oldest, like the network would.
//
// A stream is what passes through the firewall at hand (Way):
//
//	TLS 1.3 with the ALPN "culvert/messages/1"
//	WebSocket (RFC 6455) by GET /culvert/messages/1, over TLS or, on port 80, without:
//	          its binary messages are a byte stream, an empty one is the end of a direction
//
// each also through a proxy by HTTP CONNECT (RFC 9110 9.3.6). Who answers is not verified: what
// travels is signed and sealed by itself. The same ways, with "culvert/relay/1" for the name, lead
// to a relay; there the bytes are those of the TCP connection that they stand for.
//
// Mux joins streams and socket to one Conn. A datagram that came on an accepted stream has the
// address of the TCP peer in IPv6 form, with a zone that names the stream, such as
// [::ffff:192.0.2.1%stream/7]:40000. It can be no UDP peer's, an answer finds the stream by it, and
// without the zone it is the peer's host. A datagram that came on a stream which this side dialled
// has the UDP address for which the stream stands, so that nobody above needs to know.
//
// Chooser decides when streams stand in for UDP, Memory keeps which ways this network lets through.
//
// # Words
//
//	carrier  what messages travel by: UDP, or streams
//	stream   a connection that is laid so as to pass a firewall, for a service: messages, or a relay
//	way      a form, an address, and whether by the proxy: how one stream may be opened
//	detour   the stream that stands in for the UDP address of one peer
//	lane     QUIC's part of the UDP socket; it has nothing to do with streams in this sense
package carrier
