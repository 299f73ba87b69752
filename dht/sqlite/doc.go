// Package sqlite keeps a node's records in one SQLite file (node.db), which can be rebuilt from the mesh.
//
// One goroutine writes. Whatever has queued up while it committed shares the next transaction, whose commit is synchronous
// (WAL, synchronous=FULL): a Put answers after the disk has it. What nobody waits for (dht.Behind) waits a moment for company. The
// log is copied into the database beside the writer, so that no commit waits for that. Readers have a pool of their own that cannot write.
//
// Each table of the DHT is a table here:
//
//	node, node_info, super_node, operator_node, end_device, revocation, map_head (id, raw, sum)
//	mark     (tbl, owner, epoch, sequence, until, sum)   high-water marks of what has expired
//	sequence (tbl, owner, last)                          the node's own numbers, stored before they are signed
//	setting  (name, value)
//
// What is in a record is read from its bytes; nothing is kept twice. The index in memory says which row has it: a search by
// number looks at few pages, and what came in together, and so is announced again together, shares them. sum is the first 16
// bytes of SHA-256 over the row, checked on every read from disk: a row whose bits have changed is dropped, logged and comes
// back by repair. A file that SQLite itself calls corrupt is moved aside to node.db.corrupt-<time> and a new one begun with
// the records that are in memory. The index of everything is read at Open, which also checks the whole file, tables against
// their indexes too.
//
// A disk that is full or fails makes the store read-only, with one line in the log, until a write works again.
package sqlite
