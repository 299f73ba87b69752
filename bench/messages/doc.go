// Package messages measures round trips of messages: a server in one process, its load in another, one UDP socket each on
// 127.0.0.1, with batches of up to 64: culvert through package carrier, its references through sockets of their own (package
// mmsg). The load keeps a window of requests under way and asks anew for every answer. Both sides are one loop, as in a node.
//
// References, to see what the machine gives:
//
//	plain UDP echo             200 bytes each way, no cipher
//	bare AES-256-GCM echo      200 bytes: index 8 ‖ counter 8 ‖ ciphertext ‖ tag; each side opens and seals, and nothing else
//	bare Ed25519+X25519 echo   276 bytes: ephemeral key 32 ‖ ciphertext ‖ tag 16 ‖ signature 64, sealed to the other side's key
//
// One more cell is the sealed echo through culvert's sockets: beside it stands what the protocol costs by itself, and between the two
// echoes what the sockets bring. With one peer, where the kernel segments, the references are through culvert's sockets as well.
//
// culvert, the same packages as in the daemon: endpoint, the handlers and their bytes; Ping as node answers it, lookups by
// dht.Server from a SQLite store. What a lookup returns is compared with what was asked for; the signature in a
// record is not checked by the load, which is the reader's work and not the server's.
//
// “1,000 peers” are 1,000 identities with a key and a session of their own, used in turn behind the load's one socket,
// so that the load's system calls are the same in every cell. Real ones have an address each, which the kernel could not join
// to segments; so segmentation (carrier's UDP.Segment) is off on both sides in these cells, for the bare echo as well. In the
// cells with one peer it is on for both. The server's loop is the node's in shape (node's loop.go and dispatch.go, without STUN,
// QUIC and streams): the whole of node needs a domain and a disk. The limits that protect a node from strangers (public-key
// operations and handshakes a second) are raised; nothing is switched off.
package messages
