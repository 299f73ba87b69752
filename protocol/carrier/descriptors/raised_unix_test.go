//go:build unix

package descriptors

import (
	"runtime"
	"syscall"
	"testing"
)

func checkRaised(t *testing.T) {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
	// On macOS the kernel's own bound for a process lies below the hard limit.
	if l.Cur != l.Max && runtime.GOOS != "darwin" {
		t.Errorf("the soft limit is %d, the hard one %d", l.Cur, l.Max)
	}
}
