// Command scale is a model of meshes of 10^3 to 10^6 nodes: no sockets, sampled users, the real code where that decides.
//
//	make scale            builds bin/culvert for its version, then go run ./bench/scale -bin bin/culvert: two to three minutes
//
// It writes bench/results/scale-DATE.json with all numbers, and a folder of that name with the plots. A seed gives the same
// numbers again, whatever the machine.
//
// # What is the real code
//
//   - Who serves what: the planner of package partition, minute by minute while super-nodes come and go.
//   - Lookups: dht.Lookup with dht.Scores, for sampled users who remember super-nodes from one lookup to the next. The members'
//     answers, loss and delay are made here, on a virtual clock.
//   - Bytes: the encoders of package protocol, for records of usual length, with 28 bytes of IPv4 and UDP for each datagram.
//   - The largest map that a reader takes in: found by feeding dht.Lookup with pages.
//   - Intervals and counts: exported ones directly, the others compared with the source by a test.
//
// # What is counted by formulas
//
// Everything periodic: announcements, pings of homes, questions for the map and for revocations, digests, probes, and how they
// multiply. A message is a datagram one way; a question and its answer are two. Which of a range's members are asked is
// computed exactly (the own domain's first, the others alike), and a test compares it with where the real lookup went.
//
// # What is assumed
//
// All of it is in assumptions, which every result carries.
//
//   - Nodes are those that run now. One in 50 is a super-node with 75 connections.
//   - A super-node stays 8 h, exponentially: a median of 5.5 h, as Guha, Daswani and Jain found for Skype's (IPTPS 2006).
//     That is hard on this mesh: Bremler-Barr and Goldschmidt found lives of days to months (TMA 2011). It goes without a
//     word and stays on the map until it has missed three probes.
//   - Domains are of Pareto sizes, 80 % of the nodes in a fifth of them, at least 8 nodes, at most one node in 20 of all.
//   - 1,000 lookups a node and day, a tenth of them after what does not exist: a node that is off, a name mistyped. 40 %
//     NodeInfo, 40 % tunnel-nodes of a place, 20 % devices.
//   - 1 % of the datagrams are lost each way; round trips are log-normal about 30 ms. 0 to 30 % are tried, too.
//   - 20 tunnels a node and working day, 5 minutes each, 20 % of them relayed: published shares of relayed WebRTC calls are 15
//     to 22 %. 3 % of the nodes have no UDP.
//   - Nothing happens all at once: the model has no offices that close at six. Loss of half the mesh is for the simulation.
package main
