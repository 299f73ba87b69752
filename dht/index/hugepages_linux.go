package index

import "golang.org/x/sys/unix"

func adviseHuge(start, n uintptr) { madvise(start, n, unix.MADV_HUGEPAGE) }

// collapseHuge goes page by page, since one that cannot be had ends a call.
func collapseHuge(start, n uintptr) {
	const page = 2 << 20
	for at := start; at < start+n; at += page {
		madvise(at, page, unix.MADV_COLLAPSE)
	}
}

// madvise is refused by kernels that have no such pages, and where part of the memory is not there.
func madvise(start, n uintptr, advice int) {
	_, _, _ = unix.Syscall(unix.SYS_MADVISE, start, n, uintptr(advice))
}
