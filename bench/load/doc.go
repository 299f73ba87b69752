// Package load drives ways to a device: any local address to connect to, whatever carries the bytes from there, and the
// processes that do, so that their CPU time and memory can be read.
//
//	load ── Way.To ── processes of the way ── Device
//
// The device checks what arrives: a sample of each read against the pattern at its offset, and the count at the end.
//
// Tables makes the cells that every way is measured by. What the processes use is read from Linux's /proc, with all that they have
// started; elsewhere those tables are left out. PlacedTable is one more, of the echo: it chooses the cores that processes run on.
package load
