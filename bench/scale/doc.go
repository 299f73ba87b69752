// Command scale is a model of meshes of 10^3 to 10^6 nodes: no sockets, sampled users, the real code where that decides.
//
//	make scale            builds bin/culvert for its version, then go run ./bench/scale -bin bin/culvert: about a minute of
//	                      one core
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
//     That is the harder case: Bremler-Barr and Goldschmidt found lives of days to months (TMA 2011). It goes without a
//     word, stays on the map until it has missed three rounds, and comes back after 16 h.
//   - Domains are of Pareto sizes, 80 % of the nodes in a fifth of them, at least 8 nodes, at most one node in 20 of all.
//   - 1,000 lookups a node and day, a tenth of them after what does not exist: a node that is off, a name mistyped. 40 %
//     NodeInfo, 40 % tunnel-nodes of a place, 20 % devices.
//   - 1 % of the datagrams are lost each way; round trips are log-normal about 30 ms. 0 to 30 % are tried, too.
//   - 20 tunnels a node and working day, 5 minutes each, 20 % of them relayed: published shares of relayed WebRTC calls are 15
//     to 22 %. 3 % of the nodes have no UDP.
//   - Nothing happens all at once: the model has no offices that close at six. Loss of half the mesh is for the simulation.
//   - What a range's newcomer fills it has filled by the operator's next round. Every message is one datagram; nothing is
//     counted twice for loss.
//
// # Designs
//
// "As built" is the code. "Passed on" and "recommended" are arithmetic about what could be built: super-nodes tell each other
// what all are to have instead of the operator telling each, there is one map a minute at most, and tables that are everywhere
// are compared with eight others; recommended further has a reader hold the ranges of its own domain only.
//
// # What it found (2026-11-28, seed 1; the numbers and plots are in bench/results)
//
// Lookups. 1,000 lookups a node and day make the operator's messages at 10^6 nodes 1.001 times what they are without (as
// recommended, where there are fewer others, 1.018; at 30 % loss each way 1.45). 0.3 % of the lookups come to the operator:
// nearly all are after what does not exist while one member of the range is silent, or after a node that stopped without a
// word. "Not found" needs every member, so a single silent one makes each such lookup wait through all waves and end unsure.
//
// The operator. 22 messages/s at 10^3 nodes, 250 at 10^4, 3,300 at 10^5, 237,000 at 10^6. Up to 30,000 nodes spies and
// probes are most of it. From there on it is the map: every change goes to every super-node, and both grow with the mesh, so
// the load grows with the square. 10^6 nodes are out of one operator's reach as built. Enrolments and renewals bring the whole
// map along: 4.6 MB/s at 10^6. Probes grow in proportion: 6,700/s at 10^6.
//
// Super-nodes. What they do for nodes is the same at every size, some 10 kB/s. But each compares digests of the tables that are
// everywhere with every other once in 50 s: 28 kB/s at 10^4 nodes, 265 kB/s at 10^5, 2.7 MB/s and 6,600 messages/s at 10^6.
//
// Readers. A reader takes in 768 entries of a map at once (256 pages of three). Changes of so many take 57 minutes at 10^5
// nodes and 4.7 at 10^6, about the time between two of its questions. Who was away for longer keeps an old map: from 38,000
// nodes on, every machine that was off overnight. A user's bytes are 165/s at 10^3 nodes and 2,650/s at 10^6, nearly
// all of it the map. Next come revocations, 95/s: asked for every 5 s during a tunnel, always signed and padded to 1,200 bytes.
//
// A member of a range carries its domains easily: 950 records, 1.7 questions/s in the mean, 1,860 and 7.7 at most, where a
// machine of two cores answers 110,000 lookups/s (bench/results). There are far more super-nodes on the map than ranges need.
//
// So ranges should be split for their load, not for the number of volunteers. With one node in 1,000 serving, the code as it
// is comes to 1,450 messages/s at the operator of 10^6 nodes and 256 bytes/s a user; the busiest member holds 24,000 records and
// is asked 102 times a second. Relays and homes are taken from the map, and would then have to be found otherwise: 1,041
// times 75 connections carry 39,000 relayed tunnels, fewer than the 42,000 wanted.
//
// Liars. Asking two of a range, the chance to ask a liar is 2, 9 to 11, 17 to 20, 34 to 36 % where 1, 5, 10, 20 % of all
// super-nodes lie. One customer never has more than a third of a range, whatever he volunteers, so that two never are both his,
// and no lookup ended wrong. Liars among many customers are both of the two for 1.2 % of the users at 10 % and 11.6 % at 33 %;
// then 0.2 and 1.8 % of the lookups end with an older record, and at 33 % another 0.8 % with "not found". Asking more than two at once would not change the
// wrong answers much in ranges of three to five, since in doubt all are asked.
//
// Capacity. 75 connections of 1 node in 50 are 0.75 relayed tunnels a node; at 88 % of that one in a hundred is refused. The
// demand assumed is a sixteenth of it, at every size.
package main
