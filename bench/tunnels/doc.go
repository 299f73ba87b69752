// Package tunnels measures TCP through culvert's tunnels beside plain TCP on loopback.
//
//	plain      load ─────────────────────────────────────→ device
//	direct     load → user-node ───────────→ tunnel-node → device
//	relayed    load → user-node → super-node → tunnel-node → device
//
// Each of the five is a process, and all share the machine's cores; load and device are package load's.
//
// The nodes are tunnel.Manager with its guard, links, flows and pumps, carrier.TCP on their TCP port, and relay.Relay at
// the super-node. What is stood in for is the mesh around them: who is known to whom is fixed, and a TunnelRequest goes
// straight from node to node on a stream, signed and verified as ever.
//
// “on the link” are flows that are never promoted (PromoteAfter −1); otherwise a flow gets a connection of its own after a
// megabyte, as in the daemon, and the figure contains the beginning.
//
// A Crowd is many tunnels that stand at once. No process may have as many descriptors as both ends of ten thousand need, so that
// there are three user-nodes, the load and the device are processes, too, and all take orders (control.go). What the nodes hold is
// read after they have given back what they do not use, as the daemon does while it is idle.
package tunnels
