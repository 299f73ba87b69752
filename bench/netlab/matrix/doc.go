// Package matrix opens tunnels between sites of every kind, in every ordered
// pair, and judges by which route and how soon they come up.
//
// One user's site and one device's site stand for each kind, so that a kind
// meets itself too; each has one agent, which runs as nobody, and a device's
// site has a device that echoes TCP. Super-nodes and the operator stand openly,
// with IPv4 and IPv6. Everything stays up for the whole run:
//
//	round:  for each batch, which pairs every user's site with one device's site
//	        (in as many batches as there are kinds all ordered pairs are met)
//	batch:  all routers forget all flows; wait until the super-nodes have heard
//	        of every agent again; then its pairs, a few at a time
//	pair:   culvert open → connect → first byte echoed → wait until tunnels --json
//	        names the expected route → another connection, 256 KB echoed → close
//
// Times count from the start of the open command, so the start of a process is
// in them.
//
// # The route to expect
//
// It follows from the two kinds alone; the first line that fits:
//
//	direct   one end's TCP port is open to everybody, and the other end may dial
//	         any port in a family of addresses that both have
//	mapped   one end's router opens a port on request (IPv4), and the other end
//	         may dial any port
//	punched  UDP passes at both ends in a family that both have, and both map
//	         independently of the endpoint; or one does, and the other's next port
//	         can be foreseen (sequential) or met among many (random)
//	relayed  everything else: symmetric × symmetric, whoever may dial port 443 only
//	         or only a proxy, no family in common
//
// A carrier's NAT before a home's NAT counts as independent of the endpoint. In
// IPv6 nothing is translated: a firewall that lets in answers is like a NAT of
// that kind.
//
// # What is demanded
//
// Every tunnel comes up. Two endpoint-independent ends are punched in 2 s, and
// one symmetric side is in 95% of the runs; what is to be mapped is mapped, by
// each protocol alone; a tunnel is relayed only where nothing else can be. The
// first byte comes within 1 s in 95% of all runs, and the best route is in use
// 3 s after it could be. netcheck names each kind.
package matrix
