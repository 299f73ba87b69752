//go:build !linux

package echo

import "net"

const controlSize = 0

func joinPackets(*net.UDPConn) error { return ErrNoGSO }

func joined([]byte) int { return 0 }

func cut([]byte, int) {}
