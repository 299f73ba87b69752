// Package quicconn makes streams between two nodes out of QUIC (RFC 9000) on a UDP socket, as net.Conn: the first stream of a
// connection carries a link, the further ones carry its flows' own connections.
//
// # A connection
//
//	bidirectional stream 0    the link; opened by the dialler, who speaks first
//	bidirectional stream 4n   a flow's own connection, from its preface on; opened by the dialler alone
//	unidirectional streams, datagrams, 0-RTT, tickets, tokens     none
//
// TLS within QUIC is configured by the caller, and is the link's: the exporter of that one TLS connection keys everything.
// The caller names the address that he dials or expects; a connection from anywhere else, or that nobody waits for, gets no
// certificate. Which datagrams come as far as this package at all the Socket decides.
//
// # Ends
//
// Closing a further stream delivers what was written to it; where a write is still under way the stream is reset instead.
// Closing the first stream ends the connection: what was written is given lingerFor to arrive, and the other side's own
// closing ends the wait. Close itself does not wait. A connection that ends takes all its streams with it, with an error: the
// streams' users end their directions by their own signs, never by the mere end of a stream. The dialler's NAT may give it another
// port later on; where it does so within the handshake's last round trip the connection is stuck, and the link's watch ends it.
//
// # Numbers
//
// A connection lets the peer send 256 KiB ahead, 128 KiB of them in one stream; where the reader keeps up, the windows grow to
// 8 and 4 MiB, enough for 600 Mbit/s over 50 ms. That is also the most that a peer can have this side hold, since nothing is
// kept beyond the windows. Packets are 1,350 bytes long at most and never searched for a longer size, so that they fit the
// 1,500 bytes of a path with a tunnel in it, and the shared socket's reader. A handshake has 5 seconds, and a connection ends
// after 75 without a packet: links ask each other more often. QUIC's own keep-alive is off.
package quicconn
