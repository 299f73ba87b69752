// Package relay joins two nodes that cannot reach each other, and moves their bytes without being able to read them.
//
// Each of the two opens a TCP connection to the super-node and says
//
//	08 | length 2 | signed message RelayJoin{token 32, peer ID, Node record}
//
// When both are there, each gets one byte 01, and from then on what one sends the other receives, until both directions have
// ended. The first comer waits ten seconds at most. A refusal is a closed connection, counted by its reason.
//
// Two joins fit when their tokens are equal, each names the other's sender as its peer, and both senders are of one domain.
// A token joins once. Both messages are signed, fresh and addressed to this super-node (Verify's part), so that a token
// overheard is worth nothing, and a stranger gets not one byte through.
//
// What passes is a link of package link or a flow's own connection: TLS 1.3 or AES-GCM records between the two ends. A direction
// that has moved some megabytes is spliced by the kernel (Linux), in pieces that are counted before they move, so that limits of
// bytes and rates hold to the byte; the last bytes of an allowance pass through user space, and so does everything under a rate
// so low that pieces would be small. A direction that slows down goes back to a small buffer, because a splice holds a pipe:
// two descriptors and up to half a megabyte. That is also all that a receiver who does not read makes this node hold for him, beside
// the kernel's buffers of the two connections: what is not taken from here is not taken from the sender.
package relay
