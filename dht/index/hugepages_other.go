//go:build !linux

package index

func adviseHuge(start, n uintptr) {}

func collapseHuge(start, n uintptr) {}
