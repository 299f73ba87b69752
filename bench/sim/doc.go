// Package sim runs a whole mesh in one goroutine under a virtual clock: the partition planner, dht.Server's handlers, Lookup,
// StoreOp, Repair and Replicator are the real ones; sockets, disks and clocks are not. What happens is a function of the seed
// alone, so that a failing seed is replayed as often as it takes:
//
//	go test ./bench/sim -run '^TestSeeds$' -seed N -v
//
// Messages skip the envelope: their payloads are encoded and parsed as on the wire, and the records in them are really signed
// and checked. The network loses, repeats, delays and reorders, and falls apart into halves that cannot hear each other;
// machines crash and lose what was not synced to disk, or everything; clocks are wrong and jump; super-nodes lie. Agents announce
// themselves, move, leave, and look each other up; the operator registers devices, plans the map and drives hand-overs.
//
// # What must hold
//
// An Oracle that sees everything holds every answer to this, at the moment it is given:
//
//   - found: what was acknowledged before the lookup began and has not expired is never "not found";
//   - newest: no answer is older than what was stored at W before the lookup began, where the range had R members and none of
//     them lied, and elsewhere than what was stored a repair interval before. An answer that rests on fewer than K members, the
//     others being silent, cannot know of a newer record; it is held to the rest;
//   - seen: no reader is given an older record than it was given before;
//   - genuine: nothing is believed that was never signed.
//
// A repair interval after the last fault the members of every range have equal digests, and everybody finds everything but those who
// were ended while they withdrew.
package sim
