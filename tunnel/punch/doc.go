// Package punch finds a pair of UDP addresses that carries both ways between two nodes whose NATs let nothing in unasked.
//
// Both nodes know one TunnelRequest: its Token, from which the keys of the punch packets come (package protocol draws them),
// and each other's UDP candidates and Punch hint. The tunnel-node starts when the request arrives, the requester when it
// sends it (at what is announced of the tunnel-node) and in full when the answer arrives. A meeting ends in one Path,
// over which the requester dials QUIC, or in an error that says in words what the NATs did.
//
//	Machine   decides: Step(now, event) → Actions. No I/O, clock, goroutine, or randomness but its seed.
//	Meetings  carries: the node's one socket (socket 0), further ones (1, 2, …) for as long as a meeting needs them
//
// # A path
//
// A path is a socket of ours and an address of theirs. It is heard when a valid packet has come over it, and proven when one
// came that echoes a serial which was sent over this same path in the last 3 s. Serials are MACs over path and time under a
// secret of the machine, so a proof needs no memory: neither a stranger's replay from elsewhere nor a peer that forges
// its source address proves a path. Every packet that asks is answered at once to where it came from, which is how a
// source port that nobody announced (a symmetric NAT's) becomes a path.
//
// The requester waits 30 ms from the first proof, chooses the best (announced before others, then local, then IPv6,
// then the shortest round trip) and says so on that path until the tunnel-node confirms; the tunnel-node follows one path and
// no other. Nobody returns a path before it is proven from its own side.
//
// # What is tried
//
//	mappings (RFC 4787)            socket 0 of both                      besides
//	independent × independent      every candidate, each 50 ms, 5 s      –
//	random × independent           the same                              birthday after 250 ms
//	sequential × independent       the same                              prediction after 100 ms, birthday 1.2 s later
//	unknown × random, sequential   the same                              as if unknown were independent
//	unknown × independent          the same                              birthday after 1 s, as if unknown were random
//	sequential × sequential        the same, 1.5 s                       prediction by both
//	random × random, sequential    IPv6 and local ones, 1 s              nothing: fails at once where there are none
//
// Birthday: the hard side opens 256 sockets that each send to the easy side's outside address, so that its NAT has 256 ports
// that let the easy side in; the easy side sends from its one socket to random ports until it meets one. Prediction: 16
// sockets, and the 64 ports that should come next. Why these numbers: limits.go.
//
// Private candidates are sent to only where the peer shares a location. Never loopback, link-local, multicast or broadcast.
//
// Measured on the in-memory internet by TestTable (go test -v), and on real NATs by bench/netlab.
package punch
