//go:build unix

package descriptors

import (
	"math"
	"syscall"
)

// Limit is how many descriptors this process may have, 0 where nobody says.
func Limit() int {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil || uint64(l.Cur) > math.MaxInt32 {
		return 0
	}
	return int(l.Cur)
}
