//go:build !linux

package rawtcp

const onlyHere = false
