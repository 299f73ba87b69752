// Package dht keeps, serves, finds and repairs signed records.
//
// A record belongs to an owner and is stored under its owner's ID and its lookup keys, at the members of the partition map
// whose range holds the key. Everything here trusts signatures and nothing else: a member that lies costs its reader time,
// never truth.
//
// # Server
//
// Server is the role of a super-node and of the operator. A node may read the records of its own domain; operators and fellow
// members see every domain, since they replicate. What is refused on the wire is refused with silence and counted (Stats); a
// key outside the range gets WrongRange{epoch} inside a session. Queries answer from memory (see Store.Cached); everything else is
// for a worker. A Put is checked cheapest first and answered after its commit:
//
//	rate → shape → domain → range → key → withdrawable → expiry → revocation → version → signature → quota → commit → Stored
//
// and then passed on, as Put{Forwarded}, to the others of the range. A key that the record no longer carries is right too where
// an older record of the owner is held under it: that is how a node leaves a location. A NodeInfo brings its owner's certificate along.
// One record per table and owner is kept, so a node's own quota is the one record of each table that it can have; a
// domain's is Limits.DomainRecords, or PerEnrolled for each node and device if that is more. What operators sign is counted
// and never refused.
//
// # Step machines
//
// Lookup, StoreOp, Repair and Replicator decide; they do no I/O and take the time as an argument:
//
//	Step(now, Event) → []Action      ActAsk → EventAnswer or EventFailed;  ActRefresh → EventMap;  ActApply
//
// Client and Replica run them over a protocol.Caller with goroutines that they own. Lists are paged by the answer's Next; a
// page may be empty and still have a Next.
//
// # Freshness
//
// Records are ordered by (epoch, sequence). A store keeps a high-water mark of what has expired, a reader one of what it has
// accepted; neither takes an older one. A NodeInfo announced longer ago than one announce interval is stale: the reader goes on
// asking while there is anybody left.
//
// # Repair
//
// A super-node compares digests with every other member once per interval, cuts the parts that differ by 16 until they are small,
// and fetches them; each side fetches what it lacks, so both agree within one interval. A digest sums hash(key ‖ record) over
// the (key, record) pairs of a range (package index). A new super-node keeps silent until it has repaired with all members that
// can be reached, one at least (see Replicator). The operator, which may be in no map, opens its Server itself.
package dht
