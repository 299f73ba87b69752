//go:build !unix

package descriptors

// Limit is 0: handles of Windows are not numbered from zero, and there is no limit worth the name.
func Limit() int { return 0 }
