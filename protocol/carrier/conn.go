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
