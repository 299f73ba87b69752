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
// Next plans the map that follows; it is a function of the present one, of who is there, and of chance.
package partition
