// Package node is the daemon: it wires the roles of this computer to one UDP socket, one TCP listener and one database, for
// one or many memberships.
//
//	node.go        New, Run: what a node has, in which order it starts and stops; tasks.go: who waits for whom
//	loop.go        the socket loop: datagrams in, datagrams out, in batches
//	streams.go     messages by stream: who may open one, ports 443 and 80; carriers.go: whether UDP passes, and what stands in for
//	               it; ways.go: by which ways a super-node is reached by stream, as carrier of messages and as relay
//	dispatch.go    command → handler; what may wait for a disk goes to pool.go
//	caller.go      ask another node and wait for the answer
//	mesh.go        one operator's mesh: trust, partition map, revocations
//	membership.go  one domain: keys, certificate, secrets; memberships/DOMAIN/ on disk
//	enrolment.go   joining and leaving; installer.go: joining by a token that an installer left; lifecycle.go: its loops
//	renew.go       renewal in time; announce.go: NodeInfo; homes.go: the super-nodes that can reach this node
//	refresh.go     map and revocations, every 5 s while a tunnel is open
//	resolve.go     device names and tunnel-nodes, from the DHT; certify.go: certificates; locate.go: where this node is
//	signal.go      asking a tunnel-node for a tunnel; forward.go: the super-node's part in it
//	supernode.go   volunteering and serving; extension.go: how the operator plugs in
//	tunnels.go     tunnels and relay on this node's port, consent, lasting tunnels
//	socks.go       devices by name for programs that speak SOCKS5
//	backend.go     what the local API shows and does; explain.go: errors for people; events.go; stats.go
//
// A packet's way: carrier.Conn.ReadBatch → endpoint.Receive (decrypt, signature, replay, time) → protocol.Verified →
// dispatch → handler → reply bytes → endpoint.Reply → WriteBatch. An app's way: localapi → Backend → tunnel.Manager.Open →
// Resolver (signed record) → guard → race over routes.
package node
