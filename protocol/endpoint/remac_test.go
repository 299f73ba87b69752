package endpoint_test

import (
	"crypto/hmac"
	"crypto/sha256"

	"culvert/protocol"
)

// remac makes mac1 fit again, as anyone can who knows whom he sends to.
func remac(b []byte, to protocol.ID) []byte {
	k := protocol.NewMAC1Key(to)
	h := hmac.New(sha256.New, k[:])
	h.Write(b[:len(b)-32])
	copy(b[len(b)-32:], h.Sum(nil)[:16])
	return b
}
