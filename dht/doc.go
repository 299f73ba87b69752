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
// Lookup, StoreOp, Repair, Replicator, Sweep and Proof decide; they do no I/O and take the time as an argument:
//
//	Step(now, Event) → []Action      ActAsk, ActFetch → EventAnswer or EventFailed;  ActRefresh → EventMap;  ActApply
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
// and fetches them; each side fetches what it lacks, so both agree within one interval. A new super-node keeps silent until
// it has repaired with all members that can be reached, one at least (see Replicator). The operator, which may be in no map,
// opens its Server itself.
//
// The tree is 16-way over positions, and nobody stores it: a digest counts the (key, record) pairs of a range and sums
// SHA-256(key ‖ SHA-256(record)) by XOR, and package index answers for any range out of the sums of its sorted chunks. A
// stored Merkle tree has fixed leaves: the records of one customer lie side by side, so its leaves would be empty or far too
// full, a range that splits would need another tree, and every write would climb to a root. Sums of any range need neither, and
// two members that share only part of their ranges compare just that.
// The price: XOR is linear, so an owner of a hundred records in one range, who gets two members to hold other bytes of each
// (a Conflict, which is counted), could cancel out a difference of somebody else there. It would hide a missing copy
// until it is announced again, and never makes a false record pass.
//
// Where the peer has many more pairs than are here, a stream brings them (see ServeSnapshots); what it leaves out is repaired like
// anything else. Read repair is the reader's part: a lookup that ends hands the newer record on to the members that answered it
// with an older one or with none, a few in all and each version once.
//
// # Hand-over
//
// A map names two ranges of a member, the one that it serves (Range) and the one that it fills (Fill). In this order nobody
// misses a record, and a reader by either map finds somebody who answers:
//
//  1. The map names the filler. Members that serve the range answer its Digest only if their own map names it, and say the map's
//     epoch: from then on they pass on to it what they store. So what is here when it has repaired once with each of
//     them, and what is passed on after that, is everything (Replicator.Progress).
//  2. The operator is told Filled (PartitionTransferred), compares the digests of filler and servers himself (Proof) and signs the
//     next map. At least one member should serve a position in both maps: see 4.
//  3. A member by the newer map sends readers and writers of what it has left away, with WrongRange and its epoch: they ask that
//     member for the map at once. It confirms nothing any more that it does not keep.
//  4. A member to which the map gives more asks those who have left for their last stores before it answers, for a few seconds
//     at most: a store that they have confirmed was perhaps passed on to nobody.
//  5. For three intervals stores are passed on to the holders of the maps before, too, and taken from them: they may still
//     answer readers who know no better.
//  6. After five intervals what is no longer its own is dropped, in bounded steps (Sweep); a member that is out of the map
//     altogether waits a day, so that a mistake costs no transfer. The marks against older records stay.
package dht
