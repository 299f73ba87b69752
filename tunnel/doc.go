// Package tunnel opens tunnels for this machine's programs and serves those of other nodes, in all of its memberships.
//
// # A tunnel's way
//
//	program → local port → flow in a link → tunnel-node: guard → device
//
// Manager.Open resolves the device's operator-signed record, races the routes to the tunnel-nodes announced for it, and
// returns when the device has answered once. From then on each connection to the local port is one flow in a living link
// (package link); no handshake and no round trip comes before its first byte.
//
// Routes, best first:
//
//	lan      this node reaches the device itself; or the tunnel-node is at the same location, dialled by its private address
//	direct   an open TCP port at either end, dialled by the other
//	mapped   the same, where the port is open because a router was asked to map it (a candidate of kind mapped)
//	punched  UDP through the NATs of both ends, and QUIC over it (packages punch and quicconn)
//	relayed  both ends dial a super-node, which joins them (package relay)
//
// # What a link rests on
//
// The user's side sends a signed TunnelRequest for each attempt; the tunnel side checks it against certificate, revocation
// and its own copy of the device's record, and notes its SHA-256 for thirty seconds. The HELLO that opens the link names that
// hash, and the first one spends it; a replay meets nothing. Every flow is then judged anew, by the certificate and the
// records of that moment: what a link was asked for gives no right to another port.
//
// # A meeting by UDP
//
// The requester's TunnelRequest says Punch.Wanted, with its UDP candidates and a fresh token; the answer brings those of the
// tunnel-node, which starts to send at once. Nobody else can read the token, super-nodes that hand the request on neither, so
// that the keys of the punch packets belong to these two. Yet nothing is believed for having met: over the path the requester
// dials QUIC, in which TLS proves both keys as everywhere, and the HELLO spends the request. The tunnel-node lets a connection
// start from the one address that the meeting has proven, for some seconds, while it waits there; it shows its certificate to
// nobody else. A request that comes again by another super-node has no second meeting. Candidates of another node are sent to
// only where they are public, belong to a shared location, or lie on a link of this machine.
//
// An openly reachable UDP port at either end needs nothing else: the first packet arrives. After that the path lives by the
// link's own PINGs, at the latest after 25 s; a NAT that moves the requester to another port does not end the connection.
//
// # The guard
//
// Check is a pure function of record, requester, port, consent list and the place where the device was found. A tunnel
// reaches a registered port of a registered device: on the link by MAC, or at the record's fixed address if the device's
// TLS key is pinned or the agent's list names it; never this machine, loopback, link-local, multicast, unspecified or
// broadcast addresses, in whatever IPv6 disguise. One exception: a device registered for this very node, at 127.0.0.1, if
// the list names the port. A list with entries narrows everything to what it names; an empty one narrows nothing but what
// wants an entry anyway. A pinned device proves its key to the tunnel-node before a byte of payload goes there.
//
// # Better ways
//
// All routes are tried at once, what costs little a moment before what costs more (race.go). The first that works is taken,
// mostly the relay; better ones go on behind it for up to eight seconds, and each that comes up is taken for later connections,
// also by the other tunnels to the same node. Running connections stay where they are. The device is asked once in a race, by
// whoever comes first: many serve one connection at a time.
//
// Afterwards better routes are looked for after 5 s, doubling to 10 min; when a connection is opened, if the last look is 2 s
// ago, doubling to 5 min; and at once when this machine's networks change (NetworkChanged), when this node (Announced) or the
// other (NEWS on the link) can be reached in other ways than before, and when the way in use was lost.
//
// # Lost ways
//
// A link that ends, or leaves a PING unanswered for a while, is no way for new connections: another living link to a node of the
// device is taken, else a race is run, on what is remembered where the mesh does not answer in a moment. Connections on a link
// that is dead are reset within five seconds. Both ends of a link in use ask, so that a NAT that lost its table is opened from
// the inside, and a node that is an end of a tunnel, or just was (Busy), keeps in contact with its super-nodes every two
// seconds. So each of these is over within five seconds: relay gone, router started anew with another address, NAT table
// flushed, machine moved to another network.
//
// # UDP ports
//
// Each local address that sends to a tunnel of a UDP port has a flow of its own, whose datagrams (DATAGRAM) ride the link by
// every route, until none has gone either way for two minutes. The tunnel-node judges it like a TCP one and sends from a
// connected socket; a pinned device cannot prove its key there, so that its UDP ports want the agent's consent. Nothing waits
// for a datagram, and nothing answers for a port: the tunnel counts as open when the tunnel-node has agreed. ICMP's refusal
// ends the flow with ErrDeviceRefused.
//
// # Whom this node dials
//
// Devices past the guard; tunnel-nodes at candidates of their signed NodeInfo or answer (private ones only at a shared
// location); super-nodes of the operator-signed map; requesters at public addresses only, by UDP also on a common link. No
// address is taken from anybody whom a certificate does not vouch for.
//
// Devices that refuse, do not answer or are not found are told apart from routes that do not work: ErrDeviceRefused,
// ErrDeviceTimeout, …, against *NoRouteError, both with a receipt of what was tried.
//
// # The files
//
// The user's side:
//
//	open.go        opening, with or without a local port (carry.go); tunnels that last; tunnel.go: what a tunnel is
//	conns.go       connections to the local port; carry.go: those that others accept; datagrams.go: UDP ports; pump.go
//	run.go         a race with its goroutines; race.go: who starts when and who has won; receipt.go: what is told of it
//	attempt.go     one attempt: byaddress.go (lan, direct, mapped), byrelay.go, punched.go (at both ends); links.go: one link
//	               for all who want it
//	way.go         the tunnel's way: taken, bettered, lost; search.go: when a better one is looked for; network.go: what makes
//	               everything looked at anew; resolve.go: what is remembered of the mesh's answers
//
// The tunnel side:
//
//	serve.go       requests, and links that they allow; accept.go: links that come
//	serveflow.go   flows that come on links; servedatagrams.go: those of UDP ports
//	guard.go       what may be reached; device.go: reaching it
//
// Both: manager.go; iface.go and puncher.go: what is asked of others; patience.go: time limits that cost nothing while nobody
// waits; candidates.go; errors.go; counters.go.
package tunnel
