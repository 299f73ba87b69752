// Package nat finds out what stands between this machine and the internet: whether UDP passes, at which outside addresses this
// machine is seen, how the NAT maps and filters, and what of that could be better.
//
// # STUN (RFC 8489)
//
// Super-nodes answer Binding requests on their message port. A request of ours, 96 bytes:
//
//	header 20 | PADDING (RFC 5780) 4 + 64 | FINGERPRINT 8
//
// The answer is never longer than the request, so that nobody is flooded by way of a forged source:
//
//	header 20 | XOR-MAPPED-ADDRESS 12 or 24 | RESPONSE-ORIGIN 12 or 24 | SOFTWARE 12 | FINGERPRINT 8
//
// From a shorter request SOFTWARE, then RESPONSE-ORIGIN, then FINGERPRINT are left out; where not even the first attribute
// fits there is silence. So there is for whatever else this server does not understand: CHANGE-REQUEST above all, which a
// client would take for answered from another address. A client believes an answer to a transaction ID of its own from the
// address that it asked.
//
// # Measuring
//
// [Measure] is a step machine: it is told the time and what happened, and says what to do. It uses the node's own socket, whose
// outside address others are to be told, and for each address family three fresh ones, on which nothing has been sent before:
//
//	fresh 0   asks one server; then servers that it has not written to are asked to send a reach probe to it, and the one
//	          that it has written to is asked for one from another port: what arrives is what the NAT lets in (RFC 4787, 5)
//	fresh 1, 2  ask every server, 10 ms apart: one port for all is mapping independent of the endpoint (RFC 4787, 4.1), another
//	          one for each, in even steps, is a sequence that can be foreseen
//
// Then fresh 1 and 2 send to each other's outside address (hairpinning). On Linux the second hop of the way out is asked for by
// a datagram that lives for two hops: a private or shared (RFC 6598) address there is a second NAT, the carrier's.
//
// Servers are super-nodes, and not trusted. An outside address counts when two servers agree on its host, or an operator says
// so, or nobody else could be asked; a server that contradicts all others is outvoted, and one that contradicts the only other
// leaves the class unknown. Nothing is ever sent to an address that a single untrusted server named.
//
// [Prober] finds for how long a binding may be silent, between 15 s and 120 s: a fresh socket exchanges two datagrams with a
// server, is silent, and the server is then asked for a reach probe.
//
// [SiteOf], [Advice] and [Routes] say in people's words what the [Report] means. They and the machines are pure; only
// [Hop] does I/O.
package nat
