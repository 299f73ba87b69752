// Package socks is a SOCKS5 server for this machine's programs: it leads to registered devices by name, and nowhere else.
//
// # On the wire (RFC 1928, RFC 1929; numbers are bytes, n is the length of what follows)
//
//	client: 5 n METHOD…                   server: 5 METHOD         0 none, 2 user and password, 255 none of these
//	client: 1 n USER n PASSWORD           server: 1 STATUS         only after method 2; 0 right, 1 wrong
//	client: 5 COMMAND 0 TYPE ADDRESS PORT server: 5 REPLY 0 1 0.0.0.0 0
//	        TYPE 1: 4 bytes, 3: n NAME, 4: 16 bytes; PORT: 2 bytes, big-endian
//
// After reply 0 the connection is the device's, half-closes included. The address in a reply is always 0.0.0.0:0: the
// connection to the device begins at its tunnel-node, whose addresses are nobody's business here.
//
// # What is answered
//
//	CONNECT   to DEVICE.culvert, DEVICE.DOMAIN.culvert or DEVICE@DOMAIN, in any case, with or without a last dot
//	reply 2   not allowed: every address, every other name, and what the mesh forbids
//	reply 7   another command than CONNECT
//	reply 8   another TYPE
//	reply 1   the rest: a bound of this server, a stopping agent, what the mapping of Config.Reply says
//
// A name is looked up among the registered devices and handed to no resolver. Where user and password are set, only
// method 2 is taken; where not, only method 0. Whoever speaks something else is closed without an answer, and counted.
//
// # Tunnels
//
// All connections to one port of one name share a tunnel, which the first one opens and which is closed when none has
// used it for Config.Idle. When the agent's user closes it before, the next connection opens it anew. There are at most
// Config.Tunnels of them and Config.Connections connections; one more of these is closed, one more of those evicts an
// unused one or is answered with 1. A handshake may take Config.Handshake; it buffers at most 257 bytes.
package socks
