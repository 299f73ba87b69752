// Package partition decides who serves which part of the key space. It is pure: no sockets, clock, goroutines or SQL.
//
// A key's position is its first 64 bits, domain ‖ 4 bytes of hash, so one customer's keys lie side by side. A Range is a
// contiguous run of positions, both ends inclusive. The partition map is a set of SuperNode records, each of which names one
// super-node and its range, and one MapHead record {epoch, count, hash} that holds them together: the map outgrows a datagram,
// so its parts travel singly and Build accepts them only when they are complete and of one mould.
//
//	hash = SHA-256( SHA-256(record 1) ‖ SHA-256(record 2) ‖ … )     records in order of owner
//
// The operator that signs the map is written into it like any other member while fewer than Replicas others are. Its record's
// owner lies in the operator domain. A super-node that leaves is taken out by a tombstone, which the hash does not count.
// The owner of the MapHead is the root's ID, so that every operator of one mesh replaces the same record.
//
// A record names two ranges: the one that its member serves, and the one that it fills, None for either. Who fills gets every
// store of that range from those who serve it and fetches what was there before; readers do not ask it. Once the operator
// has seen it hold what they hold, the next epoch has it serve the range. So a key's readers always find somebody who has been
// there all along.
//
// # Plans
//
// Next is a function of the present map, of who is there, of what has been proven filled, and of chance; where nothing is to
// change it returns the present map. What it aims at are cells that together are the key space, each the target of R to 2R-1
// members. A newcomer fills the cell with the fewest, or its own domain's. With 2R that hold it whole a cell splits at the
// domain that halves its load, within one that is too large otherwise, and each keeps half of what it has. Each half gets somebody who
// has served it for a while; where only newcomers would be left in one the split waits. A cell with fewer
// than R gets back those that are leaving it, then those without a place, then members of cells with more than R, and goes
// together with a neighbour where all that is not enough. Nobody stops serving what too few others would serve without it. Who is
// paused, for not having filled what it was given, goes on serving and is given nothing more.
//
// No two members of a cell share a customer domain, an IPv4 /16 or an IPv6 /32: a third of R is one. Domains of the operator's
// own are neutral and count nowhere; private and loopback addresses are no network. Where every customer has a
// member already, second ones fill a cell until it has 2R, and first serve when the split parts them from the first ones. A
// mesh of one or two customers therefore stays one range with the operator in it, which serves with as many others as make R
// in all; let a domain be the operator's own where that is not wanted. On the whole map a customer has at most a third of all
// super-nodes, which is what the ranges' limit adds up to where each has R. The rest wait, and are the first to be used.
// Who draws from them draws a customer first, so that a thousand of one have no more chances than one of another.
//
// The operator is a member wherever fewer than R serve who share nothing. Its range being contiguous, it spans four cells at
// most of its own accord; more only if nobody at all serves them.
package partition
