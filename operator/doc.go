// Package operator is the one trusted party of a mesh: it signs nodes, registers domains and end-devices, places
// super-nodes, and ends what has been revoked.
//
// # Directory
//
//	keys/root.key      the root; may be taken offline, and is needed then only to add or renew operators
//	keys/operator.key  signs every record; operator-former.key did so before; operator-ID.key will from its handover on
//	operator.db        registry, domain secrets, signed records, outbox, audit log (operator/sqlite)
//	operator.lock      held by the one process that may write: `operator run`, or a command while none runs
//	admin.sock         admin API of the running operator, for its own user
//
// # What survives a kill
//
// A change of the registry, the record that it signs, the record's sequence and its line in the audit log are one
// transaction; the record is in the outbox from that transaction on until super-nodes have confirmed it. So a kill at
// any moment leaves registry and records agreeing, and what was answered with success reaches the mesh.
//
// # Records
//
//	record        lives      renewed
//	Node          30 days    by its node only, also up to 90 days after its expiry
//	EndDevice     1 year     by the operator, half a year before the end
//	SuperNode     14 days    by the operator, after 7 days, with a new map epoch; so the mesh finds its way that long without it
//	MapHead       14 days    as above
//	OperatorNode  1 year     half a year before the end, where root.key is there
//	Revocation    10 years   never: a revoked key stays revoked
//
// Every record carries the operator's chain epoch as its epoch. After a revocation the domain gets a new key. It seals from
// [KeyGrace] later on: by then the domain's nodes, who hear of the revocation within ten minutes and renew, hold it.
//
// # Several operators
//
// One operator leads: its registry counts, and it alone signs. Others of the chain stand by with a copy of the registry: they
// answer nodes, follow what the mesh holds, and sign nothing. Which one leads is on record: the root's word (who is not
// retired, highest epoch), and among those the newest map's head. An operator asks super-nodes when it starts, and every
// minute; one that finds itself retired, or a newer head than it has signed, stands by for good.
//
//	change     needs                    the old one
//	rotate     its key and the root's   retired when the new key signs; what it signed counts
//	add        its key and the root's   leads as before
//	takeover   the root's, new epoch    retired, with all others; --stolen: what they ever signed no longer counts
//	restore    the backup's key         a twin with the same key: stands by when it hears the newer head
//
// A restored registry is of the past. Its numbers (sequences, map epochs, revocations, domain keys' epochs) go on at the seconds
// since 1970, above any given one by one before the loss; and it signs nothing until super-nodes of every range have told what
// they hold, which it takes in. Join tokens and API keys of a backup are void, since they may have been used up or ended.
//
// # Spies
//
// Super-nodes are audited (operator/care) by nodes that only the operator knows to be its own: one in each of some domains, with a
// certificate like any node's, an announced NodeInfo that only its domain could read, a socket of its own, and an agent's mix of
// questions at an agent's beat. What still tells one from an agent: it serves no device and opens no tunnel, and it asks from an
// address of the operator's machine. That address is the operator's known one unless the setting audit_bind names others; a
// super-node that looks at addresses answers it well and others badly, and is not found. The readers' own doubling of questions
// (dht) is what holds then: an audit only spares them the waiting.
//
// # Addresses
//
// The advertised host is resolved when the operator starts to run and again every minute. The addresses stand in the OperatorNode
// record, which the root signs; where the root is offline and they change, the trust bundle carries the present ones beside
// the record. That is sound: the bundle comes over TLS proved by the operator's own key, and an address only says where to
// knock.
package operator
