package endpoint_test

import "culvert/protocol"

// remac makes mac1 fit again, as anyone can who knows whom he sends to.
func remac(b []byte, to protocol.ID) []byte {
	m := protocol.NewMAC1Key(to).Sum(b[:len(b)-32])
	copy(b[len(b)-32:], m[:])
	return b
}
