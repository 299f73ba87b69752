// Package faultdisk is a disk for tests that loses its power or runs full beneath SQLite.
//
// It is a SQLite VFS laid over the system's own: what SQLite does to files beneath one directory goes through it and is written
// down; the rest of the process does not notice. What it believes of a disk:
//
//   - What was written before a completed sync of the file survives a power cut, and so does the file's name.
//   - Of what was written since, any part may survive, in units of a sector: nothing, all, a beginning, any selection, and a sector
//     may come out as garbage. So may a change of length.
//   - A file that was removed without a sync of its directory may be back.
//   - A full disk refuses what makes a file longer, and takes what does not.
//
// It does not believe in disks that say that a sync is done and lie, nor does it model the file system's own metadata, or the
// shared memory file, which SQLite begins anew after a restart.
package faultdisk
