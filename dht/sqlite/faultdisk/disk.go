package faultdisk

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	lib "modernc.org/sqlite/lib"
)

// Disk is the disk beneath one directory.
type Disk struct {
	dir string
	vfs *vfs

	mu    sync.Mutex
	files map[string]*file // by path
	open  map[uintptr]*handle
	fuse  int // changes until the power fails; negative for never
	off   bool
	full  bool
	limit int64
	aside int64 // in files that were renamed
	done  int
}

// handle is one opening of a file.
type handle struct {
	file    *file
	syncDir bool // along with its first sync
}

// New lays a disk beneath dir until the test ends. What SQLite has open there must be opened after it and closed before.
func New(t testing.TB, dir string) *Disk {
	t.Helper()
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	d := &Disk{dir: dir + string(filepath.Separator), files: make(map[string]*file), open: make(map[uintptr]*handle), fuse: -1}
	d.vfs = register(d)
	t.Cleanup(d.vfs.unregister)
	return d
}

// CutAfter makes the power fail in the middle of the nth change from now on: no change after it is taken.
func (d *Disk) CutAfter(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fuse = n
}

// Off reports whether the power has failed.
func (d *Disk) Off() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.off
}

// Changes is how many writes, syncs, truncations and removals there were.
func (d *Disk) Changes() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.done
}

// Full makes the disk full as it is, with room for so many bytes more.
func (d *Disk) Full(room int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.full, d.limit = true, d.usedLocked()+room
}

// Room ends Full.
func (d *Disk) Room() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.full = false
}

func (d *Disk) usedLocked() int64 {
	n := d.aside
	for _, f := range d.files {
		n += f.size
	}
	return n
}

// PowerOn puts on the directory's files what a power cut leaves of them, and goes on. Nothing may be open there.
func (d *Disk) PowerOn(r *rand.Rand) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.open) > 0 {
		return errors.New("files are still open")
	}
	var err error
	for path, f := range d.files {
		b := f.survive(r)
		delete(d.files, path)
		err = errors.Join(err, remove(strings.TrimSuffix(path, "-wal")+"-shm"))
		if b == nil {
			err = errors.Join(err, remove(path))
			continue
		}
		err = errors.Join(err, os.WriteFile(path, b, 0o600))
	}
	d.fuse, d.off = -1, false
	return err
}

func remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// opening looks at a file before SQLite opens it: what is there before anybody has written is durable.
func (d *Disk) opening(path string) (old *file, rc int32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off {
		return nil, lib.SQLITE_CANTOPEN
	}
	f := d.files[path]
	_, err := os.Stat(path)
	switch {
	case f != nil && !f.removed && err == nil:
		return f, lib.SQLITE_OK
	case f != nil && !f.removed: // its owner has renamed it, and it takes its room elsewhere
		d.aside += f.size
		delete(d.files, path)
		return &file{}, lib.SQLITE_OK
	case f != nil && err != nil:
		return &file{ghost: f.ghost}, lib.SQLITE_OK
	case err != nil:
		return &file{}, lib.SQLITE_OK
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, lib.SQLITE_CANTOPEN
	}
	return &file{entered: true, durable: b, size: int64(len(b))}, lib.SQLITE_OK
}

// opened notes an opening. SQLite's unix VFS syncs the directory with the first sync of a log or journal that it may create.
func (d *Disk) opened(id uintptr, path string, f *file, flags int32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if have := d.files[path]; have == nil || have.removed {
		d.files[path] = f
	}
	const journal = lib.SQLITE_OPEN_WAL | lib.SQLITE_OPEN_MAIN_JOURNAL
	d.open[id] = &handle{file: d.files[path], syncDir: flags&lib.SQLITE_OPEN_CREATE != 0 && flags&journal != 0}
}

func (d *Disk) closed(id uintptr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.open, id)
}

// tick counts a change: now says that it is the one in which the power fails, off that it comes too late.
func (d *Disk) tickLocked() (now, off bool) {
	if d.off {
		return false, true
	}
	d.done++
	if d.fuse > 0 {
		d.fuse--
	}
	d.off = d.fuse == 0
	return d.off, false
}

func (d *Disk) write(id uintptr, b []byte, at int64, really func() int32) int32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.open[id].file
	now, off := d.tickLocked()
	grows := at + int64(len(b)) - f.size
	switch {
	case off:
		return lib.SQLITE_IOERR_WRITE
	case d.full && grows > 0 && d.usedLocked()+grows > d.limit:
		return lib.SQLITE_FULL
	}
	f.write(at, b)
	if now {
		return lib.SQLITE_IOERR_WRITE
	}
	return really()
}

func (d *Disk) truncate(id uintptr, n int64, really func() int32) int32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	now, off := d.tickLocked()
	if off {
		return lib.SQLITE_IOERR_TRUNCATE
	}
	d.open[id].file.truncate(n)
	if now {
		return lib.SQLITE_IOERR_TRUNCATE
	}
	return really()
}

// sync syncs for the record only: what the process reads back is in the system's cache.
func (d *Disk) sync(id uintptr) int32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now, off := d.tickLocked(); now || off {
		return lib.SQLITE_IOERR_FSYNC
	}
	h := d.open[id]
	if h.syncDir {
		d.syncDirLocked()
		h.syncDir = false
	}
	h.file.sync()
	return lib.SQLITE_OK
}

// syncDirLocked makes every removal durable.
func (d *Disk) syncDirLocked() {
	for _, f := range d.files {
		f.ghost = nil
	}
}

func (d *Disk) remove(path string, synced bool, really func() int32) int32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.files[path]
	if f == nil {
		return really()
	}
	now, off := d.tickLocked()
	if off {
		return lib.SQLITE_IOERR_DELETE
	}
	f.remove()
	if synced && !now {
		d.syncDirLocked()
	}
	if now {
		return lib.SQLITE_IOERR_DELETE
	}
	return really()
}
