// Package echo is what the machine gives without culvert: UDP echoes with as little around them as there can be, by each way of
// reading and writing sockets, with each kind of work on a datagram.
//
//	ways    one system call a packet · recvmmsg and sendmmsg, 64 at most · UDP GSO and GRO, 64 segments a datagram of the kernel's
//	work    none · AES-256-GCM opened and sealed · Ed25519 verified and signed · a point SELECT from SQLite (modernc)
//
// A datagram has 200 bytes and is answered in the buffer it came in. Server and load are a process and a loop each and do the same:
// the load opens, checks and seals as much as the server. The load keeps a window of requests under way and asks anew for every
// answer. What does not open or is not what was asked for is an error and ends the run.
//
// The same load asks other servers (package peers), in their own format.
package echo
