package carrier

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
)

// Systems give connections ports from 32768 up by themselves (Linux; others from 49152).
const (
	freeFrom = 10_000
	freeTo   = 32_768
)

var givenPorts = struct {
	mu sync.Mutex
	m  map[uint16]bool
}{m: make(map[uint16]bool)}

// FreePort is a number that is free on UDP and TCP of 127.0.0.1, for a program that is about to be started, or started again. No
// connection is given it by the system meanwhile, and nobody else in this process.
func FreePort() (uint16, error) {
	for range 10 * pairAttempts {
		p := uint16(freeFrom + rand.IntN(freeTo-freeFrom))
		if freeOnBoth(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), p)) && takePort(p) {
			return p, nil
		}
	}
	return 0, errors.New("no port is free for both TCP and UDP on 127.0.0.1")
}

func takePort(p uint16) bool {
	givenPorts.mu.Lock()
	defer givenPorts.mu.Unlock()
	if givenPorts.m[p] {
		return false
	}
	givenPorts.m[p] = true
	return true
}

func freeOnBoth(a netip.AddrPort) bool {
	u, l, err := listenBoth(a)
	if err != nil {
		return false
	}
	return errors.Join(u.Close(), l.Close()) == nil
}
