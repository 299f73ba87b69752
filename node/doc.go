// Package node is the daemon: it wires the roles of this computer to one UDP socket, one TCP listener and one database, for
// one or many memberships.
//
//	node.go        New, Run: what a node has, in which order it starts and stops
//	loop.go        the socket loop: datagrams in, datagrams out, in batches
//	dispatch.go    command → handler; what may wait for a disk goes to the pool
//	caller.go      ask another node and wait for the answer
//	mesh.go        one operator's mesh: trust, partition map, revocations, known certificates
//	membership.go  one domain: keys, certificate, secrets; memberships/DOMAIN/ on disk
//	renew.go       renewal in time; announce.go: NodeInfo; homes.go: the super-nodes that can reach this node
//	refresh.go     map and revocations, every 5 s while a tunnel is open
//	resolve.go     device names and tunnel-nodes, from the DHT; locate.go: where this node is
//	signal.go      asking a tunnel-node for a tunnel; forward.go: the super-node's part in it
//	supernode.go   volunteering and serving; extension.go: how the operator plugs in
//	backend.go     what the local API shows and does
//
// A packet's way: carrier.Conn.ReadBatch → endpoint.Receive (decrypt, signature, replay, time) → protocol.Verified →
// dispatch → handler → reply bytes → endpoint.Reply → WriteBatch. An app's way: localapi → Backend → tunnel.Manager.Open →
// Resolver (signed record) → guard → race over routes.
package node
