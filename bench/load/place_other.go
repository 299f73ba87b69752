//go:build !linux

package load

func twoCores() (first, second int, ok bool) { return 0, 0, false }

func (p Proc) bind(int) error { return nil }

func (p Proc) release() error { return nil }
