// Package node is the daemon: it wires the roles of this computer to one UDP socket, one TCP listener and one database, for
// one or many memberships.
//
//	node.go        New, Run: what a node has, in which order it starts and stops; tasks.go: who waits for whom
//	loop.go        the socket loop: datagrams in, datagrams out, in batches
//	dispatch.go    command → handler; what may wait for a disk goes to pool.go
//	caller.go      ask another node and wait for the answer; clock.go: the operator's time, kept over restarts
//	mesh.go        one operator's mesh: trust, partition map, revocations
//	membership.go  one domain: keys, certificate, secrets; memberships/DOMAIN/ on disk
//	enrolment.go   joining and leaving; installer.go: joining by a token that an installer left; lifecycle.go: its loops
//	renew.go       renewal in time; refresh.go: map and revocations, every 5 s while a tunnel is open
//	supernode.go   volunteering and serving; extension.go: how the operator plugs in; gather.go: what it asks super-nodes for
//
// Where this node is, and how others reach it:
//
//	locate.go      its networks and locations; families.go: IPv4, IPv6 or both
//	announce.go    NodeInfo; candidates.go: the addresses in it
//	homes.go       the super-nodes that can reach this node; keeper.go: whether it is one of those at its location that have any
//	mapped.go      ports that routers open (package portmap)
//	nat.go         when the NAT is measured, and what came of it (package nat); natservers.go: with whose help; natdrive.go: the
//	               I/O of package nat's machines; natkeepalive.go: how long a binding lasts
//	stun.go        answering STUN; probereach.go: reaching whoever asks for it; askreach.go: asking for it
//	netcheck.go    all that for people
//
// How messages travel:
//
//	streams.go     messages by stream: who may open one, ports 443 and 80
//	carriers.go    whether UDP passes, and what stands in for it
//	ways.go        by which ways a super-node is reached by stream, as carrier of messages and as relay
//
// Tunnels (package tunnel):
//
//	tunnels.go     tunnels and relay on this node's port, consent, lasting tunnels
//	resolve.go     device names and tunnel-nodes, from the DHT; certify.go: certificates
//	request.go     asking a tunnel-node for a tunnel; signal.go: what else goes before a link; forward.go: the super-node's part
//	offer.go       this node's part of a meeting by UDP; punch.go: the meeting (package punch)
//	socks.go       devices by name for programs that speak SOCKS5
//
// The local API: backend.go shows and does; receipts.go: what tunnels went through; explain.go: errors for people; events.go;
// stats.go. trim.go gives memory back while nothing is to be done.
//
// A packet's way: carrier.Conn.ReadBatch → endpoint.Receive (decrypt, signature, replay, time) → protocol.Verified →
// dispatch → handler → reply bytes → endpoint.Reply → WriteBatch. An app's way: localapi → Backend → tunnel.Manager.Open →
// Resolver (signed record) → guard → race over routes.
//
// Every queue is bounded: the socket's buffer, the pool's, a stream's, the calls under way. When more comes than is handled, what
// costs least to refuse goes first:
//
//	1  STUN and whatever else is answered to anybody: dropped
//	2  signed messages of who has no cookie, openings of sessions among them: asked for one, before any public-key work
//	3  Puts of a node or domain past its rate, and what a full pool has no room for: Busy or a refusal, before any signature
//	4  messages in a session that are answered from memory: never here, only by the kernel when the socket's buffer is full
package node
