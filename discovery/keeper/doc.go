// Package keeper decides, without a vote, which agents of a location hold bindings to super-nodes (LOC-6): of a thousand
// workstations two do, the others are silent towards the internet and step in within five seconds.
//
//	IDs announced at the location, lowest first
//	┌────┬────┬────┬────┬────┬────┬────┬──
//	│  keepers  │   standby    │  silent …
//	└────┴────┴────┴────┴────┴────┴────┴──
//	  hold two     ask the two     ask them every 30 s;
//	  bindings     every second    not announced at the location
//
// Everybody goes by the same list, which it reads from the mesh, and by its own eyes: a lower ID counts while it answers on the
// LAN, and no longer. So no message says who keeps, and nobody can be talked into silence: whoever has not just heard two
// lower IDs answer keeps. Where a network lets stations not talk to each other, all keep.
//
// A keeper that is switched off is missed by the standby after at most one interval and two unanswered questions: 3 s. One
// that comes back is heard, and whoever stood in for it goes on for five seconds more, so that bindings overlap. If all of a
// list are gone at once, the silent find out within half a minute, read the list again before they act, and so come back as
// few.
//
// Questions on the LAN cost no binding; a keeper of 1,000 agents gets 3 + 33 of them a second.
//
// Machine is a step machine: time is an argument, there is no randomness but a hash of the node's ID.
package keeper
