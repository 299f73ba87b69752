package faultdisk

import (
	"strings"
	"unsafe"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// vfs is the system's own VFS but for the functions that open, change and close files.
type vfs struct {
	disk    *Disk
	tls     *libc.TLS
	real    uintptr // of the VFS that was the default
	self    uintptr
	methods map[uintptr]uintptr // the system's file methods → ours
	hooks   hooks               // SQLite holds their addresses, which the collector does not see
}

type (
	openFunc     = func(tls *libc.TLS, vfs, path, file uintptr, flags int32, outFlags uintptr) int32
	deleteFunc   = func(tls *libc.TLS, vfs, path uintptr, syncDir int32) int32
	writeFunc    = func(tls *libc.TLS, file, buf uintptr, n int32, at int64) int32
	truncateFunc = func(tls *libc.TLS, file uintptr, n int64) int32
	syncFunc     = func(tls *libc.TLS, file uintptr, flags int32) int32
	closeFunc    = func(tls *libc.TLS, file uintptr) int32
)

type hooks struct {
	open     openFunc
	delete   deleteFunc
	write    writeFunc
	truncate truncateFunc
	sync     syncFunc
	close    closeFunc
}

// at is the value that lies at an address of SQLite's heap.
func at[T any](address uintptr) *T { return *(**T)(unsafe.Pointer(&address)) }

// address is a function as SQLite, translated from C, holds it; function is the way back.
func address[F any](f *F) uintptr { return *(*uintptr)(unsafe.Pointer(f)) }

func function[F any](address uintptr) F { return *(*F)(unsafe.Pointer(&address)) }

const sizeVFS, sizeMethods = unsafe.Sizeof(lib.Tsqlite3_vfs{}), unsafe.Sizeof(lib.Tsqlite3_io_methods{})

func register(d *Disk) *vfs {
	v := &vfs{disk: d, tls: libc.NewTLS(), methods: make(map[uintptr]uintptr)}
	v.hooks = hooks{v.open, v.delete, v.write, v.truncate, v.sync, v.close}
	v.real = lib.Xsqlite3_vfs_find(v.tls, 0)
	v.self = libc.Xmalloc(v.tls, libc.Tsize_t(sizeVFS))
	s := at[lib.Tsqlite3_vfs](v.self)
	*s = *at[lib.Tsqlite3_vfs](v.real)
	s.FpNext = 0
	s.FxOpen, s.FxDelete = address(&v.hooks.open), address(&v.hooks.delete)
	lib.Xsqlite3_vfs_register(v.tls, v.self, 1)
	return v
}

func (v *vfs) unregister() {
	lib.Xsqlite3_vfs_unregister(v.tls, v.self)
	for _, m := range v.methods {
		libc.Xfree(v.tls, m)
	}
	libc.Xfree(v.tls, v.self)
	v.tls.Close()
}

// original finds the system's methods behind ours.
func (v *vfs) original(file uintptr) *lib.Tsqlite3_io_methods {
	ours := at[lib.Tsqlite3_file](file).FpMethods
	v.disk.mu.Lock()
	defer v.disk.mu.Unlock()
	for theirs, o := range v.methods {
		if o == ours {
			return at[lib.Tsqlite3_io_methods](theirs)
		}
	}
	return nil
}

func (v *vfs) replaced(theirs uintptr) uintptr {
	v.disk.mu.Lock()
	defer v.disk.mu.Unlock()
	ours := v.methods[theirs]
	if ours == 0 {
		ours = libc.Xmalloc(v.tls, libc.Tsize_t(sizeMethods))
		m := at[lib.Tsqlite3_io_methods](ours)
		*m = *at[lib.Tsqlite3_io_methods](theirs)
		m.FxWrite, m.FxTruncate = address(&v.hooks.write), address(&v.hooks.truncate)
		m.FxSync, m.FxClose = address(&v.hooks.sync), address(&v.hooks.close)
		v.methods[theirs] = ours
	}
	return ours
}

func (v *vfs) open(tls *libc.TLS, _, path, file uintptr, flags int32, outFlags uintptr) int32 {
	really := function[openFunc](at[lib.Tsqlite3_vfs](v.real).FxOpen)
	name := ""
	if path != 0 {
		name = libc.GoString(path)
	}
	if !strings.HasPrefix(name, v.disk.dir) {
		return really(tls, v.real, path, file, flags, outFlags)
	}
	old, rc := v.disk.opening(name)
	if rc != lib.SQLITE_OK {
		at[lib.Tsqlite3_file](file).FpMethods = 0
		return rc
	}
	rc = really(tls, v.real, path, file, flags, outFlags)
	if f := at[lib.Tsqlite3_file](file); rc == lib.SQLITE_OK {
		f.FpMethods = v.replaced(f.FpMethods)
		v.disk.opened(file, name, old, flags)
	}
	return rc
}

func (v *vfs) delete(tls *libc.TLS, _, path uintptr, syncDir int32) int32 {
	return v.disk.remove(libc.GoString(path), syncDir != 0, func() int32 {
		return function[deleteFunc](at[lib.Tsqlite3_vfs](v.real).FxDelete)(tls, v.real, path, 0)
	})
}

func (v *vfs) write(tls *libc.TLS, file, buf uintptr, n int32, off int64) int32 {
	m := v.original(file)
	return v.disk.write(file, unsafe.Slice(at[byte](buf), n), off, func() int32 {
		return function[writeFunc](m.FxWrite)(tls, file, buf, n, off)
	})
}

func (v *vfs) truncate(tls *libc.TLS, file uintptr, n int64) int32 {
	m := v.original(file)
	return v.disk.truncate(file, n, func() int32 { return function[truncateFunc](m.FxTruncate)(tls, file, n) })
}

func (v *vfs) sync(_ *libc.TLS, file uintptr, _ int32) int32 { return v.disk.sync(file) }

func (v *vfs) close(tls *libc.TLS, file uintptr) int32 {
	m := v.original(file)
	v.disk.closed(file)
	return function[closeFunc](m.FxClose)(tls, file)
}
